"""Audio that every encoder must handle."""

import numpy as np


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    samples = max(1, round(seconds * rate))
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def unusual_clips(rate: int) -> list[np.ndarray]:
    """Return a tone, silence, 1 ms of a tone, a single sample and a full-scale square wave."""
    short = max(1, rate // 1000)
    square = np.tile(np.float32([1, -1]), rate // 2)
    return [tone(1, rate), np.zeros(rate, np.float32), tone(1, rate)[:short], np.ones(1, np.float32), square]


def assert_batch_invariant(encode, items: list, encode_singly, atol: float = 1e-5) -> np.ndarray:
    """Assert that batches of 1, one batch of all and another order give the same vectors; return them.

    Args:
        encode: a loaded encoder with a batch size of at least the number of items.
        items: the clips or images to encode.
        encode_singly: the same encoder, loaded with a batch size of 1.
        atol: largest allowed difference.
    """
    one_batch = np.stack(encode(items))
    one_by_one = np.stack([encode([i])[0] for i in items])
    batches_of_one = np.stack(encode_singly(items))
    reversed_order = np.stack(encode(items[::-1]))[::-1]
    for other in (one_by_one, batches_of_one, reversed_order):
        np.testing.assert_allclose(other, one_batch, atol=atol)
    assert one_batch.dtype == np.float32 and np.isfinite(one_batch).all()
    return one_batch
