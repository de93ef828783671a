"""Checks for leakage: whether held-out clips may have been in the training data or the examples.

Near duplicates are pairs of clips in different folds whose embeddings have a cosine above 0.99, after every dimension was
brought to mean 0 and standard deviation 1. Without that, numbers that all clips have in common dominate: among the 80,000
pairs of ESC-10, raw classical features give 1,212 such pairs across folds, standardised ones none; the nearest are two
recordings of rain at 0.9895. Embeddings of few dimensions are similar by chance and are not checked.

Belongs here: findings about clips, folds, examples and training data, in words. Does not belong here: removing leaks, which
is up to the author of the dataset or study.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.encoders.base import ModelCard
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.tables import rows_of

NEAR_DUPLICATE_COSINE = 0.99
"""Cosine of standardised embeddings above which two clips count as near duplicates."""
MIN_DIMENSIONS = 32
"""Embeddings with fewer dimensions are not checked for near duplicates."""
MAX_PAIRS = 100
"""Pairs of near duplicates that have a row of their own, the most similar ones; the summary counts all."""

_NOT_DISCLOSED = ("not known", "unknown", "undisclosed")
"""First words of a card that does not disclose its training data."""

Finding = dict[str, Any]


def leakage_table(
    clips: pa.Table,
    embeddings: Mapping[str, pa.Table],
    examples: Mapping[str, pa.Table],
    cards: Mapping[str, ModelCard],
    dataset: str,
    collections: tuple[str, ...] | None,
) -> pa.Table:
    """Check for leaks of every kind.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: encoder -> its `embeddings` rows, which are checked for near duplicates.
        examples: few-shot classifier -> its `examples` rows.
        cards: encoder or classifier -> the card of its model; those without weights have no training data.
        dataset: kind of the dataset.
        collections: collections that contain its recordings, as model cards name them; None: not known.

    Returns:
        `leakage` rows without `study`. Every kind of leak has a summary row, also without a finding.
    """
    findings = [
        *_split_sources(clips),
        *_exact_duplicates(clips),
        *(f for name, rows in embeddings.items() for f in _near_duplicates(name, EmbeddingMatrix.of(clips, rows))),
        *(f for name, rows in examples.items() for f in _examples_of_query_sources(name, rows, clips)),
        *(_training_data(name, card, dataset, collections) for name, card in cards.items()),
    ]
    return rows_of("leakage", [{"subject": "", "checked": None, "clips": 0, "folds": "", **f} for f in findings])


def _clip_columns(clips: pa.Table, ids: list[str]) -> Finding:
    """Return the columns that name the clips of a finding."""
    rows = clips.filter(pc.is_in(clips["clip"], value_set=pa.array(sorted(set(ids)), pa.string())))
    folds = ",".join(str(f) for f in sorted(set(rows["fold"].to_pylist())))
    return {"clips": rows.num_rows, "folds": folds, "clip_ids": ", ".join(sorted(rows["clip"].to_pylist()))}


def _group_by(clips: pa.Table, column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in clips.select(["clip", "fold", "label", column]).to_pylist():
        groups.setdefault(row[column], []).append(row)
    return groups


def _split_sources(clips: pa.Table) -> Iterator[Finding]:
    kind, groups = "source_across_folds", _group_by(clips, "source")
    split = {source: rows for source, rows in groups.items() if len({r["fold"] for r in rows}) > 1}
    columns = _clip_columns(clips, [r["clip"] for rows in split.values() for r in rows])
    folds = len(set(clips["fold"].to_pylist()))
    yield {
        "kind": kind,
        "severity": "leak" if split else "clean" if folds > 1 else "unknown",
        "count": len(split),
        "checked": len(groups),
        "clips": columns["clips"],
        "folds": columns["folds"],
        "finding": f"{len(split)} of {len(groups)} sources in two folds or more"
        + ("" if folds > 1 else f"; only {folds} fold was run so far"),
    }
    for source, rows in sorted(split.items()):
        columns = _clip_columns(clips, [r["clip"] for r in rows])
        text = (
            f"source {source} has clips in folds {columns['folds']}, so training clips and test clips share a recording"
        )
        yield {"kind": kind, "subject": source, "severity": "leak", "count": 1, "finding": text, **columns}


def _exact_duplicates(clips: pa.Table) -> Iterator[Finding]:
    kind = "exact_duplicate"
    groups = {sha: rows for sha, rows in _group_by(clips, "samples_sha256").items() if len(rows) > 1}
    across = sum(len({r["fold"] for r in rows}) > 1 for rows in groups.values())
    columns = _clip_columns(clips, [r["clip"] for rows in groups.values() for r in rows])
    yield {
        "kind": kind,
        "severity": "leak" if across else "suspect" if groups else "clean",
        "count": len(groups),
        "checked": clips.num_rows,
        "clips": columns["clips"],
        "folds": columns["folds"],
        "finding": f"{len(groups)} groups of clips with the same samples among {clips.num_rows} clips, {across} of them across folds",
    }
    for rows in sorted(groups.values(), key=lambda rows: min(r["clip"] for r in rows)):
        columns, labels = _clip_columns(clips, [r["clip"] for r in rows]), sorted({r["label"] for r in rows})
        in_several_folds = "," in columns["folds"]
        text = f"{columns['clip_ids']} have the same samples, "
        text += "in different folds" if in_several_folds else f"in one fold, where they count {len(rows)} times"
        if len(labels) > 1:
            text += f", under different labels: {', '.join(labels)}"
        severity = "leak" if in_several_folds else "suspect"
        yield {
            "kind": kind,
            "subject": columns["clip_ids"],
            "severity": severity,
            "count": 1,
            "finding": text,
            **columns,
        }


def _near_duplicates(encoder: str, embeddings: EmbeddingMatrix) -> Iterator[Finding]:
    kind, (n, dimensions) = "near_duplicate", embeddings.x.shape
    summary = {"kind": kind, "subject": encoder, "checked": n, "count": 0}
    if dimensions < MIN_DIMENSIONS or n < 2:
        reason = (
            f"embeddings of {dimensions} dimensions are similar by chance" if n > 1 else f"{n} clips have embeddings"
        )
        yield {**summary, "severity": "unknown", "finding": f"by {encoder}: not checked, {reason}"}
        return
    first, second, cosine = _similar_pairs(embeddings)
    concerned = [int(i) for i in np.union1d(first, second)]
    yield {
        **summary,
        "severity": "suspect" if len(first) else "clean",
        "count": len(first),
        "clips": len(concerned),
        "folds": ",".join(str(f) for f in sorted(set(embeddings.fold[concerned].tolist()))),
        "finding": f"by {encoder}: {len(first)} pairs of clips in different folds with a cosine above "
        f"{NEAR_DUPLICATE_COSINE} among {n} clips"
        + (f"; the {MAX_PAIRS} most similar are listed" if len(first) > MAX_PAIRS else ""),
    }
    for i, j, value in list(zip(first, second, cosine, strict=True))[:MAX_PAIRS]:
        a, b = str(embeddings.clip[i]), str(embeddings.clip[j])
        folds = sorted({int(embeddings.fold[i]), int(embeddings.fold[j])})
        labels = (embeddings.label[i], embeddings.label[j])
        relation = "of one class" if labels[0] == labels[1] else f"labelled {labels[0]} and {labels[1]}"
        yield {
            "kind": kind,
            "subject": f"{encoder}: {a} ~ {b}",
            "severity": "suspect",
            "count": 1,
            "clips": 2,
            "folds": ",".join(map(str, folds)),
            "clip_ids": f"{a}, {b}",
            "similarity": float(value),
            "finding": f"by {encoder}: {a} and {b}, {relation}, in different folds, have a cosine of {value:.4f}",
        }


def _similar_pairs(embeddings: EmbeddingMatrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs (i < j) of clips in different folds above `NEAR_DUPLICATE_COSINE`, most similar first."""
    unit, blocks = embeddings.unit, []
    for start in range(0, len(unit), 1000):  # in blocks, to bound memory
        cosine = unit[start : start + 1000] @ unit.T
        other_fold = embeddings.fold[start : start + 1000, None] != embeddings.fold[None, :]
        i, j = np.nonzero((cosine > NEAR_DUPLICATE_COSINE) & other_fold)
        later = i + start < j
        blocks.append(np.stack([i[later] + start, j[later], cosine[i[later], j[later]]]))
    first, second, value = np.concatenate(blocks, axis=1)
    order = np.lexsort((second, first, -value))
    return first[order].astype(int), second[order].astype(int), value[order]


