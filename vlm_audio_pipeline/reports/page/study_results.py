"""Read-only access to the results of one study: its tables, its clips, and its dataset if it is on this machine."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import DATASETS, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.storage.catalogue import open_queries, query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import Provenance, read_provenance
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.study_records import study_record

if TYPE_CHECKING:
    from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel

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
        record: the study record, as `study_records.study_record` returns it.
        dataset: the opened dataset; None if it is not on this machine.
        dataset_missing_reason: why `dataset` is None; otherwise empty.
        run_query: runs a query on the opened catalogue; None: each query opens it.
    """

    data_folder: DataFolder
    study: str
    record: dict[str, Any]
    dataset: Dataset | None
    dataset_missing_reason: str
    run_query: Callable[[str, Iterable[Any]], pa.Table] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, data_folder: DataFolder, study: str) -> "StudyResults":
        """Load the record of a study and open its dataset; nothing is downloaded.

        Raises:
            VlmAudioError: when no study of that name was run in this data folder.
        """
        record = study_record(data_folder, study)
        dataset, reason = _open_dataset(data_folder, record.get("study", {}).get("dataset"))
        return cls(data_folder, study, record, dataset, reason)

    @classmethod
    @contextmanager
    def open(cls, data_folder: DataFolder, study: str) -> "Iterator[StudyResults]":
        """Load a study, and keep the catalogue open for its queries; raises as `load` does."""
        results = cls.load(data_folder, study)
        with open_queries(data_folder, leave_out_damaged=True) as run_query:
            yield replace(results, run_query=run_query)

    @property
    def spec(self) -> dict[str, Any]:
        """The study file as it was run, with every default filled in."""
        spec: dict[str, Any] = self.record.get("study", {})
        return spec

    def language_model(self, classifier: str) -> "LanguageModel | None":
        """Return a language model as it was run; None if the study has no language model of this name any more."""
        from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
        from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel

        values = dict(self.spec.get("classifiers", {}).get(classifier, {}))
        kind = values.pop("kind", None)
        if kind is None:
            return None
        spec = CLASSIFIERS.get(kind).spec_class(values).model_validate(values)
        return spec if isinstance(spec, LanguageModel) else None

    @property
    def card(self) -> DatasetCard | None:
        """The card of the dataset; None if the dataset is not on this machine."""
        return self.dataset.card if self.dataset else None

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the study's rows of a small table, sorted by key; empty for a table that this version does not have."""
        if table not in TABLES:
            return []
        schema = TABLES[table]
        order = ", ".join(f'"{c}"' for c in (schema.component, *schema.key) if c)
        return self.query(f'SELECT * FROM "{table}" WHERE study = $1 ORDER BY {order}')

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run a query on the catalogue; `$1` is the study, `$2`, `$3`, ... are `parameters`."""
        values = [self.study, *parameters]
        if self.run_query is None:
            table = query(self.data_folder, sql, values, leave_out_damaged=True)
        else:
            table = self.run_query(sql, values)
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

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
        dataset_classes = self.dataset.classes if self.dataset else ()
        stored = self.query(
            "SELECT DISTINCT label FROM clips WHERE study = $1 UNION "
            "SELECT DISTINCT predicted FROM predictions WHERE study = $1 AND predicted IS NOT NULL"
        )
        return dataset_classes + tuple(sorted({row["label"] for row in stored} - set(dataset_classes)))

    @cached_property
    def class_number(self) -> dict[str, int]:
        """Label -> its index in `classes`."""
        return {label: i for i, label in enumerate(self.classes)}

    def projections(self) -> list[dict[str, Any]]:
        """Return one row for each projection: encoder, method, the share of the variance along each axis, and silhouettes."""
        if "projections" not in TABLES:
            return []
        return self.query(
            "SELECT encoder, method, any_value(explained_x) AS explained_x, any_value(explained_y) AS explained_y, "
            "any_value(silhouette_plane) AS silhouette_plane, any_value(silhouette_space) AS silhouette_space "
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

    def attribution(self) -> str:
        """Return the text of the dataset's own README, which credits the recordings; empty if it has none."""
        if self.dataset is None:
            return ""
        readmes = sorted((path.stat().st_size, path) for path in self.dataset.root.glob("README*") if path.is_file())
        return readmes[0][1].read_text("utf-8", "replace")[:_MAX_ATTRIBUTION_CHARS] if readmes else ""

    def provenances(self) -> list[tuple[str, Provenance]]:
        """Return (table, provenance) of every partition file that exists, except those of the report itself."""
        by_table = self.record["partition_files"].items()
        files = [(table, file) for table, table_files in by_table for file in table_files if table != "report"]
        provenances = ((table, read_provenance(self.data_folder.root / file)) for table, file in files)
        return [(table, provenance) for table, provenance in provenances if provenance is not None]


def _open_dataset(data_folder: DataFolder, fields: dict[str, Any] | None) -> tuple[Dataset | None, str]:
    """Return the opened dataset and "", or None and the reason why it cannot be opened."""
    if not fields:
        return None, "the study record does not name its dataset"
    try:
        spec = DATASETS.get(fields["kind"]).model_validate({k: v for k, v in fields.items() if k != "kind"})
        if spec.is_local(data_folder):
            return spec.open(data_folder), ""
    except (VlmAudioError, ValueError) as error:  # it was moved or deleted, or its kind is not installed
        return None, str(error)
    return None, f"dataset {fields['kind']} is not on this machine"


def read_batches(path: Path, columns: Sequence[str], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a partition file in batches of at most `size`, only `columns`; nothing if the file does not exist.

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
