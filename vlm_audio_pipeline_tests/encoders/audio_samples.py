"""Sounds that every encoder must bear."""

import numpy as np


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    samples = max(1, round(seconds * rate))
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def odd_clips(rate: int) -> list[np.ndarray]:
    """A tone, silence, a millisecond, a single sample, a full-scale square."""
    short = max(1, rate // 1000)
    square = np.tile(np.float32([1, -1]), rate // 2)
    return [tone(1, rate), np.zeros(rate, np.float32), tone(1, rate)[:short], np.ones(1, np.float32), square]


def assert_batch_invariant(encode, items: list, again, atol: float = 1e-5) -> np.ndarray:
    """Assert that batches of 1, of all, and another order give the same vectors; give them.

    Args:
        encode: a loaded encoder with a batch size of at least the number of items.
        items: what it encodes.
        again: the same encoder, loaded with a batch size of 1.
        atol: largest difference.
    """
    whole = np.stack(encode(items))
    one_by_one = np.stack([encode([i])[0] for i in items])
    ones = np.stack(again(items))
    turned = np.stack(encode(items[::-1]))[::-1]
    for other in (one_by_one, ones, turned):
        np.testing.assert_allclose(other, whole, atol=atol)
    assert whole.dtype == np.float32 and np.isfinite(whole).all()
    return whole
