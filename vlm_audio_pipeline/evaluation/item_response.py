"""The table `item_response`: a mixed logistic model of correct predictions over clips, models and annotators.

logit P(correct) = ability of the model - difficulty of the clip (Rasch 1960; with normal difficulties a generalised linear mixed
model: De Boeck and Wilson, Explanatory Item Response Models, 2004). Annotators of one classifier have a common ability and a normal
deviation each. statsmodels' `BinomialBayesMixedGLM` fits it by variational Bayes.

Belongs here: predictions -> design matrices, and rows. Does not belong here: accuracies and their differences (`contrast_results`),
which need no model.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.tables import build_rows

ABILITY_SD = 3.0
"""Standard deviation of the normal prior of abilities, logits: wide."""
_Z = 1.959963984540054


def item_response_table(predictions: Mapping[str, pa.Table]) -> pa.Table:
    """Fit the model to the predictions without controls, with every classifier and scoring as one model.

    Args:
        predictions: classifier -> its `predictions` rows.

    Returns:
        `item_response` rows without `study`: an ability of each model, a difficulty of each clip, and the spreads. One row with the
        reason if the model cannot be fitted.
    """
    columns = ["scoring", "control", "clip", "annotator", "correct"]
    rows = [
        {**row, "classifier": classifier}
        for classifier, table in predictions.items()
        for row in table.select(columns).to_pylist()
        if row["control"] == "none"
    ]
    models = sorted({(row["classifier"], row["scoring"]) for row in rows})
    clips = sorted({row["clip"] for row in rows})
    annotators = sorted({row["annotator"] for row in rows if row["annotator"]})
    if reason := _undefined_reason(models, clips, rows):
        lines = [{"kind": "model", "name": "", "scoring": "", "reason": reason, "predictions": len(rows)}]
        return build_rows("item_response", lines)
    model_number, clip_number, annotator_number = (
        {name: i for i, name in enumerate(x)} for x in (models, clips, annotators)
    )
    correct = np.array([row["correct"] for row in rows], float)
    model_of = np.array([model_number[row["classifier"], row["scoring"]] for row in rows])
    clip_of = np.array([clip_number[row["clip"]] for row in rows])
    annotator_of = np.array([annotator_number.get(row["annotator"], -1) for row in rows])
    fit = fit_rasch(correct, model_of, clip_of, annotator_of if len(annotators) > 1 else None)
    counts = np.bincount(model_of)
    lines = [
        _line("ability", *models[i], mean, sd, int(counts[i]))
        for i, (mean, sd) in enumerate(zip(*fit["ability"], strict=True))
    ]
    clip_counts = np.bincount(clip_of)
    lines += [
        _line("difficulty", clips[i], "", -mean, sd, int(clip_counts[i]))
        for i, (mean, sd) in enumerate(zip(*fit["easiness"], strict=True))
    ]
    for name, (mean, sd) in fit["spread"].items():
        low, high = np.exp([mean - _Z * sd, mean + _Z * sd])
        value = {"value": float(np.exp(mean)), "low": float(low), "high": float(high)}
        lines.append({"kind": "spread", "name": name, "scoring": "", **value, "predictions": len(rows)})
    return build_rows("item_response", lines)


def _undefined_reason(models: Sequence[Any], clips: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    if find_spec("statsmodels") is None:
        return "needs the package statsmodels; pip install 'vlm-audio-pipeline[analyses]'"
    if len(models) < 2 or len(clips) < 10:
        return f"needs 2 models and 10 clips with predictions, got {len(models)} and {len(clips)}"
    if len({row["correct"] for row in rows}) < 2:
        return "all predictions are correct, or all are wrong"
    return None


def _line(kind: str, name: str, scoring: str, mean: float, sd: float, predictions: int) -> dict[str, Any]:
    low, high = float(mean - _Z * sd), float(mean + _Z * sd)
    return {"kind": kind, "name": name, "scoring": scoring, "value": float(mean), "low": low, "high": high} | {
        "predictions": predictions
    }


def fit_rasch(
    correct: np.ndarray, model: np.ndarray, clip: np.ndarray, annotator: np.ndarray | None = None
) -> dict[str, Any]:
    """Fit the model by variational Bayes.

    Args:
        correct: (n,) float, 0 or 1.
        model: (n,) int from 0.
        clip: (n,) int from 0.
        annotator: (n,) int from 0, -1 for predictions that no annotator made; None for a model without annotators.

    Returns:
        `ability` and `easiness`: posterior means and standard deviations, logits; `spread`: clips and annotators -> mean and standard
        deviation of the logarithm of the standard deviation of their effects.
    """
    from scipy import sparse
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    n = len(correct)
    effects = [sparse.csr_matrix((np.ones(n), (np.arange(n), clip)))]
    names = ["clips"]
    if annotator is not None:
        is_annotated = annotator >= 0
        effects.append(
            sparse.csr_matrix(
                (np.ones(is_annotated.sum()), (np.flatnonzero(is_annotated), annotator[is_annotated])),
                shape=(n, annotator.max() + 1),
            )
        )
        names.append("annotators")
    kind = np.repeat(np.arange(len(effects)), [matrix.shape[1] for matrix in effects])
    design = BinomialBayesMixedGLM(
        correct, np.eye(model.max() + 1)[model], sparse.hstack(effects).tocsr(), kind, vcp_p=1.0, fe_p=ABILITY_SD
    )
    fit = design.fit_vb()
    clips = effects[0].shape[1]
    return {
        "ability": (fit.fe_mean, fit.fe_sd),
        "easiness": (fit.vc_mean[:clips], fit.vc_sd[:clips]),
        "spread": {name: (fit.vcp_mean[i], fit.vcp_sd[i]) for i, name in enumerate(names)},
    }
