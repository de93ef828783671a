"""The `clips` stage: decode and measure each recording once, and list those that cannot be used.

Belongs here: checks that need the samples. Does not belong here: checks of the listing (`base.py`), leakage statistics.
"""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.audio import BadAudio, decode, samples_digest
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.engines import Failure, compute_results
from vlm_audio_pipeline.storage.schemas import TABLES

VERSION = 1
"""Version of `inspect`. Raise it when the same file gives other values."""

_ADDED_COLUMNS = ("study", "fold")  # the pipeline adds them


def clips_stage(on_bad_clip: str) -> Stage:
    """Return the stage that makes `clips` and `rejected_clips` of a study.

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
        description="Recordings that can be used: duration (s), rate (Hz), channels, peak and RMS (1 = full scale).",
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
        BadAudio: when the file cannot be used.
    """
    samples, sample_rate_hz, channels = decode(path, start_s, end_s)
    measured = {
        "samples_sha256": samples_digest(samples, sample_rate_hz),
        "duration_s": len(samples) / sample_rate_hz,
        "sample_rate_hz": sample_rate_hz,
        "channels": channels,
        "peak": float(np.abs(samples).max()),
        "rms": float(np.sqrt(np.square(samples, dtype=np.float64).mean())),
    }
    return json.dumps(measured, sort_keys=True).encode()


def sources_in_several_folds(clips: list[Clip]) -> list[str]:
    """Return the source recordings that occur in more than one fold, sorted."""
    folds: dict[str, set[int]] = {}
    for clip in clips:
        folds.setdefault(clip.source, set()).add(clip.fold)
    return sorted(source for source, its_folds in folds.items() if len(its_folds) > 1)


def _run(on_bad_clip: str, context: StageContext) -> dict[str, pa.Table]:
    """Inspect every clip of the dataset, so that one error lists all bad recordings; return the rows of this fold."""
    clips = context.dataset.clips
    results = _inspect_all(context)
    reasons = {c.id: r.reason for c, r in zip(clips, results, strict=True) if isinstance(r, Failure)}
    if reasons:
        _refuse(context.dataset, reasons, on_bad_clip)
    good = [
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
    bad = [
        {"clip": c.id, "label": c.label, "file": c.file, "reason": reasons[c.id]}
        for c in clips
        if c.id in reasons and c.fold == context.fold
    ]
    return {"clips": _table("clips", good), "rejected_clips": _table("rejected_clips", bad)}


def _inspect_all(context: StageContext) -> list[bytes | Failure]:
    """Return the measurements of every clip of the dataset; files with stored measurements are not decoded again.

    A file is read twice, for its digest and for its samples. The measurements are stored under the digest only if the
    file did not change between the two.
    """
    clips = context.dataset.clips
    paths = [context.dataset.root / c.file for c in clips]
    before = dict(zip(paths, map(_stamp, paths), strict=True))
    digests = context.result_store.file_digests(paths)
    readable = [(c, sha) for c, sha in zip(clips, digests, strict=True) if sha is not None]

    def measure(c: Clip) -> bytes | Failure:
        path = context.dataset.root / c.file
        try:
            measured = inspect(path, c.start_s, c.end_s)
        except BadAudio as error:
            return Failure(error.reason)
        return measured if _stamp(path) == before[path] else Failure("changed while it was read; run again")

    def compute(batch: list[Clip]) -> list[bytes | Failure]:
        return [measure(c) for c in batch]

    payloads = compute_results(
        [fingerprint("inspection", VERSION, sha, c.start_s, c.end_s, length=64) for c, sha in readable],
        [c for c, _ in readable],
        compute,
        context.result_store,
        kind="inspection",
        batch_size=8,
        progress=context.progress,
    )
    measured = {c.id: payload for (c, _), payload in zip(readable, payloads, strict=True)}
    return [measured.get(c.id, Failure("missing: the file cannot be read")) for c in clips]


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    """Return values that change when a file is written or replaced; None for a missing file."""
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns


def _refuse(dataset: Dataset, reasons: dict[str, str], on_bad_clip: str) -> None:
    """Raise if bad clips stop the study, or if a class or a fold has no other clips."""
    count = f"{len(reasons)} of {len(dataset.clips)} recordings cannot be used"
    lines = "".join(f"\n  {c.id} ({c.file}): {reasons[c.id]}" for c in dataset.clips if c.id in reasons)
    if on_bad_clip != "skip":
        raise BadClips(f"{count}:{lines}\nrepair or remove them, or set `on_bad_clip: skip` to go on without them")
    left = [c for c in dataset.clips if c.id not in reasons]
    without = sorted({c.label for c in dataset.clips} - {c.label for c in left})
    empty = sorted({c.fold for c in dataset.clips} - {c.fold for c in left})
    if without or empty:
        unusable = [f"class {label}" for label in without] + [f"fold {fold}" for fold in empty]
        raise BadClips(
            f"every class and fold must have a usable recording with `on_bad_clip: skip`, got none for "
            f"{', '.join(unusable)}; repair their recordings or remove them from the dataset. {count}:{lines}"
        )


def _table(name: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    schema = pa.schema([field for field in TABLES[name].arrow if field.name not in _ADDED_COLUMNS])
    return pa.Table.from_pylist(list(rows), schema=schema)
