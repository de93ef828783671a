"""Multi-label predictions for tests."""

import numpy as np

from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays


def label_arrays(truth, score=None, predicted=None, outcome=None, source=None, classes=None) -> LabelArrays:
    """Build predictions of one pass; without sources, each clip is a recording of its own."""
    truth = np.array(truth, bool)
    n, k = truth.shape
    score = np.full((n, k), np.nan) if score is None else np.array(score, float)
    outcome = np.full((n, k), "answered") if outcome is None else np.array(outcome, str)
    is_decided = outcome == "answered"
    return LabelArrays(
        truth=truth,
        score=np.where(outcome == "answered", score, np.nan),
        predicted=(score >= 0.5 if predicted is None else np.array(predicted, bool)) & is_decided,
        outcome=outcome,
        is_decided=is_decided,
        clip=np.array([f"c{i}" for i in range(n)]),
        source=np.array([f"r{i}" for i in range(n)] if source is None else source),
        fold=np.ones(n, int),
        classes=classes or tuple("abcdefghij"[:k]),
    )
