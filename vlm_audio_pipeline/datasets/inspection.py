"""The `clips` stage: decode and measure each recording once, and list those that cannot be used.

Belongs here: checks that need the samples. Does not belong here: checks of the listing (`base.py`), leakage statistics.
"""

import json
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.file_copies import readable_path
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.regular_files import digest_file, file_stamp, unsuitable_reason
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.contracts.work import Compute, Failure, Rows
from vlm_audio_pipeline.datasets.audio import BadAudio, decode, samples_digest
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.storage.schemas import TABLES

VERSION = 4
"""Version of `inspect`. Increase it whenever the same file has other values, or is refused."""

Segment = tuple[str, float | None, float | None, str, str | None]
"""File, start in s, end in s, SHA-256 of the file, and its stamp before that was computed."""
_MEASURED = {"samples_sha256", "duration_s", "sample_rate_hz", "channels", "peak", "rms"}
_CHANGED = Failure("changed after it was listed; run again")
_ADDED_COLUMNS = ("study", "fold")  # the pipeline adds them


def clips_stage(on_bad_clip: str) -> Stage:
    """Return the stage that computes `clips` and `rejected_clips` of a study.

    Args:
        on_bad_clip: "stop" or "skip", from the spec of the dataset.
    """
    return Stage(
        asset="clips",
        tables=("clips", "rejected_clips"),
        version=VERSION,
        parameters={"on_bad_clip": on_bad_clip},
        inputs=(Input("dataset"),),
        run=partial(_run, on_bad_clip),
        stops_study=True,
        content_versions=_classes_version,
        description="Recordings that can be used: duration (s), sample rate (Hz), channels, peak and RMS (1 = full scale).",
    )


def _classes_version(context: StageContext) -> dict[str, str]:
    """Return the version of the class list: classifiers choose among all classes, also those without a clip in a fold."""
    return {"classes": fingerprint(list(context.classes))}


def inspect(path: Path, start_s: float | None = None, end_s: float | None = None) -> bytes:
    """Decode a clip and measure it.

    Args:
        path: the file.
        start_s: start of the segment, s.
        end_s: end of the segment, s.

    Returns:
        JSON: `samples_sha256` (see `samples_digest`), `duration_s`, `sample_rate_hz`, `channels`, `peak` and `rms` (1 = full
        scale).

    Raises:
        BadAudio: if the file cannot be used.
    """
    samples, sample_rate_hz, channels = decode(path, start_s, end_s)
    measurements = {
        "samples_sha256": samples_digest(samples, sample_rate_hz),
        "duration_s": len(samples) / sample_rate_hz,
        "sample_rate_hz": sample_rate_hz,
        "channels": channels,
        "peak": float(np.abs(samples).max()),
        "rms": float(np.sqrt(np.square(samples, dtype=np.float64).mean())),
    }
    return json.dumps(measurements, sort_keys=True).encode()


def sources_in_several_folds(clips: list[Clip]) -> list[str]:
    """Return the source recordings that occur in more than one fold, sorted."""
    folds: dict[str, set[int]] = {}
    for clip in clips:
        folds.setdefault(clip.source, set()).add(clip.fold)
    return sorted(source for source, source_folds in folds.items() if len(source_folds) > 1)


def _run(on_bad_clip: str, context: StageContext) -> dict[str, pa.Table]:
    """Return the rows of this fold. The first fold inspects every clip of the dataset, so that one error lists all bad recordings."""
    dataset = context.dataset
    clips, reasons = list(dataset.clips), {}
    if (earlier_reasons := _INSPECTED.get(dataset)) is not None:
        clips = [c for c in clips if c.fold == context.fold]
        reasons = earlier_reasons.copy()
    for c in clips:
        reasons.pop(c.id, None)
    results = _inspect_clips(context, clips)
    reasons |= {c.id: r.reason for c, r in zip(clips, results, strict=True) if isinstance(r, Failure)}
    if reasons:
        _refuse_bad_clips(dataset, reasons, on_bad_clip)
    _INSPECTED.put(dataset, reasons)
    usable_rows = [
        {
            "clip": c.id,
            "label": c.label,
            "source": c.source,
            "file": c.file,
            "start_s": c.start_s,
            "end_s": c.end_s,
            **json.loads(result),
            "extra": list(c.extra.items()),
        }
        for c, result in zip(clips, results, strict=True)
        if isinstance(result, bytes) and c.fold == context.fold
    ]
    rejected_rows = [
        {"clip": c.id, "label": c.label, "file": c.file, "reason": reasons[c.id]}
        for c in clips
        if c.id in reasons and c.fold == context.fold
    ]
    if context.fold == dataset.folds[0]:
        rejected_rows += [
            {"clip": left.file, "label": left.label, "file": left.file, "reason": left.reason}
            for left in dataset.left_out
            if left.is_recording
        ]
    return {"clips": _table("clips", usable_rows), "rejected_clips": _table("rejected_clips", rejected_rows)}


class _Inspected:
    """The bad clips of the last dataset that was inspected as a whole. The other folds of the same run inspect their own clips."""

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[Dataset], dict[str, str]] | None = None

    def get(self, dataset: Dataset) -> dict[str, str] | None:
        """Return the reasons by clip id; None if this opened dataset was not inspected as a whole."""
        return self._last[1] if self._last is not None and self._last[0]() is dataset else None

    def put(self, dataset: Dataset, reasons: dict[str, str]) -> None:
        """Store the reasons of all clips of a dataset, and forget those of the dataset before."""
        self._last = weakref.ref(dataset), reasons


