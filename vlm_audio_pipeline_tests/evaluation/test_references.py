import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from vlm_audio_pipeline.evaluation.references import expected


def test_chance():
    assert expected("chance", np.array(["a", "b"]), np.array([1, 2]), 10).tolist() == [0.1, 0.1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), min_size=2, max_size=40))
def test_majority_is_scikit_learns_where_one_class_leads(pairs):
    labels, folds = (np.array(column) for column in zip(*pairs, strict=True))
    got = expected("majority", labels, folds, 3)
    for fold in set(folds.tolist()):
        here, others = folds == fold, labels[folds != fold]
        counts = np.sort(np.unique(others, return_counts=True)[1])
        if not len(others):
            assert np.isnan(got[here]).all()
        elif len(counts) == 1 or counts[-1] > counts[-2]:
            theirs = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(others), 1)), others)
            assert got[here].mean() == pytest.approx(theirs.score(np.zeros((here.sum(), 1)), labels[here]))
        else:
            leading = (counts == counts[-1]).sum()
            assert set(np.round(got[here], 9)) <= {0.0, round(1 / leading, 9)}
