"""The matched baseline of a few-shot model: a k-NN over the very examples it was shown.

What belongs here: votes of shown examples. What does not: a k-NN over all labelled clips (`knn`), which knows far more.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.base import scored_predictions
from vlm_audio_pipeline.classifiers.knn import distances, votes
from vlm_audio_pipeline.classifiers.probe import standardisation


def matched_predictions(
    shown: pa.Table,
    clips: pa.Table,
    vectors: np.ndarray,
    fold: int,
    classes: tuple[str, ...],
    queries: pa.Table,
    *,
    k: int,
    **constants: Any,
) -> pa.Table:
    """Ask a k-NN that knows the very same examples and nothing else: the matched baseline of a few-shot model.

    Vectors are standardised over the other folds and compared by cosine, as the `knn` classifier does by default. Under
    permuted labels it learns what the model is shown: the permuted ones.

    Args:
        shown: `examples` rows of the fold, of one trial or more.
        clips: `clips` rows of all folds.
        vectors: (clips, dimensions) float, rows in the order of `clips`.
        fold: the fold asked about.
        classes: the labels of the study, the order of ties and scores.
        queries: `clips` rows asked about.
        k: examples that vote; shots a class, as a rule.
        constants: columns with one value for all rows: `kind`, `encoder`, `model`, `shots`, ...

    Returns:
        a row of `predictions` for every query and trial, scoring "examples_knn", `training_clips` the examples it knew.

    Raises:
        VlmAudioError: for a query without examples.
    """
    at = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
    mean, scale = standardisation(vectors[clips["fold"].to_numpy() != fold].astype(np.float64))
    z = (vectors.astype(np.float64) - mean) / scale
    ids = queries["clip"].to_pylist()
    known = sorted({at[clip] for clip in shown["clip"].to_pylist()})
    far = distances(z[[at[clip] for clip in ids]], z[known], "cosine")
    column = {clips_row: i for i, clips_row in enumerate(known)}
    made = []
    for trial in sorted(set(shown["trial"].to_pylist())):
        serving: dict[str, list[tuple[int, int]]] = {}
        for row in shown.filter(pc.equal(shown["trial"], trial)).to_pylist():
            example = column[at[row["clip"]]], classes.index(row["shown_label"])
            serving.setdefault(row["query"], []).append(example)
        scores, learnt = np.zeros((len(ids), len(classes))), 0
        for i, clip in enumerate(ids):
            columns, labels = np.array(serving.get("") or serving.get(clip) or np.zeros((0, 2), int)).T
            scores[i], learnt = votes(far[i : i + 1, columns], labels, k, len(classes))[0], len(labels)
        fixed = {"scoring": "examples_knn", "trial": trial, "training_clips": learnt, **constants}
        made.append(scored_predictions(queries, classes, scores, **fixed))
    return pa.concat_tables(made)
