from collections import Counter

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.permuted_labels import permuted_labels, permuted_reference


def test_every_source_recording_gets_the_classes_of_one():
    source = np.array([0, 2, 1, 1, 2, 2])
    label = np.array([0, 1, 2, 2, 1, 3])  # source 2 has the classes 1, 1, 3
    seen = Counter(tuple(other.tolist()) for other in permuted_labels(label, source, 600))
    # three source recordings: six permutations. By source: 0 has 1 clip, 1 has 2, 2 has 3; classes are repeated or cut
    by_source = {"0": [0, 0, 0], "1": [2, 2, 2], "2": [1, 1, 3]}
    expected = set()
    for order in ("012", "021", "102", "120", "201", "210"):
        a, b, c = (by_source[s] for s in order)
        expected.add((a[0], c[0], b[0], b[1], c[1], c[2]))
    assert set(seen) == expected
    assert all(60 < count < 150 for count in seen.values()), "each of six has probability 1/6: 100 of 600, SD 9"


def test_the_reference_counts_permutations_with_at_least_the_value():
    permuted = np.array([0.1, 0.2, 0.3, np.nan])
    found = permuted_reference(0.2, permuted)
    assert (found.mean, found.p) == (pytest.approx(0.2), (2 + 1) / (3 + 1))
    assert (found.low, found.high) == (pytest.approx(0.105), pytest.approx(0.295))
    assert permuted_reference(0.2, np.array([np.nan])) is None
