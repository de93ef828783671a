"""Checks for leakage: whether held-out clips may have been in the training data or the examples.

Belongs here: findings about clips, folds, examples and training data, in words. Does not belong here: removing leaks, which
is the task of the author of the dataset or study.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.evaluation.clip_sample import MAX_SEARCHED_CLIPS
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.near_duplicates import EXPECTED_NEIGHBOURS, near_duplicates
from vlm_audio_pipeline.evaluation.shared_files import LeakageFinding, find_alike_sources, find_shared_files
from vlm_audio_pipeline.evaluation.tables import build_rows

MAX_PAIRS = 100
"""Maximum number of pairs of near duplicates that have a row, the most similar first; the summary counts all pairs."""

_NOT_DISCLOSED = ("not known", "unknown", "undisclosed")
"""First words of `training_data` in a card that does not disclose it."""
_PARTLY_DISCLOSED = "not known in full"
"""First words of `training_data` in a card that discloses a part of it."""
_CARD_ONLY = "only the card was read, the weights were not examined"


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
        cards: encoder or classifier -> the card of its model; a method without weights has no training data.
        dataset: kind of the dataset.
        collections: collections that contain its recordings, as model cards name them; None if unknown.

    Returns:
        `leakage` rows without `study`. Every kind of leak has a summary row, even without a finding.
    """
    findings = [
        *_split_sources(clips),
        *find_shared_files(clips),
        *find_alike_sources(clips),
        *_exact_duplicates(clips),
        *(
            f
            for name, rows in embeddings.items()
            for f in _near_duplicates(name, EmbeddingMatrix.from_tables(clips, rows, MAX_SEARCHED_CLIPS))
        ),
        *(f for name, rows in examples.items() for f in _examples_of_query_sources(name, rows, clips)),
        *(_training_data(name, card, dataset, collections) for name, card in cards.items()),
    ]
    return build_rows("leakage", [{"subject": "", "checked": None, "clips": 0, "folds": "", **f} for f in findings])


def _clip_columns(clips: pa.Table, ids: list[str]) -> LeakageFinding:
    """Return the columns that name the clips of a finding."""
    rows = clips.filter(pc.is_in(clips["clip"], value_set=pa.array(sorted(set(ids)), pa.string())))
    folds = ",".join(str(f) for f in sorted(set(rows["fold"].to_pylist())))
    return {"clips": rows.num_rows, "folds": folds, "clip_ids": ", ".join(sorted(rows["clip"].to_pylist()))}


def _group_by(clips: pa.Table, column: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in clips.select(["clip", "fold", "label", column]).to_pylist():
        groups.setdefault(row[column], []).append(row)
    return groups


def _split_sources(clips: pa.Table) -> Iterator[LeakageFinding]:
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
        "finding": f"{len(split)} of {len(groups)} source recordings have clips in two folds or more"
        + ("" if folds > 1 else f"; only {folds} fold was run so far"),
    }
    for source, rows in sorted(split.items()):
        columns = _clip_columns(clips, [r["clip"] for r in rows])
        text = (
            f"source {source} has clips in folds {columns['folds']}, so training clips and test clips share a recording"
        )
        yield {"kind": kind, "subject": source, "severity": "leak", "count": 1, "finding": text, **columns}


