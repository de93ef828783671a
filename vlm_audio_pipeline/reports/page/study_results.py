"""Read-only access to the results of one study: its tables, its clips, and its dataset where that is on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.datasets.base import DATASETS, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.storage.catalogue import query, study_records
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import Provenance, read_provenance
from vlm_audio_pipeline.storage.schemas import TABLES

_CLIP_COLUMNS = (
    "clip",
    "label",
    "fold",
    "source",
    "file",
    "start_s",
    "end_s",
    "samples_sha256",
    "duration_s",
    "sample_rate_hz",
)
_MAX_ATTRIBUTION_CHARS = 200_000


@dataclass(frozen=True)
class StudyResults:
    """The results of a study that was run.

    Attributes:
        data_folder: the data folder.
        study: name of the study.
        record: the study record, as `catalogue.study_records` returns it.
        dataset: the opened dataset; None where it is not on this machine.
        dataset_missing_reason: why `dataset` is None; empty where it is not.
    """

    data_folder: DataFolder
    study: str
    record: dict[str, Any]
    dataset: Dataset | None
    dataset_missing_reason: str

    @classmethod
    def load(cls, data_folder: DataFolder, study: str) -> "StudyResults":
        """Load the record of a study and open its dataset; nothing is downloaded.

        Raises:
            VlmAudioError: when no study of that name was run in this data folder.
        """
        records = study_records(data_folder)
        if study not in records:
            raise VlmAudioError(
                f"study '{study}' has no results in {data_folder.root}; {suggestion(study, records)}. "
                "Run the study before you write its report."
            )
        record = records[study]
        dataset, reason = _open_dataset(data_folder, record.get("study", {}).get("dataset"))
        return cls(data_folder, study, record, dataset, reason)

    @property
    def spec(self) -> dict[str, Any]:
        """The study file as it was run, with every default filled in."""
        return self.record.get("study", {})

    @property
    def card(self) -> DatasetCard | None:
        """The card of the dataset, where the dataset is on this machine."""
        return self.dataset.card if self.dataset else None

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the study's rows of a small table, sorted by key; empty for a table that this version does not have."""
        if table not in TABLES:
            return []
        schema = TABLES[table]
        order = ", ".join(f'"{c}"' for c in (schema.component, *schema.key) if c)
        return self.query(f'SELECT * FROM "{table}" WHERE study = $1 ORDER BY {order}')

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run a query on the catalogue; `$1` is the study, `$2` and further are `parameters`."""
        return query(self.data_folder, sql, [self.study, *parameters]).to_pylist()

    @cached_property
    def clips(self) -> list[dict[str, Any]]:
        """Every usable clip, sorted by id, without samples."""
        return self.query(f"SELECT {', '.join(_CLIP_COLUMNS)} FROM clips WHERE study = $1 ORDER BY clip")

    @cached_property
    def clip_number(self) -> dict[str, int]:
        """Clip id -> its index in `clips`; the page refers to clips by this number."""
        return {row["clip"]: i for i, row in enumerate(self.clips)}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Every label: first those of the dataset in its own order, then labels that occur only in stored rows."""
        own = self.dataset.classes if self.dataset else ()
        stored = self.query(
            "SELECT DISTINCT label FROM clips WHERE study = $1 UNION "
            "SELECT DISTINCT predicted FROM predictions WHERE study = $1 AND predicted IS NOT NULL"
        )
        return own + tuple(sorted({row["label"] for row in stored} - set(own)))

    @cached_property
    def class_number(self) -> dict[str, int]:
        """Label -> its index in `classes`."""
        return {label: i for i, label in enumerate(self.classes)}

    def projections(self) -> list[dict[str, Any]]:
        """Return one row for each projection: encoder, method, and the share of the variance along each axis."""
        if "projections" not in TABLES:
            return []
        return self.query(
            "SELECT encoder, method, any_value(explained_x) AS explained_x, any_value(explained_y) AS explained_y "
            "FROM projections WHERE study = $1 AND x IS NOT NULL AND y IS NOT NULL GROUP BY ALL ORDER BY encoder, method"
        )

    def projected_points(self, encoder: str, method: str) -> Iterator[tuple[str, float, float]]:
        """Yield (clip, x, y) of a projection, coordinates with four significant digits."""
        rows = self.query(
            "SELECT clip, x, y FROM projections WHERE study = $1 AND encoder = $2 AND method = $3 "
            "AND x IS NOT NULL AND y IS NOT NULL ORDER BY clip",
            encoder,
            method,
        )
        return ((row["clip"], float(f"{row['x']:.4g}"), float(f"{row['y']:.4g}")) for row in rows)

    def examples(self, classifier: str) -> Iterator[list[Any]]:
        """Yield the few-shot examples of each prompt: [fold, trial, query, [[clip, label in the prompt], ...]].

        Clips are numbers; the query is None where the same examples serve a whole fold.
        """
        folds = self.query(
            "SELECT DISTINCT fold FROM examples WHERE study = $1 AND classifier = $2 ORDER BY fold", classifier
        )
        for fold in (row["fold"] for row in folds):
            rows = self.query(
                "SELECT trial, query, list([clip, example_label] ORDER BY position) AS examples FROM examples "
                "WHERE study = $1 AND classifier = $2 AND fold = $3 GROUP BY ALL ORDER BY trial, query",
                classifier,
                fold,
            )
            for row in rows:
                examples = [[self.clip_number[c], label] for c, label in row["examples"] if c in self.clip_number]
                yield [fold, row["trial"], self.clip_number.get(row["query"]), examples]

    def attribution(self) -> str:
        """Return the text of the dataset's own README, which credits the recordings; empty where there is none."""
        if self.dataset is None:
            return ""
        readmes = sorted((path.stat().st_size, path) for path in self.dataset.root.glob("README*") if path.is_file())
        return readmes[0][1].read_text("utf-8", "replace")[:_MAX_ATTRIBUTION_CHARS] if readmes else ""

    def provenances(self) -> list[tuple[str, Provenance]]:
        """Return (table, provenance) of every partition file that exists, except those of the report itself."""
        by_table = self.record["partition_files"].items()
        files = [(table, file) for table, table_files in by_table for file in table_files if table != "report"]
        read = ((table, read_provenance(self.data_folder.root / file)) for table, file in files)
        return [(table, provenance) for table, provenance in read if provenance is not None]


def _open_dataset(data_folder: DataFolder, fields: dict[str, Any] | None) -> tuple[Dataset | None, str]:
    """Return the opened dataset and "", or None and the reason why it cannot be opened."""
    if not fields:
        return None, "the study record does not name its dataset"
    try:
        spec = DATASETS.get(fields["kind"]).model_validate({k: v for k, v in fields.items() if k != "kind"})
        if spec.is_local(data_folder):
            return spec.open(data_folder), ""
    except (VlmAudioError, ValueError) as error:  # moved or deleted, or its kind is not installed here
        return None, str(error)
    return None, f"dataset {fields['kind']} is not on this machine"


def read_batches(path: Path, columns: Sequence[str], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield some columns of a partition file, at most `size` rows at a time; nothing where the file does not exist.

    Raises:
        VlmAudioError: for a damaged file.
    """
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True) as file:
            for batch in file.iter_batches(size, columns=list(columns)):
                yield batch.to_pylist()
    except FileNotFoundError:
        return
    except (pa.ArrowException, OSError) as error:
        raise VlmAudioError(f"{path} is damaged ({error}); delete it and run the study again") from error
