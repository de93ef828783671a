"""Exports of Label Studio for audio: JSON, JSON-MIN and CSV.

JSON has a list of tasks, each with `data` and `annotations`, whose `result` lists regions. JSON-MIN and CSV have one entry for each
annotation, whose regions are a list in the field that is named like their control in the labelling configuration, usually `label`.
An entry without regions does not have this field. `label_column` names the control.
Reference: https://labelstud.io/guide/export, https://labelstud.io/tags/audio.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.datasets.annotations.events import (
    AnnotationFormat,
    Annotations,
    Event,
    ReadOptions,
    refuse_min_confidence,
)
from vlm_audio_pipeline.datasets.annotations.tables import Table, clean_name, header_cells
from vlm_audio_pipeline.datasets.audio_suffixes import AV_SUFFIXES, LIBSNDFILE_SUFFIXES, OTHER_SUFFIXES
from vlm_audio_pipeline.datasets.csv_reader import read_text

_SUFFIXES = LIBSNDFILE_SUFFIXES + AV_SUFFIXES + OTHER_SUFFIXES
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
_CONTROLS = ("label", "labels")
"""Usual names of the control with the labels of regions."""
_MAX_SECONDS = 1e9  # JSON may have infinity, and whole numbers that no float can be


def read_label_studio(path: Path, options: ReadOptions) -> Annotations:
    """Read an export. A task that was not annotated is left out; an annotation without regions means that the recording has no event."""
    refuse_min_confidence(path, options)
    text = read_text(path, is_json=True)
    is_json = text.lstrip().startswith(("[", "{"))
    entries = _json_entries(path, text, options) if is_json else _csv_entries(path, options)
    events: list[Event] = []
    recordings: set[str] = set()
    for origin, recording, regions in entries:
        if recording in recordings:
            raise BadDataset(
                f"{origin}: '{recording}' was annotated several times; export one annotation for each recording, or mark one of them as "
                "ground truth in Label Studio"
            )
        recordings.add(recording)
        for number, region in enumerate(regions, 1):
            events += _events(f"{origin}, region {number}", recording, region)
    return Annotations(tuple(events), recordings=frozenset(recordings))


def _json_entries(path: Path, text: str, options: ReadOptions) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    """Yield origin, recording and regions of each annotation."""
    try:
        tasks = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadDataset(f"{path}{line}: this is not valid JSON: {error}; export it again") from error
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
        raise BadDataset(f"{path} must be a list of tasks, got {_kind(tasks)}; export it from Label Studio as JSON")
    column = _regions_column(path, [task for task in tasks if "annotations" not in task], options)
    controls: set[str] = set()
    for number, task in enumerate(tasks, 1):
        origin = f"{path}, task {number}"
        if "annotations" not in task:  # JSON-MIN
            yield origin, _recording(origin, task), _regions(origin, task.get(column, []))
            continue
        annotations = [a for a in _dicts(origin, task["annotations"]) if not a.get("was_cancelled")]
        chosen = [a for a in annotations if a.get("ground_truth")] or annotations
        data = task.get("data")
        if not isinstance(data, dict):
            raise BadDataset(
                f"{origin}: a task must have `data` with the recording, got {_kind(data)}; export it again"
            )
        for annotation in chosen:
            results = _dicts(origin, annotation.get("result", []))
            controls |= {str(r.get("from_name")) for r in results if r.get("type") == "labels"}
            regions = [r.get("value", {}) for r in results if _is_region(origin, r, options)]
            yield origin, _recording(origin, data), _dicts(origin, regions)
    if column is None and options.label_column is not None and options.label_column not in controls:
        raise BadDataset(
            f"{path}: `label_column` must name a control with labels of regions, got '{options.label_column}'; "
            f"{suggestion(options.label_column, controls)}"
        )


def _regions_column(path: Path, tasks: Sequence[Mapping[str, Any]], options: ReadOptions) -> str | None:
    """Return the field with the regions in the tasks of JSON-MIN; None without such tasks.

    Raises:
        BadDataset: if no task has it, because with a wrong field no recording would have events; and if several fields may have the regions.
    """
    if not tasks:
        return None
    fields = sorted({name for task in tasks for name in task})
    names = _CONTROLS if options.label_column is None else (options.label_column,)
    columns = [name for name in names if name in fields]
    if len(columns) == 1:
        return columns[0]
    if columns:
        raise BadDataset(
            f"{path}: the regions may be in {' or '.join(f'`{name}`' for name in columns)}; name one of them in `label_column`"
        )
    if options.label_column is not None:
        raise BadDataset(
            f"{path}: `label_column` must name a field with regions, got '{options.label_column}'; {suggestion(options.label_column, fields)}"
        )
    raise BadDataset(
        f"{path}: no task has a field {' or '.join(f'`{name}`' for name in _CONTROLS)} with the regions, got {', '.join(fields)}; name "
        "the control of the regions in `label_column`"
    )


def _is_region(origin: str, result: Mapping[str, Any], options: ReadOptions) -> bool:
    """Return whether a result is a region with labels of the control that is read.

    Raises:
        BadDataset: for a choice, if `label_column` does not say which control has the labels.
    """
    if result.get("type") == "choices" and options.label_column is None:
        raise BadDataset(
            f"{origin}: the control '{result.get('from_name')}' is a choice, but only labels of regions are read. If other controls have "
            "the labels, name one in `label_column`, and the choices are left out. If the choices are the labels, write them as a table "
            "with the columns filename and event_labels (format `dcase`)"
        )
    return result.get("type") == "labels" and options.label_column in (None, result.get("from_name"))


def _csv_entries(path: Path, options: ReadOptions) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    table = Table(path)
    label = table.label_column(options, _CONTROLS)
    for row in table.rows:
        origin = f"{path}, line {row.line}"
        try:
            regions = json.loads(row.cells[label] or "[]")
        except (ValueError, RecursionError) as error:
            raise table.error(
                row, label, f"the regions must be a list in JSON, got '{row.cells[label][:80]}'; export it again"
            ) from error
        yield origin, _recording(origin, row.cells), _regions(f"{origin}, column '{label}'", regions)


def _recording(origin: str, data: Mapping[str, Any]) -> str:
    """Return the recording of a task: the first value that ends like the name of one, without the folder of uploads."""
    for value in data.values():
        if isinstance(value, str) and (name := _file_name(value)).lower().endswith(_SUFFIXES):
            return name
    raise BadDataset(f"{origin}: no value ends like the name of a recording, got {sorted(data)}; export it again")


def _file_name(value: str) -> str:
    """Return the path of a recording.

    >>> _file_name("/data/local-files/?d=site%201/a.wav"), _file_name("/data/upload/5/d3886e88-b.mp3")
    ('site 1/a.wav', 'd3886e88-b.mp3')
    """
    parts = urlsplit(value)
    if local := parse_qs(parts.query).get("d"):
        return clean_name(local[0])
    if parts.path.startswith("/data/upload/") or parts.scheme in ("http", "https", "s3", "gs", "azure-blob"):
        return unquote(parts.path).rsplit("/", 1)[-1]
    return clean_name(value)


def _events(origin: str, recording: str, region: Mapping[str, Any]) -> list[Event]:
    start_s, end_s = (_seconds(origin, key, region.get(key)) for key in ("start", "end"))
    if end_s < start_s:
        raise BadDataset(
            f"{origin}: `end` must not be before `start`, got {start_s:g} s to {end_s:g} s; correct one of them"
        )
    labels = region.get("labels")
    if not isinstance(labels, list) or not labels or not all(isinstance(name, str) and name.strip() for name in labels):
        raise BadDataset(
            f"{origin}: `labels` must be a list of names, got {labels!r}; give the region a label, or delete it"
        )
    return [Event(recording, start_s, end_s, name.strip(), origin=origin) for name in dict.fromkeys(labels)]


def _seconds(origin: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SECONDS:
        raise BadDataset(f"{origin}: `{key}` must be a number of seconds of 0 or more, got {value!r}; correct it")
    return float(value)


def _regions(origin: str, value: Any) -> list[Mapping[str, Any]]:
    return _dicts(origin, value if isinstance(value, list) else [value])


def _dicts(origin: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence) or not all(isinstance(value, dict) for value in values):
        raise BadDataset(f"{origin}: annotations must be a list of objects, got {_kind(values)}; export it again")
    return list(values)


def _kind(value: Any) -> str:
    return {dict: "one object", list: "a list of other values", type(None): "nothing"}.get(
        type(value), repr(value)[:80]
    )


def _aliases(name: str) -> tuple[str, ...]:
    """Return the name that an uploaded file had before: Label Studio puts eight hexadecimal digits in front."""
    return (_UPLOAD.sub("", name),) if _UPLOAD.match(name) else ()


def _recognises(first_lines: str) -> bool:
    start = first_lines.lstrip("\ufeff \r\n\t")
    if start.startswith("["):
        return '"annotations"' in start or '"annotation_id"' in start
    return "annotation_id" in header_cells(first_lines)


FORMAT = AnnotationFormat(
    "label_studio", "Label Studio export", "https://labelstud.io/guide/export", _recognises, read_label_studio, _aliases
)