def _exact_duplicates(clips: pa.Table) -> Iterator[LeakageFinding]:
    kind = "exact_duplicate"
    groups = {sha: rows for sha, rows in _group_by(clips, "samples_sha256").items() if len(rows) > 1}
    groups_across_folds = sum(len({r["fold"] for r in rows}) > 1 for rows in groups.values())
    columns = _clip_columns(clips, [r["clip"] for rows in groups.values() for r in rows])
    yield {
        "kind": kind,
        "severity": "leak" if groups_across_folds else "suspect" if groups else "clean",
        "count": len(groups),
        "checked": clips.num_rows,
        "clips": columns["clips"],
        "folds": columns["folds"],
        "finding": f"{len(groups)} groups of clips have the same samples ({clips.num_rows} clips were compared)"
        + (f"; {groups_across_folds} of these groups are in several folds" if groups else ""),
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


def _near_duplicates(encoder: str, embeddings: EmbeddingMatrix) -> Iterator[LeakageFinding]:
    kind, n = "near_duplicate", len(embeddings.clip)
    summary = {"kind": kind, "subject": encoder, "checked": n, "count": 0}
    pairs = near_duplicates(embeddings)
    if isinstance(pairs, str):
        finding = f"not checked by the embeddings of {encoder}, because {pairs}{embeddings.sample_note}"
        yield {**summary, "severity": "unknown", "finding": finding}
        return
    first, second, cosine = pairs.first, pairs.second, pairs.cosine
    clip_indices = [int(i) for i in np.union1d(first, second)]
    yield {
        **summary,
        "severity": "suspect" if len(first) else "unknown" if embeddings.sample_note else "clean",
        "count": len(first),
        "clips": len(clip_indices),
        "folds": ",".join(str(f) for f in sorted(set(embeddings.fold[clip_indices].tolist()))),
        "finding": f"{len(first)} pairs of clips in different folds have embeddings of {encoder} so similar that they may be "
        f"copies ({n} clips were compared). A pair counts if its distance is less than {_small_percent(pairs.threshold)} of the "
        "usual distance between clips of different recordings. If there are no copies, at most "
        f"{EXPECTED_NEIGHBOURS} such pairs are expected by chance"
        + (f". The {MAX_PAIRS} most similar are listed" if len(first) > MAX_PAIRS else "")
        + embeddings.sample_note,
    }
    for i, j, value in list(zip(first, second, cosine, strict=True))[:MAX_PAIRS]:
        a, b = str(embeddings.clip[i]), str(embeddings.clip[j])
        folds = sorted({int(embeddings.fold[i]), int(embeddings.fold[j])})
        relation = _relation(str(embeddings.label[i]), str(embeddings.label[j]))
        yield {
            "kind": kind,
            "subject": f"{encoder}: {a} ~ {b}",
            "severity": "suspect",
            "count": 1,
            "clips": 2,
            "folds": ",".join(map(str, folds)),
            "clip_ids": f"{a}, {b}",
            "similarity": float(value),
            "finding": f"{a} and {b}, {relation}, in different folds, have embeddings of {encoder} with a cosine of {rounded_text(value, 4)}",
        }


def _small_percent(share: float) -> str:
    """Return a share of 1 as a percentage with two significant digits, without an exponent.

    >>> _small_percent(0.0214), _small_percent(4.81e-06)
    ('2.1 %', '0.00048 %')
    """
    return f"{np.format_float_positional(100 * share, precision=2, fractional=False, trim='-')} %"


def _relation(first: str, second: str) -> str:
    """Return how the labels of two clips relate; a text of labels may list several classes, or none.

    >>> _relation("dog", "dog"), _relation("dog; rain", "dog; rain"), _relation("dog", "")
    ('of one class', 'with the same classes', 'labelled dog and nothing')
    """
    if first != second:
        return f"labelled {first or 'nothing'} and {second or 'nothing'}"
    return "of one class" if first and "; " not in first else "with the same classes"


def _examples_of_query_sources(classifier: str, examples: pa.Table, clips: pa.Table) -> Iterator[LeakageFinding]:
    """Compare each example with its query, or with every clip of the fold if the whole fold uses the same examples."""
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
        "finding": f"{len(leaks)} clips are examples of {classifier} for a query of their own source recording "
        f"({examples.num_rows} examples were checked)",
    }
    for (clip, source), queries in sorted(leaks.items()):
        columns = _clip_columns(clips, queries)
        text = f"{clip} of source {source} is an example of {classifier} for {columns['clips']} clips of that source"
        subject = f"{classifier}: {clip}"
        yield {"kind": kind, "subject": subject, "severity": "leak", "count": 1, "finding": text, **columns}


def _training_data(name: str, card: ModelCard, dataset: str, collections: tuple[str, ...] | None) -> LeakageFinding:
    """Compare a card's training data with the collections that contain this dataset's recordings."""
    names = {_normalise(c) for c in (*(collections or ()), dataset)}
    overlaps = [o for o in card.overlaps if _normalise(o) in names]
    overlap_names = ", ".join(card.overlaps)
    subject = f"the card of {name} ({card.title})"
    if overlaps:
        severity = "suspect"
        text = f"{subject} says that the training data contains recordings of {', '.join(overlaps)}, and so may contain these clips; {_CARD_ONLY}"
    elif card.overlaps and collections is not None:
        severity, text = (
            "clean",
            f"{subject} says that the training data contains {overlap_names}, but this dataset was not taken from it; {_CARD_ONLY}",
        )
    elif card.overlaps:
        severity = "unknown"
        text = f"{subject} says that the training data contains {overlap_names}; it is not known whether these clips were taken from it"
    elif card.training_data == "none":
        severity, text = "clean", f"{name} ({card.title}) has no weights, so it was not trained on recordings"
    elif card.training_data and not card.training_data.casefold().startswith(_NOT_DISCLOSED):
        severity, text = (
            "clean",
            f'{subject} names its training data, "{card.training_data}", and this dataset is not among them; {_CARD_ONLY}',
        )
    else:
        severity, text = "unknown", f"{subject} does not name the training data"
        if card.training_data.casefold().startswith(_PARTLY_DISCLOSED):
            text = f"{subject} does not name all of the training data ({card.training_data})"
    return {
        "kind": "training_data",
        "subject": name,
        "severity": severity,
        "count": len(overlaps),
        "checked": len(card.overlaps),
        "finding": text,
    }


def _normalise(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
