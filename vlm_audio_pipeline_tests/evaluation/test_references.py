import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.evaluation.references import expected_accuracy


def test_the_expected_accuracy_of_chance():
    assert expected_accuracy("chance", np.array(["a", "b"]), np.array([1, 2]), 10).tolist() == [0.1, 0.1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), min_size=2, max_size=40))
def test_majority_equals_scikit_learn_if_one_class_is_most_frequent(pairs):
    from sklearn.dummy import DummyClassifier

    labels, folds = (np.array(column) for column in zip(*pairs, strict=True))
    accuracy = expected_accuracy("majority", labels, folds, 3)
    for fold in set(folds.tolist()):
        in_fold, others = folds == fold, labels[folds != fold]
        counts = np.sort(np.unique(others, return_counts=True)[1])
        if not len(others):
            assert np.isnan(accuracy[in_fold]).all()
        elif len(counts) == 1 or counts[-1] > counts[-2]:
            classifier = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(others), 1)), others)
            assert accuracy[in_fold].mean() == pytest.approx(
                classifier.score(np.zeros((in_fold.sum(), 1)), labels[in_fold])
            )
        else:
            leading = (counts == counts[-1]).sum()
            assert set(np.round(accuracy[in_fold], 9)) <= {0.0, round(1 / leading, 9)}
