"""What may make held-out clips less than new: looked for, and told whether found or not.

What belongs here: findings about clips, folds, examples and training data, in words. What does not: mending them, which
is for whoever makes the dataset or the study.

Near duplicates are pairs of clips in different folds whose vectors have a cosine above 0.99, every dimension brought to
mean 0 and standard deviation 1 first. Without that, the numbers all clips have in common decide: of the 80,000 pairs of
ESC-10, classical features as they are give 1,212 such pairs across folds, standardised none; the nearest are two
recordings of rain at 0.9895. Vectors of few dimensions are alike by chance and are not asked.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.encoders.base import ModelCard
from vlm_audio_pipeline.evaluation.spaces import Space
from vlm_audio_pipeline.evaluation.tables import rows_of

NEAR = 0.99
"""Cosine of standardised vectors above which two clips count as near duplicates."""
LEAST_DIMENSIONS = 32
"""Vectors shorter than this are not asked for near duplicates."""
MOST_PAIRS = 100
"""Pairs of near duplicates that get a row of their own, the most alike ones; the summary counts all."""
HELD_IN = {"esc10": ("ESC-10", "ESC-50", "FreeSound"), "esc50": ("ESC-50", "FreeSound")}
"""Kind of dataset -> collections that hold its recordings, as model cards name them."""

_UNTOLD = ("not known", "unknown", "undisclosed")  # how cards begin that do not say

Finding = dict[str, Any]


def leakage_table(
    clips: pa.Table,
    embeddings: Mapping[str, pa.Table],
    examples: Mapping[str, pa.Table],
    cards: Mapping[str, ModelCard],
    dataset: str,
) -> pa.Table:
    """Look for leaks of every kind.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: encoder -> its `embeddings` rows; asked for near duplicates.
        examples: few-shot classifier -> its `examples` rows.
        cards: encoder or classifier -> the card of its model; those without weights have no training data.
        dataset: kind of the dataset.

    Returns:
        `leakage` rows without `study`. Every kind has a row that says what was looked at, found or not.
    """
    findings = [
        *_sources(clips),
        *_copies(clips),
        *(f for name, rows in embeddings.items() for f in _near(name, Space.of(clips, rows))),
        *(f for name, rows in examples.items() for f in _examples(name, rows, clips)),
        *(_training(name, card, dataset) for name, card in cards.items()),
    ]
    return rows_of("leakage", [{"subject": "", "looked_at": None, "clips": 0, "folds": "", **f} for f in findings])


def _where(clips: pa.Table, ids: list[str]) -> Finding:
    """Give the columns that say which clips a finding concerns."""
    here = clips.filter(pc.is_in(clips["clip"], value_set=pa.array(sorted(set(ids)), pa.string())))
    folds = ",".join(str(f) for f in sorted(set(here["fold"].to_pylist())))
    return {"clips": here.num_rows, "folds": folds, "clip_ids": ", ".join(sorted(here["clip"].to_pylist()))}


def _grouped(clips: pa.Table, column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in clips.select(["clip", "fold", "label", column]).to_pylist():
        groups.setdefault(row[column], []).append(row)
    return groups


def _sources(clips: pa.Table) -> Iterator[Finding]:
    kind, groups = "source_across_folds", _grouped(clips, "source")
    split = {source: rows for source, rows in groups.items() if len({r["fold"] for r in rows}) > 1}
    concerned = _where(clips, [r["clip"] for rows in split.values() for r in rows])
    folds = len(set(clips["fold"].to_pylist()))
    yield {
        "kind": kind,
        "severity": "leak" if split else "clean" if folds > 1 else "unknown",
        "found": len(split),
        "looked_at": len(groups),
        "clips": concerned["clips"],
        "folds": concerned["folds"],
        "finding": f"{len(split)} of {len(groups)} sources in two folds or more"
        + ("" if folds > 1 else f"; only {folds} fold made so far"),
    }
    for source, rows in sorted(split.items()):
        where = _where(clips, [r["clip"] for r in rows])
        text = f"source {source} has clips in folds {where['folds']}: what is learnt of it in one is known in the other"
        yield {"kind": kind, "subject": source, "severity": "leak", "found": 1, "finding": text, **where}


def _copies(clips: pa.Table) -> Iterator[Finding]:
    kind = "exact_duplicate"
    groups = {sha: rows for sha, rows in _grouped(clips, "samples_sha256").items() if len(rows) > 1}
    across = sum(len({r["fold"] for r in rows}) > 1 for rows in groups.values())
    concerned = _where(clips, [r["clip"] for rows in groups.values() for r in rows])
    yield {
        "kind": kind,
        "severity": "leak" if across else "suspect" if groups else "clean",
        "found": len(groups),
        "looked_at": clips.num_rows,
        "clips": concerned["clips"],
        "folds": concerned["folds"],
        "finding": f"{len(groups)} groups of clips with the same samples among {clips.num_rows} clips, {across} of them across folds",
    }
    for rows in sorted(groups.values(), key=lambda rows: min(r["clip"] for r in rows)):
        where, labels = _where(clips, [r["clip"] for r in rows]), sorted({r["label"] for r in rows})
        apart = "," in where["folds"]
        text = f"{where['clip_ids']} have the same samples, " + ("in different folds" if apart else "counted as often")
        if len(labels) > 1:
            text += f", under different labels: {', '.join(labels)}"
        severity = "leak" if apart else "suspect"
        yield {"kind": kind, "subject": where["clip_ids"], "severity": severity, "found": 1, "finding": text, **where}


def _near(encoder: str, space: Space) -> Iterator[Finding]:
    kind, (n, dimensions) = "near_duplicate", space.x.shape
    known = {"kind": kind, "subject": encoder, "looked_at": n, "found": 0}
    if dimensions < LEAST_DIMENSIONS or n < 2:
        why = f"vectors of {dimensions} dimensions are alike by chance" if n > 1 else f"{n} clips have a vector yet"
        yield {**known, "severity": "unknown", "finding": f"by {encoder}: cannot be told, {why}"}
        return
    first, second, cosine = _pairs(space)
    there = [int(i) for i in np.union1d(first, second)]
    yield {
        **known,
        "severity": "suspect" if len(first) else "clean",
        "found": len(first),
        "clips": len(there),
        "folds": ",".join(str(f) for f in sorted(set(space.fold[there].tolist()))),
        "finding": f"by {encoder}: {len(first)} pairs of clips in different folds with a cosine above {NEAR} among {n} clips"
        + (f"; the {MOST_PAIRS} most alike are listed" if len(first) > MOST_PAIRS else ""),
    }
    for i, j, value in list(zip(first, second, cosine, strict=True))[:MOST_PAIRS]:
        a, b = str(space.clip[i]), str(space.clip[j])
        folds = sorted({int(space.fold[i]), int(space.fold[j])})
        same = "of one class" if space.label[i] == space.label[j] else f"called {space.label[i]} and {space.label[j]}"
        yield {
            "kind": kind,
            "subject": f"{encoder}: {a} ~ {b}",
            "severity": "suspect",
            "found": 1,
            "clips": 2,
            "folds": ",".join(map(str, folds)),
            "clip_ids": f"{a}, {b}",
            "similarity": float(value),
            "finding": f"by {encoder}: {a} and {b}, {same}, in different folds, have a cosine of {value:.4f}",
        }


def _pairs(space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give pairs (i < j) of clips in different folds above `NEAR`, the most alike first, block by block."""
    unit, found = space.unit, []
    for start in range(0, len(unit), 1000):
        cosine = unit[start : start + 1000] @ unit.T
        near = (cosine > NEAR) & (space.fold[start : start + 1000, None] != space.fold[None, :])
        i, j = np.nonzero(near)
        later = i + start < j
        found.append(np.stack([i[later] + start, j[later], cosine[i[later], j[later]]]))
    first, second, value = np.concatenate(found, axis=1)
    order = np.lexsort((second, first, -value))
    return first[order].astype(int), second[order].astype(int), value[order]


