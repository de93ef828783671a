"""The paths inside a data folder and its format version. No other module builds these paths."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadPath, VlmAudioError
from vlm_audio_pipeline.contracts.paths import expand_home, require_text_path
from vlm_audio_pipeline.storage.atomic import write_atomically
from vlm_audio_pipeline.storage.file_systems import require_local_file_system
from vlm_audio_pipeline.storage.schemas import TABLES

FORMAT_VERSION = 2
"""Version of the files below. Increase it when a data folder of the previous version can no longer be used."""


@dataclass(frozen=True)
class DataFolder:
    """The paths of a data folder.

    ```
    format.json           the format version of this folder
    tables/<table>/study=<study>/<component>=<name>/fold=<fold>/part-0.parquet   partition files: all results
    results.duckdb        catalogue: views over the partition files, small tables inside; can be rebuilt
    results.sqlite        result store: vectors and responses by result key; expensive to compute: make backups
    studies/<study>.json  study records: the studies that were run, with their settings
    datasets/             downloaded and synthesised datasets, and stored fold assignments
    reports/<study>/      report pages
    environments/<name>/  Python environments of models that need other packages; up to 1.5 GB, created by `vlm-audio fetch`
    fiftyone/<study>      exports opened in the FiftyOne App; can be deleted
    dagster/              Dagster's home: run history, logs, dagster.yaml
    scratch/              intermediate results of running steps, deleted when the step is done
    locks/                empty lock files; can be deleted when no command runs
    ```
    """

    root: Path

    @classmethod
    def locate(cls, path: str | Path | None = None) -> "DataFolder":
        """Return the data folder at `path`, by default at `VLM_AUDIO_DATA` or in `data/` of the working directory.

        Raises:
            BadPath: for a path that a database would read as another one.
        """
        root = expand_home(path or os.environ.get("VLM_AUDIO_DATA") or "data").resolve()
        _check_characters(root)
        return cls(root)

    def create(self) -> "DataFolder":
        """Create the folder with its format version, unless it exists.

        Raises:
            VlmAudioError: if it cannot be created, has another format version, or lies on a network file system.
        """
        self.check_format()
        require_local_file_system(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not self.format_file.exists():
                write_atomically(self.format_file, json.dumps({"format_version": FORMAT_VERSION}) + "\n")
        except OSError as error:
            raise VlmAudioError(
                f"cannot create or write the data folder {self.root} ({error.strerror}); choose another folder with "
                "--data or VLM_AUDIO_DATA"
            ) from error
        return self

    def check_format(self) -> None:
        """Check that this version of the program can use the folder; a new or empty folder is fine.

        Raises:
            VlmAudioError: if the folder has another format version.
        """
        if self.root.is_file():
            raise VlmAudioError(
                f"the data folder must be a folder, got the file {self.root}; choose another one with --data"
            )
        version = self._stored_format()
        if version is None or version == FORMAT_VERSION:
            return
        advice = (
            "update vlm-audio-pipeline, or use another folder with --data"
            if version > FORMAT_VERSION
            else "use a new folder with --data, or delete this one"
        )
        raise VlmAudioError(
            f"the data folder {self.root} has format version {version}, but this version of the program needs "
            f"{FORMAT_VERSION}; {advice}"
        )

    def _stored_format(self) -> int | None:
        """Read the format version; None for a folder without results, 1 for results without a version."""
        try:
            return int(json.loads(self.format_file.read_text())["format_version"])
        except (FileNotFoundError, NotADirectoryError):
            has_results = self.tables.exists() or (self.root / "rows.sqlite").exists()
            return 1 if has_results else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VlmAudioError(
                f"{self.format_file} cannot be read as the format version of the data folder: {error!r}; write "
                f'{{"format_version": {FORMAT_VERSION}}} into it if this version of the program created the folder'
            ) from error

    @property
    def format_file(self) -> Path:
        """File with the format version."""
        return self.root / "format.json"

    @property
    def tables(self) -> Path:
        """Folder of all partition files."""
        return self.root / "tables"

    @property
    def catalogue(self) -> Path:
        """The DuckDB catalogue."""
        return self.root / "results.duckdb"

    @property
    def result_store(self) -> Path:
        """The SQLite result store."""
        return self.root / "results.sqlite"

    @property
    def studies(self) -> Path:
        """Folder of the study records."""
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
        """Folder of Dagster's run logs."""
        return self.dagster_home / "history" / "runs"

    def dagster_databases(self) -> list[Path]:
        """Return the SQLite files of Dagster: the history of runs, the event logs, and the state of schedules and sensors."""
        home = self.dagster_home
        files = [home / "history" / "runs.db", home / "schedules" / "schedules.db", *sorted(self.run_logs.glob("*.db"))]
        return [path for path in files if path.exists()]

    @property
    def reports(self) -> Path:
        """Folder of all report pages."""
        return self.root / "reports"

    def report(self, study: str) -> Path:
        """Folder of the report page of a study."""
        return self.reports / study

    def scratch(self, name: str) -> Path:
        """SQLite file with the intermediate results of a step."""
        return self.root / "scratch" / f"{name.replace('/', '.')}.sqlite"

    def lock(self, name: str) -> Path:
        """Lock file for a name."""
        return self.root / "locks" / f"{name.replace('/', '.')}.lock"

    def partition_file(self, table: str, study: str, component: str | None = None, fold: int | None = None) -> Path:
        """One partition file of a table."""
        folder = self.tables / table / f"study={study}"
        if component is not None:
            folder = folder / f"{TABLES[table].component}={component}"
        if fold is not None:
            folder = folder / f"fold={fold}"
        return folder / "part-0.parquet"


def _check_characters(root: Path) -> None:
    r"""Refuse characters with a meaning in the addresses of databases: Dagster's have `%` and `?`, DuckDB's `\`."""
    require_text_path(root)
    wrong = sorted({c for c in str(root) if c in "%?\\" or not c.isprintable()})
    if wrong:
        raise BadPath(
            f"the path of the data folder must not contain {', '.join(ascii(c) for c in wrong)}, got {str(root)!a}; choose "
            "another folder with --data or VLM_AUDIO_DATA"
        )


def study_of(data_folder: DataFolder, partition_file: Path) -> str | None:
    """Return the study that a partition file belongs to, by its path; None for another file."""
    parts = partition_file.relative_to(data_folder.tables).parts
    return parts[1].removeprefix("study=") if len(parts) > 2 and parts[1].startswith("study=") else None
