"""What is known of a study when its report is written: its tables, its clips, and its dataset where that is here.

What belongs here: looking things up. What does not: what the page makes of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Dataset
from vlm_audio_pipeline.storage.catalogue import manifests, query
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.partition_files import Provenance, read_provenance
from vlm_audio_pipeline.storage.schemas import TABLES

SMALL = ("file", "start_s", "end_s", "samples_sha256", "duration_s", "rate_hz")


@dataclass(frozen=True)
class Known:
    """A study that was run.

    Attributes:
        layout: the data folder.
        study: its name.
        manifest: what was run, as `catalogue.manifests` gives it.
        dataset: the opened dataset; None where it is not on this machine.
        no_dataset: why not.
    """

    layout: Layout
    study: str
    manifest: dict[str, Any]
    dataset: Dataset | None
    no_dataset: str

    @property
    def spec(self) -> dict[str, Any]:
        """The study file as it was run, every default spelled out."""
        return self.manifest.get("study", {})

    @property
    def card(self) -> Card | None:
        """What is known of the dataset."""
        return self.dataset.card if self.dataset else None

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Give the study's rows of a small table, by its key; none where the table is not made by this version."""
        if table not in TABLES:
            return []
        schema = TABLES[table]
        order = ", ".join(f'"{c}"' for c in (schema.owner, *schema.key) if c)
        return self.ask(f'SELECT * FROM "{table}" WHERE study = $1 ORDER BY {order}')

    def ask(self, sql: str, *more: Any) -> list[dict[str, Any]]:
        """Ask the catalogue a question in which `$1` is the study."""
        return query(self.layout, sql, [self.study, *more]).to_pylist()

    @cached_property
    def clips(self) -> list[dict[str, Any]]:
        """Every usable clip, by id: what is known of it, without samples."""
        columns = ", ".join(("clip", "label", "fold", "source", *SMALL))
        return self.ask(f"SELECT {columns} FROM clips WHERE study = $1 ORDER BY clip")

    @cached_property
    def number(self) -> dict[str, int]:
        """Clip id -> its place in `clips`, by which the page calls it."""
        return {row["clip"]: i for i, row in enumerate(self.clips)}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Every label, in the dataset's order where it is here; those of earlier classes behind."""
        first = self.dataset.classes if self.dataset else ()
        said = self.ask(
            "SELECT DISTINCT label FROM clips WHERE study = $1 UNION "
            "SELECT DISTINCT predicted FROM predictions WHERE study = $1 AND predicted IS NOT NULL"
        )
        return first + tuple(sorted({row["label"] for row in said} - set(first)))

    @cached_property
    def class_number(self) -> dict[str, int]:
        """Label -> its place in `classes`."""
        return {label: i for i, label in enumerate(self.classes)}

    def rows_of_projections(self) -> list[dict[str, Any]]:
        """Give which projections there are: encoder, method, and the shares of the variance along their axes."""
        if "projections" not in TABLES:
            return []
        return self.ask(
            "SELECT encoder, method, any_value(explained_x) AS explained_x, any_value(explained_y) AS explained_y "
            "FROM projections WHERE study = $1 AND x IS NOT NULL AND y IS NOT NULL GROUP BY ALL ORDER BY encoder, method"
        )

    def points(self, encoder: str, method: str) -> Iterator[tuple[str, float, float]]:
        """Give (clip, x, y) of a projection, four digits each."""
        rows = self.ask(
            "SELECT clip, x, y FROM projections WHERE study = $1 AND encoder = $2 AND method = $3 "
            "AND x IS NOT NULL AND y IS NOT NULL ORDER BY clip",
            encoder,
            method,
        )
        return ((row["clip"], float(f"{row['x']:.4g}"), float(f"{row['y']:.4g}")) for row in rows)

    def examples(self, classifier: str) -> Iterator[list[Any]]:
        """Give the examples a classifier was shown, prompt by prompt: [fold, trial, query, [[clip, shown label], ...]].

        Clips are numbers; the query is None where the examples serve a whole fold.
        """
        folds = self.ask(
            "SELECT DISTINCT fold FROM examples WHERE study = $1 AND classifier = $2 ORDER BY fold", classifier
        )
        for fold in (row["fold"] for row in folds):
            rows = self.ask(
                "SELECT trial, query, list([clip, shown_label] ORDER BY position) AS shown FROM examples "
                "WHERE study = $1 AND classifier = $2 AND fold = $3 GROUP BY ALL ORDER BY trial, query",
                classifier,
                fold,
            )
            for row in rows:
                shown = [[self.number[c], label] for c, label in row["shown"] if c in self.number]
                yield [fold, row["trial"], self.number.get(row["query"]), shown]

    def attribution(self) -> str:
        """Give what the dataset's own README says, which names the authors of recordings; empty where there is none."""
        if self.dataset is None:
            return ""
        found = sorted((path.stat().st_size, path) for path in self.dataset.root.glob("README*") if path.is_file())
        return found[0][1].read_text("utf-8", "replace")[:200_000] if found else ""

    def provenances(self) -> list[tuple[str, Provenance]]:
        """Give the provenance of every part there is, with the table it is of; not of the report, which is being made."""
        files = [(t, file) for t, files in self.manifest["parts"].items() for file in files if t != "report"]
        found = ((table, read_provenance(self.layout.root / file)) for table, file in files)
        return [(table, provenance) for table, provenance in found if provenance is not None]


def known(layout: Layout, study: str) -> Known:
    """Look up a study; nothing is downloaded for it.

    Raises:
        VlmAudioError: when no study of that name was run in this data folder.
    """
    studies = manifests(layout)
    if study not in studies:
        raise VlmAudioError(
            f"a study to report must have been run in {layout.root}, got '{study}'; {suggestion(study, studies)}"
        )
    manifest = studies[study]
    dataset, reason = _opened(layout, manifest.get("study", {}).get("dataset"))
    return Known(layout, study, manifest, dataset, reason)


def _opened(layout: Layout, given: dict[str, Any] | None) -> tuple[Dataset | None, str]:
    if not given:
        return None, "the study's record does not name its dataset"
    try:
        spec = DATASETS.get(given["kind"]).model_validate({k: v for k, v in given.items() if k != "kind"})
        if spec.is_here(layout):
            return spec.open(layout), ""
    except (VlmAudioError, ValueError) as error:  # moved or removed, or a kind that is not installed here
        return None, str(error)
    return None, f"dataset {given['kind']} is not on this machine"


def batches(path: Path, columns: Sequence[str], size: int) -> Iterator[list[dict[str, Any]]]:
    """Read some columns of a part, so many rows at a time; a part that is not there has none.

    Raises:
        VlmAudioError: for a damaged part.
    """
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True) as file:
            for batch in file.iter_batches(size, columns=list(columns)):
                yield batch.to_pylist()
    except FileNotFoundError:
        return
    except (pa.ArrowException, OSError) as error:
        raise VlmAudioError(f"{path} must be a whole part, got: {error}; delete it and run the study again") from error