_INSPECTED = _Inspected()


def _inspect_clips(context: StageContext, clips: Sequence[Clip]) -> list[bytes | Failure]:
    """Return the measurements of clips; files with stored measurements are not decoded again.

    A file is read twice, for its digest and for its samples. The measurements are stored under the digest only if the
    samples come from a file with this digest; see `InspectionWork`.
    """
    root = str(context.dataset.root)
    paths = [os.path.join(root, c.file) for c in clips]
    before = {path: _stamp(path) for path in paths}
    digests = context.result_store.file_digests(paths)
    readable = [(c, sha) for c, sha in zip(clips, digests, strict=True) if sha is not None]
    rows = Rows(
        [fingerprint("inspection", VERSION, sha, c.start_s, c.end_s, length=64) for c, sha in readable],
        [(c.file, c.start_s, c.end_s, sha, before[os.path.join(root, c.file)]) for c, sha in readable],
        InspectionWork(context.dataset.root),
        kind="inspection",
        batch_size=8,
        is_readable=_is_readable,
    )
    [payloads] = context.engine.map_rows([rows], context.result_store, context.progress)
    payload_of_clip = {c.id: payload for (c, _), payload in zip(readable, payloads, strict=True)}
    return [
        payload_of_clip.get(c.id) or Failure(unsuitable_reason(Path(path)) or "missing: the file cannot be read")
        for c, path in zip(clips, paths, strict=True)
    ]


@dataclass(frozen=True)
class InspectionWork:
    """Measures segments of recordings; an item is a `Segment`.

    A file that was replaced after it was listed is a failure. A file with the stamp of the item is the one that was hashed. One with another
    stamp, such as the copy of another node, is hashed again.

    Attributes:
        root: folder of the recordings.
    """

    root: Path
    uses_gpu = False
    max_parallel = None

    @property
    def key(self) -> str:
        """Name of the work with its folder."""
        return fingerprint("inspection", str(self.root))

    def files_of(self, item: Segment) -> tuple[Path, ...]:
        """Return the recording."""
        return (self.root / item[0],)

    def prepare(self, item: Segment) -> Segment:
        """Return the item."""
        return item

    def open(self) -> Compute:
        """Return the function that measures a batch."""
        digests: dict[
            tuple[str, str], str | None
        ] = {}  # of a file with a stamp: many clips may be segments of one file
        return lambda batch: [self._measure(digests, *item) for item in batch]

    def _measure(
        self,
        digests: dict[tuple[str, str], str | None],
        file: str,
        start_s: float | None,
        end_s: float | None,
        sha256: str,
        stamp: str | None,
    ) -> bytes | Failure:
        path = readable_path(self.root / file)
        before = _stamp(path)
        if before is not None and before != stamp:
            if (file, before) not in digests:
                digests[file, before] = _digest(path)
            if digests[file, before] not in (sha256, None):
                return _CHANGED
        try:
            measured = inspect(path, start_s, end_s)
        except BadAudio as error:
            return Failure(error.reason)
        return measured if before is not None and _stamp(path) == before else _CHANGED


def _is_readable(payload: bytes) -> bool:
    """Return whether stored measurements are JSON with all columns; older results had no checksum."""
    try:
        measurements = json.loads(payload)
    except ValueError:
        return False
    return isinstance(measurements, dict) and measurements.keys() == _MEASURED


def _stamp(path: Path | str) -> str | None:
    """Return a text that changes when a file is written or replaced; None for a missing file."""
    try:
        return file_stamp(os.stat(path))
    except OSError:
        return None


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it cannot be read: decoding it then gives the reason."""
    try:
        return digest_file(path)
    except OSError:
        return None


def _refuse_bad_clips(dataset: Dataset, reasons: dict[str, str], on_bad_clip: str) -> None:
    """Raise if bad clips stop the study, or if a class or a fold has no other clips."""
    count = f"{len(reasons)} of {len(dataset.clips)} recordings cannot be used"
    lines = "".join(f"\n  {c.id} ({c.file}): {reasons[c.id]}" for c in dataset.clips if c.id in reasons)
    if on_bad_clip != "skip":
        raise BadClips(f"{count}:{lines}\nrepair or remove them, or set `on_bad_clip: skip` to go on without them")
    usable = [c for c in dataset.clips if c.id not in reasons]
    missing_classes = sorted(_class_names(dataset.clips) - _class_names(usable))
    empty_folds = sorted({c.fold for c in dataset.clips} - {c.fold for c in usable})
    if missing_classes or empty_folds:
        unusable = [f"class {label}" for label in missing_classes] + [f"fold {fold}" for fold in empty_folds]
        raise BadClips(
            f"with `on_bad_clip: skip`, every class and fold needs a usable recording, but there is none for "
            f"{', '.join(unusable)}; repair their recordings or remove them from the dataset. {count}:{lines}"
        )


def _class_names(clips: Sequence[Clip]) -> set[str]:
    return {name for clip in clips for name in clip.class_names}


def _table(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    schema = pa.schema([field for field in TABLES[name].arrow if field.name not in _ADDED_COLUMNS])
    return pa.Table.from_pylist(list(rows), schema=schema)