def _examples_of_query_sources(classifier: str, examples: pa.Table, clips: pa.Table) -> Iterator[Finding]:
    """Compare each example with its query; examples that serve a whole fold with every clip of that fold."""
    kind = "example_of_query_source"
    clips_of_fold: dict[int, dict[str, list[str]]] = {}
    source_of: dict[str, str] = {}
    for row in clips.select(["clip", "fold", "source"]).to_pylist():
        clips_of_fold.setdefault(row["fold"], {}).setdefault(row["source"], []).append(row["clip"])
        source_of[row["clip"]] = row["source"]
    leaks: dict[tuple[str, str], list[str]] = {}
    for row in examples.select(["fold", "query", "clip", "source"]).to_pylist():
        if row["query"]:
            queries = [row["query"]] if source_of.get(row["query"]) == row["source"] else []
        else:
            queries = clips_of_fold.get(row["fold"], {}).get(row["source"], [])
        if queries:
            leaks.setdefault((row["clip"], row["source"]), []).extend(queries)
    columns = _clip_columns(clips, [q for queries in leaks.values() for q in queries])
    yield {
        "kind": kind,
        "subject": classifier,
        "severity": "leak" if leaks else "clean" if examples.num_rows else "unknown",
        "count": len(leaks),
        "checked": examples.num_rows,
        "clips": columns["clips"],
        "folds": columns["folds"],
        "finding": f"{classifier}: {len(leaks)} clips shown as examples to queries of their own source, in {examples.num_rows} examples",
    }
    for (clip, source), queries in sorted(leaks.items()):
        columns = _clip_columns(clips, queries)
        text = f"{classifier}: {clip} of source {source} is an example for {columns['clips']} clips of that source"
        subject = f"{classifier}: {clip}"
        yield {"kind": kind, "subject": subject, "severity": "leak", "count": 1, "finding": text, **columns}


