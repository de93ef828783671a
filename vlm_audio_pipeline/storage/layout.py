"""What lies where in the data folder, in one place. Nothing else in the project builds these paths."""

import os
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.paths import expanded
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class Layout:
    """The paths of a data folder.

    ```
    tables/<table>/study=<study>/<owner>=<name>/fold=<fold>/part-0.parquet   the results: parquet is the truth
    results.duckdb        catalogue: views over the parts, small tables inside; rebuilt at will
    rows.sqlite           the row store: vectors and answers by content; expensive, back this up
    studies/<study>.json  the studies that were run here, as they were run
    datasets/             what was downloaded or synthesised, and remembered folds
    reports/<study>/      pages, made when asked for
    environments/<name>/  Python environments of models that cannot live in ours; 1.5 GB, made by `vlm-audio fetch`
    fiftyone/<study>      exports opened in FiftyOne's App; may be deleted
    dagster/              Dagster's own home: run history, logs, dagster.yaml
    scratch/              what steps under way have made so far, where that is much; gone once they are done
    locks/                lock files; empty, may be deleted when nothing runs
    ```
    """

    root: Path

    @classmethod
    def default(cls, given: str | Path | None = None) -> "Layout":
        """Choose the data folder: the one given, else `VLM_AUDIO_DATA`, else `data/` here."""
        return cls(expanded(given or os.environ.get("VLM_AUDIO_DATA") or "data").resolve())

    def made(self) -> "Layout":
        """Make the data folder where it is absent.

        Raises:
            VlmAudioError: when it cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VlmAudioError(
                f"the data folder must be one that can be written to, got {self.root} ({error.strerror}); name another "
                "with --data or VLM_AUDIO_DATA"
            ) from error
        return self

    @property
    def tables(self) -> Path:
        """Folder of all parquet parts."""
        return self.root / "tables"

    @property
    def results(self) -> Path:
        """The DuckDB catalogue."""
        return self.root / "results.duckdb"

    @property
    def rows(self) -> Path:
        """The SQLite row store."""
        return self.root / "rows.sqlite"

    @property
    def studies(self) -> Path:
        """Folder of the studies run here."""
        return self.root / "studies"

    @property
    def datasets(self) -> Path:
        """Folder of downloaded and synthesised datasets."""
        return self.root / "datasets"

    @property
    def dagster_home(self) -> Path:
        """Dagster's home folder."""
        return self.root / "dagster"

    @property
    def environments(self) -> Path:
        """Folder of isolated Python environments."""
        return self.root / "environments"

    @property
    def run_logs(self) -> Path:
        """Folder of Dagster's logs of runs."""
        return self.dagster_home / "history" / "runs"

    @property
    def reports(self) -> Path:
        """Folder of all pages."""
        return self.root / "reports"

    def report(self, study: str) -> Path:
        """Folder of the page of a study."""
        return self.reports / study

    def scratch(self, name: str) -> Path:
        """Path of the unfinished results of a step."""
        return self.root / "scratch" / f"{name.replace('/', '.')}.sqlite"

    def lock(self, name: str) -> Path:
        """Path of the lock file for a name."""
        return self.root / "locks" / f"{name.replace('/', '.')}.lock"

    def part(self, table: str, study: str, owner: str | None = None, fold: int | None = None) -> Path:
        """Path of one part of a table."""
        folder = self.tables / table / f"study={study}"
        if owner is not None:
            folder = folder / f"{TABLES[table].owner}={owner}"
        if fold is not None:
            folder = folder / f"fold={fold}"
        return folder / "part-0.parquet"
