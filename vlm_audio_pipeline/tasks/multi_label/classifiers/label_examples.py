"""Examples in the prompt of a multi-label study: for each class, clips with it and clips without it, from other folds.

A clip is a candidate if it is in another fold and its source recording has no clip in the fold of the queries. Candidates are ranked
by a hash of (seed, draw, class, with or without, clip), so an added or removed clip does not change the order of the others.
Clips of a source recording that the class already has an example of rank behind all others.

Belongs here: the choice of clips. Does not belong here: how an example is shown (`label_questions`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_questions import NO, SEPARATOR, YES, Question

_WORDS = {True: "with", False: "without"}


def select_label_examples(
    clips: pa.Table,
    truth: np.ndarray,
    classes: Sequence[str],
    fold: int,
    *,
    shots: int,
    seed: int,
    draw: int = 0,
    order: Sequence[str],
    question: Question,
    content: Mapping[str, str],
) -> pa.Table:
    """Select the examples for the clips of a fold.

    For each class in `order`, `shots` clips with it and as many without it. The question `yes_no` shows the answer about this class;
    which of yes and no comes first alternates from class to class. The question `list` shows all classes of a clip, each clip once.

    Args:
        clips: n rows of `clips` of all folds.
        truth: (n, classes) bool, columns in the order of `classes`.
        classes: the classes of the study.
        fold: the fold of the queries.
        shots: number of clips with each class, and number without it.
        seed: random seed.
        draw: number of the draw, from 0.
        order: order of the classes among the examples.
        question: see above.
        content: clip -> SHA-256 of its image or audio.

    Returns:
        `examples` rows without `trial`.

    Raises:
        VlmAudioError: if a class has too few candidates with it or without it.
    """
    ids, sources, labels = (clips[name].to_pylist() for name in ("clip", "source", "label"))
    in_fold = clips["fold"].to_numpy() == fold
    query_sources = {source for source, is_query in zip(sources, in_fold, strict=True) if is_query}
    candidates = [i for i in np.flatnonzero(~in_fold).tolist() if sources[i] not in query_sources]

    def ranked(label: str, has_class: bool) -> list[int]:
        column = list(classes).index(label)
        keys = {
            i: fingerprint("label example", seed, draw, label, has_class, ids[i], length=32)
            for i in candidates
            if bool(truth[i, column]) == has_class
        }
        turns: dict[int, int] = {}
        counts: dict[str, int] = {}
        for i in sorted(keys, key=keys.__getitem__):
            turns[i] = counts[sources[i]] = counts.get(sources[i], 0) + 1
        found = sorted(turns, key=turns.__getitem__)
        if len(found) < shots:
            raise VlmAudioError(
                f"class '{label}' needs {shots} candidates {_WORDS[has_class]} it for fold {fold} (clips of other folds and other "
                f"recordings), but has {len(found)}; use fewer shots, or distribute the class over more folds"
            )
        return found[:shots]

    chosen: list[tuple[int, str]] = []  # clip, and what the example shows
    by_class = {(label, has): ranked(label, has) for label in order for has in (True, False)}
    for shot in range(shots):
        for position, label in enumerate(order):
            for has_class in (True, False) if position % 2 == 0 else (False, True):
                i = by_class[label, has_class][shot]
                if question == "yes_no":
                    shown = f"{label}: {YES if has_class else NO}"
                else:
                    shown = SEPARATOR.join(name for name, has in zip(classes, truth[i], strict=True) if has)
                chosen.append((i, shown))
    if question == "list":
        chosen = list(dict(chosen).items())
    rows: list[dict[str, Any]] = [
        {
            "query": "",
            "position": position,
            "clip": ids[i],
            "label": labels[i],
            "source": sources[i],
            "example_label": shown,
            "content_sha256": content[ids[i]],
        }
        for position, (i, shown) in enumerate(chosen)
    ]
    names = ("clip", "label", "source", "example_label", "content_sha256")
    schema = [("query", pa.string()), ("position", pa.int64()), *((name, pa.string()) for name in names)]
    return pa.Table.from_pylist(rows, pa.schema(schema))
