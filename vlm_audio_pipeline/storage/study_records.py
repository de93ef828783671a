"""Study records: one JSON file for each study that was run in a data folder, with a checksum of its content."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.storage.atomic import set_folder_aside, write_atomically
from vlm_audio_pipeline.storage.data_folder import DataFolder

_LOG = logging.getLogger(__name__)


class ChangedRecord(ValueError):
    """A record that was changed after it was written: by a damaged disk, or by hand.

    Attributes:
        record: its content.
    """

    def __init__(self, record: dict[str, Any]):
        super().__init__("its content differs from its checksum")
        self.record = record


def write_study_record(data_folder: DataFolder, study: str, record: Mapping[str, Any]) -> None:
    """Write studies/<study>.json, unless it holds the same record.

    Args:
        data_folder: the data folder.
        study: name of the study.
        record: `partition_files` (table -> paths relative to the data folder), `extra_columns`, `file`, `limit`, the
            resolved `study`, and `written_keys` (the keys that its file sets).
    """
    if not has_study_record(data_folder, study, record):
        path = _path(data_folder, study)
        set_folder_aside(path)
        write_atomically(path, _text(record))


def has_study_record(data_folder: DataFolder, study: str, record: Mapping[str, Any]) -> bool:
    """Return whether studies/<study>.json holds this record."""
    path = _path(data_folder, study)
    return path.is_file() and path.read_bytes() == _text(record)


def _path(data_folder: DataFolder, study: str) -> Path:
    return data_folder.studies / f"{study}.json"


def _text(record: Mapping[str, Any]) -> bytes:
    return json.dumps({**record, "checksum": _checksum(record)}, indent=1, sort_keys=True).encode()


def study_records(data_folder: DataFolder, *, leave_out_damaged: bool = False) -> dict[str, dict[str, Any]]:
    """Return the records of the studies that were run in this data folder, by name.

    Args:
        data_folder: the data folder.
        leave_out_damaged: leave out records that cannot be read, with a warning. Those that were changed are used, with a warning:
            their partition files exist, but their settings may be wrong; `study_record` refuses them.

    Raises:
        VlmAudioError: for a damaged record.
    """
    records = {}
    for path in sorted(data_folder.studies.glob("*.json")):
        try:
            records[path.stem] = read_study_record(path)
        except ChangedRecord as error:
            if not leave_out_damaged:
                raise _damaged_record(path, error) from error
            _LOG.warning("%s. Until then its results may be incomplete", _damaged_record(path, error))
            records[path.stem] = error.record
        except (ValueError, OSError) as error:
            if not leave_out_damaged:
                raise _damaged_record(path, error) from error
            _LOG.warning("%s. Until then its results are not shown", _damaged_record(path, error))
    return records


def study_record(data_folder: DataFolder, study: str) -> dict[str, Any]:
    """Return the record of one study.

    Raises:
        VlmAudioError: if the study was not run in this data folder; for a damaged record.
    """
    names = [path.stem for path in data_folder.studies.glob("*.json")]
    if study not in names:
        raise VlmAudioError(
            f"study '{study}' has no results in {data_folder.root}; run it first (`vlm-audio run {study}`), or choose another; "
            f"{suggestion(study, names)}"
        )
    path = _path(data_folder, study)
    try:
        return read_study_record(path)
    except (ValueError, OSError) as error:
        raise _damaged_record(path, error) from error


def _damaged_record(path: Path, error: Exception) -> VlmAudioError:
    return VlmAudioError(f"the study record {path} cannot be read: {error}; run the study again, which writes it again")


def read_study_record(path: Path) -> dict[str, Any]:
    """Read a study record; one of an older version has no checksum.

    Raises:
        ChangedRecord: if it is complete, but its content differs from its checksum.
        ValueError: if it is damaged.
    """
    record: Any = json.loads(path.read_text(encoding="utf-8"))
    files = record.get("partition_files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in files.values()
    ):
        raise ValueError("it has no list of partition files")
    for name, kind in (("extra_columns", list), ("file", str), ("limit", int), ("study", dict)):
        if not isinstance(record.get(name), kind | None):
            raise ValueError(f"its value of '{name}' is not a {kind.__name__}")
    if record.pop("checksum", None) not in (None, _checksum(record)):
        raise ChangedRecord(record)
    return dict(record)


def _checksum(record: Mapping[str, Any]) -> str:
    return digest(json.dumps(record, sort_keys=True).encode())