def _examples(classifier: str, examples: pa.Table, clips: pa.Table) -> Iterator[Finding]:
    """Compare each example with its query; where examples serve a whole fold, with every clip of that fold."""
    kind = "example_of_query_source"
    of_fold: dict[int, dict[str, list[str]]] = {}
    source_of: dict[str, str] = {}
    for row in clips.select(["clip", "fold", "source"]).to_pylist():
        of_fold.setdefault(row["fold"], {}).setdefault(row["source"], []).append(row["clip"])
        source_of[row["clip"]] = row["source"]
    bad: dict[tuple[str, str], list[str]] = {}
    for row in examples.select(["fold", "query", "clip", "source"]).to_pylist():
        if row["query"]:
            met = [row["query"]] if source_of.get(row["query"]) == row["source"] else []
        else:
            met = of_fold.get(row["fold"], {}).get(row["source"], [])
        if met:
            bad.setdefault((row["clip"], row["source"]), []).extend(met)
    concerned = _where(clips, [q for queries in bad.values() for q in queries])
    yield {
        "kind": kind,
        "subject": classifier,
        "severity": "leak" if bad else "clean" if examples.num_rows else "unknown",
        "found": len(bad),
        "looked_at": examples.num_rows,
        "clips": concerned["clips"],
        "folds": concerned["folds"],
        "finding": f"{classifier}: {len(bad)} clips shown as examples to queries of their own source, in {examples.num_rows} examples",
    }
    for (clip, source), queries in sorted(bad.items()):
        where = _where(clips, queries)
        text = (
            f"{classifier}: {clip} of source {source} was shown as an example to {where['clips']} clips of that source"
        )
        subject = f"{classifier}: {clip}"
        yield {"kind": kind, "subject": subject, "severity": "leak", "found": 1, "finding": text, **where}


def _training(name: str, card: ModelCard, dataset: str) -> Finding:
    """Hold what a card says of training data against the collections that this dataset's recordings are in."""
    held = {_plain(c): c for c in (*HELD_IN.get(dataset, ()), dataset)}
    hits = [o for o in card.overlaps if _plain(o) in held]
    if hits:
        severity, text = (
            "suspect",
            f"its training data holds recordings of {', '.join(hits)}, so clips may not be new to it",
        )
    elif card.overlaps:
        severity = "clean" if dataset in HELD_IN else "unknown"
        text = f"its training data is known to hold {', '.join(card.overlaps)}" + (
            ", which this dataset is not from"
            if severity == "clean"
            else "; whether these clips are from there is not known"
        )
    elif card.training_data == "none":
        severity, text = "clean", "nothing was learnt from recordings"
    elif card.training_data and not card.training_data.casefold().startswith(_UNTOLD):
        severity, text = "clean", f"its card names no training data that holds this dataset: {card.training_data}"
    else:
        severity, text = "unknown", "its card does not say what it was trained on"
    return {
        "kind": "training_data",
        "subject": name,
        "severity": severity,
        "found": len(hits),
        "looked_at": len(card.overlaps),
        "finding": f"{name} ({card.title}): {text}",
    }


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
