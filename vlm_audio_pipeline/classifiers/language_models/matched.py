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
    asked = [at[clip] for clip in queries["clip"].to_pylist()]
    made = []
    for trial in sorted(set(shown["trial"].to_pylist())):
        mine = shown.filter(pc.equal(shown["trial"], trial))
        learnt = [at[clip] for clip in mine["clip"].to_pylist()]
        serves = np.array(mine["query"].to_pylist(), dtype=object)
        far = distances(z[asked], z[learnt], "cosine")
        ids = np.array(queries["clip"].to_pylist(), dtype=object)
        far[(serves[None, :] != "") & (serves[None, :] != ids[:, None])] = np.inf  # another query's examples
        labels = np.array([classes.index(label) for label in mine["shown_label"].to_pylist()], int)
        scores = votes(far, labels, k, len(classes))
        each = int(np.isfinite(far[0]).sum()) if len(far) else 0
        fixed = {"scoring": "examples_knn", "trial": trial, "training_clips": each, **constants}
        made.append(scored_predictions(queries, classes, scores, **fixed))
    return pa.concat_tables(made)
