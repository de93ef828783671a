"""Temperature scaling of scores, fitted across folds."""

from dataclasses import replace

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.predicting import fit_temperature
from vlm_audio_pipeline.classifiers.prediction_rows import softmax
from vlm_audio_pipeline.measures.predictions import PredictionArrays
from vlm_audio_pipeline.measures.probabilities import probability_rows


def apply_temperature(predictions: PredictionArrays) -> PredictionArrays:
    """Scale the scores of each fold by the temperature fitted on all other folds: p^(1/T), normalised to sum 1.

    Guo et al., On Calibration of Modern Neural Networks (ICML 2017), section 4.2: one temperature for all classes, so no
    predicted label changes.

    Args:
        predictions: predictions of all folds that exist.

    Returns:
        The same predictions with `scaled` and `temperatures`. `scaled` has the scaled scores, and the highest of them as
        confidence; NaN where no temperature could be fitted: without other folds, or if a true class in them has
        probability 0, which no temperature can change.
    """
    scored, _ = probability_rows(predictions)
    truth = predictions.label_index
    true_scores = np.where(scored, predictions.scores[np.arange(len(truth)), truth], 0.0)
    with np.errstate(divide="ignore"):
        logits = np.log(np.where(scored[:, None], predictions.scores, np.nan))
    scores, temperatures = np.full_like(predictions.scores, np.nan), {}
    for fold in np.unique(predictions.fold):
        others, in_fold = scored & (predictions.fold != fold), scored & (predictions.fold == fold)
        if not others.any() or (true_scores[others] == 0).any() or not in_fold.any():
            continue
        temperatures[int(fold)] = temperature = fit_temperature(logits[others], truth[others])
        scores[in_fold] = softmax(logits[in_fold] / temperature)
    scaled = replace(predictions, scores=scores, confidence=scores.max(axis=1))
    return replace(predictions, scaled=scaled, temperatures=temperatures)
