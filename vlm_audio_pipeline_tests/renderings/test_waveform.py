"""Waveforms: the range of the samples in each column, alone and above a spectrogram."""

import numpy as np

from vlm_audio_pipeline.renderings.axes import covered_cells, reduce_ranges
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.waveform import envelope, fill_waveform, split_columns
from vlm_audio_pipeline_tests.renderings.clips import RATE, read_rgb, sweep


def test_the_envelope_is_the_range_of_each_column_relative_to_the_peak():
    samples = np.array([0.0, 0.5, -0.25, 0.0, 0.1, 0.2], np.float32)
    low, high = envelope(samples, np.array([0.0, 2.0, 4.0, 6.0]))
    # each column has the first sample of the next one: 0, 0.5, -0.25 | -0.25, 0, 0.1 | 0.1, 0.2; the peak is 0.5
    assert np.allclose(low, [-0.5, -0.5, 0.2]) and np.allclose(high, [1.0, 0.2, 0.4])


def test_silence_and_what_lies_outside_of_the_clip_are_a_line():
    assert not envelope(np.zeros(10, np.float32), np.array([0.0, 5.0, 10.0])).any()
    low, high = envelope(np.ones(10, np.float32), np.array([-5.0, 0.0, 10.0, 15.0]))
    assert low.tolist() == [0, 1, 0] and high.tolist() == [0, 1, 0]


def test_pixels_between_the_smallest_and_the_largest_sample_are_filled():
    limits = np.array([[-1.0, 0.0, -0.5], [1.0, 0.0, 0.5]], np.float32)
    filled = fill_waveform(limits, np.arange(4.0), 3, 8)
    # eight lines from 1 at the top to -1: all, the one below the middle, and from 0.5 (line 2) to -0.5 (line 6)
    assert filled.sum(axis=0).tolist() == [8, 1, 4]
    assert np.flatnonzero(filled[:, 2]).tolist() == [2, 3, 4, 5]


def test_columns_are_split_into_equal_parts():
    assert split_columns(np.array([0.0, 2.0, 3.0]), 2).tolist() == [0, 1, 2, 2.5, 3]


def test_every_pixel_gets_the_highest_of_the_cells_that_it_covers():
    edges = np.array([0.0, 0.5, 1.0, 1.5, 3.0])  # of four cells on three pixels: two, one and a half, one
    first, last = covered_cells(edges, 3)
    assert (first.tolist(), last.tolist()) == ([0, 2, 3], [1, 3, 3])
    values = np.array([[5.0, 1.0, 2.0, 3.0]])
    assert reduce_ranges(values, first, last, np.maximum).tolist() == [[5, 3, 3]]
    assert reduce_ranges(values, first, last, np.minimum).tolist() == [[1, 2, 3]]


def test_a_short_call_in_a_long_clip_stays_visible_with_max():
    """A click of one sample in 60 s is in one column of 2,584; `nearest` shows a fifth of them."""
    samples = np.zeros(60 * RATE, np.float32)
    samples[700_000] = 0.5
    recipe = {"width": 512, "height": 64, "n_fft": 256, "hop_length": 256, "reference": 1.0}
    shown = {
        name: read_rgb(render(samples, RATE, Recipe(**recipe, resampling=name)).bytes) for name in ("nearest", "max")
    }
    assert len(np.unique(shown["max"].reshape(-1, 3), axis=0)) > 1
    assert (shown["max"].sum(axis=2) >= shown["nearest"].sum(axis=2)).all()


def waveform_pixels(image, recipe):
    box = recipe.layout.waveform
    return read_rgb(image.bytes)[box.top + 2 : box.bottom - 2, box.left + 2 : box.right - 2, 0] < 128


def test_the_waveform_above_a_spectrogram_shows_when_the_clip_is_loud():
    recipe = Recipe(preset="waveform_spectrogram")
    samples = sweep(2)
    samples[RATE:] *= 0.01
    dark = waveform_pixels(render(samples, RATE, recipe), recipe)
    half = dark.shape[1] // 2
    assert dark[:, : half - 4].sum() > 20 * dark[:, half + 4 :].sum() / 2
    assert dark.any(axis=0).all(), "the line has no gaps"


def test_shuffled_columns_shuffle_the_waveform_and_blank_images_have_none():
    recipe = Recipe(preset="waveform_spectrogram")
    samples = sweep(2)
    samples[RATE:] *= 0.01
    original, shuffled = (
        waveform_pixels(render(samples, RATE, recipe, shuffle_seed=seed), recipe) for seed in (None, 0)
    )
    half = original.shape[1] // 2
    # half of the columns are loud in both, but in the shuffled image they are everywhere
    assert abs(int(original.sum()) - int(shuffled.sum())) < 0.2 * original.sum()
    assert 0.3 < shuffled[:, :half].sum() / shuffled.sum() < 0.7 < original[:, :half].sum() / original.sum()
    assert not waveform_pixels(render(samples, RATE, recipe, blank=True), recipe).any()
