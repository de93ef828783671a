import numpy as np

from vlm_audio_pipeline.encoders.windows import pad, window_vectors, windows


def test_windows_reach_the_end_of_the_clip():
    assert windows(20, 10) == [(0, 10), (10, 20)]
    assert windows(21, 10) == [(0, 10), (10, 20), (11, 21)]
    assert windows(1, 10) == [(0, 1)]


def test_every_clip_gets_the_vectors_of_its_own_windows():
    batches = []

    def embed(pieces):
        batches.append([len(p) for p in pieces])
        return [np.array([p[0], p[-1]], np.float32) for p in pieces]

    ramp = np.arange(25, dtype=np.float32)
    long_clip, short_clip, empty_clip = window_vectors(embed, [ramp, ramp[:4] + 1, ramp[:0]], 10, 2, min_length=10)
    # Windows of 10 samples that begin at 0, 10 and 15; the short clip ends with the zeros that it is padded with.
    np.testing.assert_array_equal(long_clip, [[0, 9], [10, 19], [15, 24]])
    np.testing.assert_array_equal(short_clip, [[1, 0]])
    np.testing.assert_array_equal(empty_clip, [[0, 0]])
    assert long_clip.dtype == np.float64 and batches == [[10, 10], [10, 10], [10]]


def test_audio_that_is_long_enough_is_not_copied():
    samples = np.ones(5, np.float32)
    assert pad(samples, 5) is samples
    np.testing.assert_array_equal(pad(samples[:2], 4), [1, 1, 0, 0])
