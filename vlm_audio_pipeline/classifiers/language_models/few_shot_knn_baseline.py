"""The k-NN baseline of a few-shot language model: k-NN on the examples in the model's prompt."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.knn import distances, votes
from vlm_audio_pipeline.classifiers.prediction_rows import scored_predictions
from vlm_audio_pipeline.classifiers.probe import standardisation


def few_shot_knn_predictions(
    examples: pa.Table,
    clips: pa.Table,
    vectors: np.ndarray,
    fold: int,
    classes: tuple[str, ...],
    queries: pa.Table,
    *,
    k: int,
    **constants: Any,
) -> pa.Table:
    """Classify by k-NN with the examples of a few-shot model as the only training clips.

    Vectors are standardised over the other folds and compared by cosine distance, as the classifier `knn` does by default.
    Permuted labels are used, as in the prompt.

    Args:
        examples: `examples` rows of the fold, of one trial or more.
        clips: `clips` rows of all folds.
        vectors: (clips, dimensions) float, rows in the order of `clips`.
        fold: the fold of the queries.
        classes: the labels of the study; of classes with equal scores, the first is predicted.
        queries: `clips` rows to classify.
        k: number of examples that vote; by convention the shots of a class.
        constants: columns with one value for all rows: `kind`, `encoder`, `model`, `shots`, ...

    Returns:
        A row of `predictions` for every query and trial, scoring "examples_knn"; `training_clips` is the number of examples.

    Raises:
        VlmAudioError: if a query has no examples.
    """
    row_of = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
    mean, scale = standardisation(vectors[clips["fold"].to_numpy() != fold].astype(np.float64))
    z = (vectors.astype(np.float64) - mean) / scale
    query_ids = queries["clip"].to_pylist()
    example_rows = sorted({row_of[clip] for clip in examples["clip"].to_pylist()})
    distance = distances(z[[row_of[clip] for clip in query_ids]], z[example_rows], "cosine")
    column_of = {row: column for column, row in enumerate(example_rows)}
    predictions = []
    for trial in sorted(set(examples["trial"].to_pylist())):
        by_query: dict[str, list[tuple[int, int]]] = {}  # query, or "" for examples of all queries -> (column, class)
        for row in examples.filter(pc.equal(examples["trial"], trial)).to_pylist():
            example = column_of[row_of[row["clip"]]], classes.index(row["example_label"])
            by_query.setdefault(row["query"], []).append(example)
        scores, training_clips = np.zeros((len(query_ids), len(classes))), 0
        for i, clip in enumerate(query_ids):
            columns, labels = np.array(by_query.get("") or by_query.get(clip) or np.zeros((0, 2), int)).T
            scores[i] = votes(distance[i : i + 1, columns], labels, k, len(classes))[0]
            training_clips = len(labels)
        columns_of_trial = {"scoring": "examples_knn", "trial": trial, "training_clips": training_clips, **constants}
        predictions.append(scored_predictions(queries, classes, scores, **columns_of_trial))
    return pa.concat_tables(predictions)