def _training_data(name: str, card: ModelCard, dataset: str, collections: tuple[str, ...] | None) -> Finding:
    """Compare a card's training data with the collections that contain this dataset's recordings."""
    names = {_normalise(c) for c in (*(collections or ()), dataset)}
    overlaps = [o for o in card.overlaps if _normalise(o) in names]
    overlap_names = ", ".join(card.overlaps)
    if overlaps:
        severity = "suspect"
        text = f"its training data contains recordings of {', '.join(overlaps)}, and may contain these clips"
    elif card.overlaps and collections is not None:
        severity, text = (
            "clean",
            f"its training data is known to contain {overlap_names}, but this dataset does not come from there",
        )
    elif card.overlaps:
        severity = "unknown"
        text = f"its training data is known to contain {overlap_names}; whether these clips come from there is unknown"
    elif card.training_data == "none":
        severity, text = "clean", "it was not trained on recordings"
    elif card.training_data and not card.training_data.casefold().startswith(_NOT_DISCLOSED):
        severity, text = "clean", f"its card names no training data that contains this dataset: {card.training_data}"
    else:
        severity, text = "unknown", "its card does not name its training data"
    return {
        "kind": "training_data",
        "subject": name,
        "severity": severity,
        "count": len(overlaps),
        "checked": len(card.overlaps),
        "finding": f"{name} ({card.title}): {text}",
    }


def _normalise(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
