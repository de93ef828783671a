"""Average precision and F1 of segments agree with sed_scores_eval, sed_eval and scikit-learn.

sed_scores_eval 0.0.4 (`segment_based.average_precision`) and sed_eval 0.2.1 (`SegmentBasedMetrics`) computed the values below once, on
two recordings of 40 segments of one second, with the labels and scores of `labels_and_scores` and a threshold of 0.5. They are not
installed for tests: they need librosa, numba and a package that replaces a module of the standard library.
"""

import numpy as np
import pytest

from vlm_audio_pipeline.tasks.multi_label.measures.declarations import estimates
from vlm_audio_pipeline_tests.tasks.multi_label.measures.label_arrays import label_arrays

CLASSES = ("dog", "rain", "wind")
SED_SCORES_EVAL = {"dog": 0.37813315639988065, "rain": 0.3943532363147661, "wind": 0.5134852962160847}
SED_EVAL = {"dog": 0.4722222222222222, "rain": 0.42857142857142855, "wind": 0.5316455696202531}


def labels_and_scores():
    """Return labels and scores, (80, 3), computed without random numbers; some scores are equal."""
    cells = [(f, i, c) for f in range(2) for i in range(40) for c in range(3)]
    truth = [(i * i + 3 * c * i + 5 * f) % 7 < 2 + c for f, i, c in cells]
    score = [
        (((i + 41 * f) * 37 + c * 53 + 40 * has * ((i + c) % 3)) % 101) / 100
        for (f, i, c), has in zip(cells, truth, strict=True)
    ]
    return np.array(truth).reshape(80, 3), np.array(score).reshape(80, 3)


def test_agreement_within_1e_9():
    from sklearn.metrics import average_precision_score, f1_score

    truth, score = labels_and_scores()
    predicted = score > 0.5
    found = {
        (name, label): estimate.value
        for name, label, estimate in estimates(label_arrays(truth, score, predicted, classes=CLASSES))
    }
    for k, label in enumerate(CLASSES):
        assert found["ap", label] == pytest.approx(SED_SCORES_EVAL[label], abs=1e-9)
        assert found["ap", label] == pytest.approx(average_precision_score(truth[:, k], score[:, k]), abs=1e-9)
        assert found["f1", label] == pytest.approx(SED_EVAL[label], abs=1e-9)
        assert found["f1", label] == pytest.approx(f1_score(truth[:, k], predicted[:, k]), abs=1e-9)
    assert found["cmap", ""] == pytest.approx(0.42865722964357716, abs=1e-9)  # sed_scores_eval's mean over classes
    assert found["f1_macro", ""] == pytest.approx(0.47747974013796796, abs=1e-9)  # sed_eval's class-wise average
