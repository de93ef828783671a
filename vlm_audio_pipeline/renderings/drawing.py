"""Drawing the clips of a fold on every core, so that a kill in a long one loses seconds.

What belongs here: who draws what when, what is kept meanwhile, and the rows of `spectrograms`. What does not: what a picture
looks like (`recipe`, `picture`).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
from threadpoolctl import threadpool_limits

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.contracts.stages import Progress, StageContext
from vlm_audio_pipeline.engines import cores
from vlm_audio_pipeline.renderings.picture import Picture

Clip = TypeVar("Clip")
Drawn = TypeVar("Drawn")

KEEP_EVERY_S = 10.0
"""How often what is drawn of a fold is kept until the fold is done, s: the most of it that a kill loses."""


def drawn(
    context: StageContext,
    clips: list[dict[str, Any]],
    draw: Callable[[dict[str, Any]], Picture],
    parameters: object,
) -> list[Picture]:
    """Draw the clips of a fold; where that takes long, what is drawn is kept now and then, so that a kill loses seconds.

    Args:
        context: of the stage.
        clips: rows of `clips`.
        draw: draws one.
        parameters: plain values that decide, beside the clip, what a picture looks like.
    """
    scratch = context.scratch
    if scratch is None:
        return in_parallel(clips, draw, context.progress)
    what = ("clip", "samples_sha256", "start_s", "end_s", "duration_s", "rate_hz")
    keys = [fingerprint(parameters, [c[name] for name in what], length=64) for c in clips]
    there = scratch.get(keys)
    pictures = {key: _unpacked(payload) for key, payload in there.items()}
    todo = [(key, clip) for key, clip in zip(keys, clips, strict=True) if key not in pictures]
    waiting: list[tuple[str, Picture]] = []
    kept_at = time.monotonic()

    def keep(picture: Picture) -> None:
        nonlocal kept_at
        faults.point("picture")
        key = todo[len(pictures) - len(there)][0]
        pictures[key] = picture
        waiting.append((key, picture))
        if time.monotonic() - kept_at > KEEP_EVERY_S:
            scratch.put([(key, _packed(one)) for key, one in waiting])
            waiting.clear()
            kept_at = time.monotonic()

    in_parallel([clip for _, clip in todo], draw, context.progress, keep)
    return [pictures[key] for key in keys]


def _packed(picture: Picture) -> bytes:
    return f"{picture.media_type} {picture.width} {picture.height}\n".encode() + picture.bytes


def _unpacked(payload: bytes) -> Picture:
    told, _, data = payload.partition(b"\n")
    media_type, width, height = told.decode().split()
    return Picture(data, media_type, int(width), int(height))


def in_parallel(
    clips: Sequence[Clip],
    draw: Callable[[Clip], Drawn],
    progress: Progress,
    each: Callable[[Drawn], None] = lambda drawn: None,
) -> list[Drawn]:
    """Draw clips on every core of this machine, BLAS held to one thread a worker; what is drawn in the order of clips.

    Args:
        clips: what is drawn.
        draw: draws one.
        progress: told after each.
        each: handed each as drawn, in order.
    """
    with threadpool_limits(limits=1), ThreadPoolExecutor(cores()) as pool:
        made = []
        for one in pool.map(draw, clips):
            made.append(one)
            each(one)
            progress(len(made), len(clips), "picture")
        return made


def spectrograms(clips: list[str], pictures: list[Picture]) -> pa.Table:
    """Give the rows of `spectrograms`: one picture for each clip id."""
    return pa.table(
        {
            "clip": pa.array(clips, pa.string()),
            "picture": pa.array([p.bytes for p in pictures], pa.binary()),
            "media_type": pa.array([p.media_type for p in pictures], pa.string()),
            "width": pa.array([p.width for p in pictures], pa.int64()),
            "height": pa.array([p.height for p in pictures], pa.int64()),
            "picture_sha256": pa.array([digest(p.bytes) for p in pictures], pa.string()),
        }
    )
