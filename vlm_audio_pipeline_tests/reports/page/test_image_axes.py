"""The axes beside images: ticks stand where the data of their time and frequency are."""

import io

import numpy as np
import PIL.Image
import pytest

from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.reports.page.image_axes import describe_axes, image_axes
from vlm_audio_pipeline.reports.page.ticks import linear_ticks

RATE = 16000
CLIPS = [{"duration_s": 2.0, "sample_rate_hz": RATE}]


def brightest(recipe: Recipe, samples: np.ndarray) -> tuple[float, float]:
    """Return the place of the brightest pixels: share of the width from the left, share of the height from the bottom."""
    with PIL.Image.open(io.BytesIO(render(samples, RATE, recipe).bytes)) as image:
        pixels = np.asarray(image.convert("L")).astype(float)
    rows, columns = np.nonzero(pixels == pixels.max())
    return (columns.mean() + 0.5) / pixels.shape[1], 1 - (rows.mean() + 0.5) / pixels.shape[0]


@pytest.mark.parametrize("frequency", ["linear", "log", "mel"])
@pytest.mark.parametrize("hz", [2000, 4000])
def test_a_tone_lies_at_the_tick_of_its_frequency(frequency, hz):
    recipe = Recipe(rate=RATE, frequency=frequency, colormap="gray", width=64, height=400)
    axes = image_axes("r", recipe, CLIPS)
    tone = np.sin(2 * np.pi * hz * np.arange(2 * RATE) / RATE).astype(np.float32)
    ticks = {text: share for share, text in axes["ticks"]}
    assert axes["label"] == "frequency (kHz)"
    assert ticks[f"{hz / 1000:g}"] == pytest.approx(brightest(recipe, tone)[1], abs=0.012)


def test_a_click_lies_at_its_time():
    recipe = Recipe(rate=RATE, n_fft=256, hop_length=64, colormap="gray", width=500, height=64)
    axes = image_axes("r", recipe, CLIPS)
    samples = np.zeros(2 * RATE, np.float32)
    samples[round(1.5 * RATE)] = 1
    end_s = CLIPS[0]["duration_s"] + axes["added_s"]
    share = (1.5 - axes["start_s"]) / (end_s - axes["start_s"])
    assert axes["end_s"] is None
    assert share == pytest.approx(brightest(recipe, samples)[0], abs=0.004)


def test_images_of_one_length_have_one_end():
    axes = image_axes("r", Recipe(rate=RATE, duration="pad", seconds=4.0), CLIPS)
    assert axes["end_s"] == pytest.approx(4.0, abs=0.05)  # within a hop


def test_an_image_with_its_own_axes_has_no_others():
    assert image_axes("paper", Recipe(preset="paper", rate=RATE), CLIPS) is None
    box = image_axes("plain", Recipe(preset="paper_no_labels", rate=RATE), CLIPS)["box"]
    assert 0 < box[0] < box[2] < 1 and 0 < box[1] < box[3] < 1  # the data are inside an outline


def test_coefficients_have_no_unit():
    axes = image_axes("mfcc", Recipe(transform="mfcc", n_mfcc=20, rate=RATE), CLIPS)
    assert axes["label"] == "coefficient"
    assert [text for _, text in axes["ticks"]] == ["0", "5", "10", "15"]  # of 20 coefficients


@pytest.mark.parametrize(
    ("name", "is_time"), [("r", True), ("r__blank", True), ("r__time_shuffled", False), ("r__other_clip", False)]
)
def test_columns_in_random_order_have_no_times(name, is_time):
    assert image_axes(name, Recipe(rate=RATE), CLIPS)["is_time"] is is_time


def test_without_a_recipe_or_with_several_sample_rates_there_are_no_axes():
    assert image_axes("r", None, CLIPS) is None
    clips = [*CLIPS, {"duration_s": 1.0, "sample_rate_hz": 8000}]
    assert image_axes("r", Recipe(rate=None), clips) is None
    assert image_axes("r", Recipe(rate=RATE), clips) is not None  # all are resampled


@pytest.mark.parametrize(
    ("limits", "ticks"),
    [
        ((0, 5), [0, 1, 2, 3, 4, 5]),
        ((-0.01, 1.0), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ((-37, 37), [-20, 0, 20]),
        ((0, 12000), [0, 5000, 10000]),
        ((1, 1), []),
    ],
)
def test_ticks_are_round_numbers(limits, ticks):
    assert linear_ticks(*limits) == pytest.approx(ticks)


def test_axes_in_words():
    clips = [{"duration_s": 2.0, "sample_rate_hz": RATE}, {"duration_s": 1.0, "sample_rate_hz": RATE}]
    recipe = Recipe(rate=RATE, frequency="mel")
    assert describe_axes("r", recipe, CLIPS) == (
        "time from left to right, 0 to 2 s; frequency from bottom to top, 0 to 8 kHz, mel scale"
    )
    assert describe_axes("r", recipe, clips).startswith("time from left to right, the length of the clip; ")
    assert describe_axes("r__time_shuffled", recipe, CLIPS).startswith(
        "columns in random order, not in order of time; "
    )
    assert describe_axes("r__other_clip", recipe, CLIPS).startswith("time of the other clip from left to right; ")
    assert describe_axes("paper", Recipe(preset="paper", rate=RATE), CLIPS) is None
