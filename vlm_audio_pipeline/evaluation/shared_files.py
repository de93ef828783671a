"""Leakage through files: segments of one file in several folds, and source recordings whose names look equal.

A listing may give segments of one file different sources. Their folds then look independent, but are not.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.contracts.look_alikes import look_alike_key, show_escaped

LeakageFinding = dict[str, Any]
_Rows = list[dict[str, Any]]


def find_shared_files(clips: pa.Table) -> Iterator[LeakageFinding]:
    """Yield the files that have segments in several folds, after a summary.

    Segments that overlap are a leak: training clips and test clips share samples. Others are suspect: they share the
    recording, with its voices, microphone and background.

    Args:
        clips: `clips` rows of the folds that exist.
    """
    kind, groups = "file_across_folds", _group(clips, "file", lambda file: file)
    split = {file: rows for file, rows in groups.items() if len({r["fold"] for r in rows}) > 1}
    overlaps = {file: _count_overlaps(rows) for file, rows in split.items()}
    leaks = sum(count > 0 for count in overlaps.values())
    folds = len(set(clips["fold"].to_pylist()))
    yield {
        "kind": kind,
        "severity": "leak" if leaks else "suspect" if split else "clean" if folds > 1 else "unknown",
        "count": len(split),
        "checked": len(groups),
        "finding": f"{len(split)} of {len(groups)} files have clips in two folds or more"
        + (f"; in {leaks} of these files, clips overlap" if split else "")
        + ("" if folds > 1 else f"; only {folds} fold was run so far"),
        **_clip_columns([r for rows in split.values() for r in rows], with_ids=False),
    }
    for file, rows in sorted(split.items()):
        columns = _clip_columns(rows)
        text = f"clips of the file {file} are in folds {columns['folds']}"
        text += (
            f", and {overlaps[file]} pairs of them overlap, so training clips and test clips share samples"
            if overlaps[file]
            else "; they do not overlap, but come from one recording"
        )
        severity = "leak" if overlaps[file] else "suspect"
        yield {"kind": kind, "subject": file, "severity": severity, "count": 1, "finding": text, **columns}


def find_alike_sources(clips: pa.Table) -> Iterator[LeakageFinding]:
    """Yield groups of sources that differ only by case, spaces or Unicode form, after a summary.

    Args:
        clips: `clips` rows of the folds that exist.
    """
    kind = "alike_sources"
    groups = _group(clips, "source", lambda source: look_alike_key(source).replace(" ", ""))
    alike = [rows for rows in groups.values() if len({r["source"] for r in rows}) > 1]
    yield {
        "kind": kind,
        "severity": "suspect" if alike else "clean",
        "count": len(alike),
        "checked": len(groups),
        "finding": f"{len(alike)} groups of source recordings have names that differ only in case, spaces or Unicode form"
        + (
            f"; {sum(len({r['fold'] for r in rows}) > 1 for rows in alike)} of these groups are in several folds"
            if alike
            else ""
        ),
        **_clip_columns([r for rows in alike for r in rows], with_ids=False),
    }
    for rows in alike:
        columns, names = _clip_columns(rows), show_escaped(sorted({r["source"] for r in rows}))
        text = f"the source recordings {names} differ only in case, spaces or Unicode form; if they are one recording, "
        text += "it is in several folds" if "," in columns["folds"] else "its clips count as independent"
        yield {"kind": kind, "subject": names, "severity": "suspect", "count": 1, "finding": text, **columns}


def _group(clips: pa.Table, column: str, key: Any) -> dict[str, _Rows]:
    names = ["clip", "fold", "source", "file", "start_s", "duration_s", "sample_rate_hz"]
    groups: dict[str, _Rows] = {}
    for row in clips.select(names).to_pylist():
        groups.setdefault(key(row[column]), []).append(row)
    return groups


def _count_overlaps(rows: _Rows) -> int:
    """Count the pairs of clips in different folds that have samples in common."""
    ordered = sorted(rows, key=lambda r: r["start_s"] or 0.0)
    count = 0
    for i, first in enumerate(ordered):
        # times are rounded to samples
        end = (first["start_s"] or 0.0) + first["duration_s"] - 1.5 / first["sample_rate_hz"]
        for second in ordered[i + 1 :]:
            if (second["start_s"] or 0.0) >= end:
                break
            count += first["fold"] != second["fold"]
    return count


def _clip_columns(rows: _Rows, *, with_ids: bool = True) -> LeakageFinding:
    """Return the columns that name the clips of a finding."""
    columns: LeakageFinding = {"clips": len(rows), "folds": ",".join(str(f) for f in sorted({r["fold"] for r in rows}))}
    return {**columns, "clip_ids": ", ".join(sorted(r["clip"] for r in rows))} if with_ids else columns
