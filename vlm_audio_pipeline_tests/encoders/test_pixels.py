"""Vectors of pixels: their values, and how controls change them."""

import io
from functools import cache

import numpy as np
import pytest
from PIL import Image

from vlm_audio_pipeline.encoders.pixels import Pixels
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.presets import PRESETS
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline_tests.renderings.clips import clips

IMAGE = Pixels(rendering="paper")
ROWS = Pixels(rendering="paper", content="rows")


def gradient() -> Image.Image:
    """Return 128 x 128 pixels of three different channels."""
    y, x = np.mgrid[:128, :128].astype(np.uint8)
    return Image.fromarray(np.stack([x, y, x ^ y], axis=-1))


def luma(image: Image.Image) -> np.ndarray:
    """Return the luma of ITU-R BT.601, (height, width), whole numbers of 255."""
    return np.floor(np.asarray(image, np.float64) @ [0.299, 0.587, 0.114] + 0.5)


def test_an_image_is_reduced_to_the_mean_of_each_block_of_its_luma():
    blocks = luma(gradient()).reshape(64, 2, 64, 2).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(IMAGE.vector(gradient()).reshape(64, 64), blocks, atol=0.5 / 255)
    small = Pixels(rendering="paper", size=4).vector(gradient()).reshape(4, 4)
    np.testing.assert_allclose(small, luma(gradient()).reshape(4, 32, 4, 32).mean(axis=(1, 3)) / 255, atol=0.5 / 255)


def test_rows_are_their_mean_and_standard_deviation_over_all_columns():
    rows = luma(gradient()).reshape(64, 2, 128).mean(axis=1) / 255
    expected = np.concatenate([rows.mean(axis=1), rows.std(axis=1)])
    np.testing.assert_allclose(ROWS.vector(gradient()), expected, atol=0.5 / 255)


def test_black_is_zero_and_white_is_one():
    for color, value in (("black", 0.0), ("white", 1.0)):
        image = Image.new("RGB", (640, 480), color)
        np.testing.assert_array_equal(IMAGE.vector(image), np.full(4096, value, np.float32))
        np.testing.assert_array_equal(ROWS.vector(image), np.repeat(np.float32([value, 0]), 64))


@cache
def audio(rate: int | None) -> list[tuple[np.ndarray, int]]:
    """Return the sweep, and a real clip if ESC10_DIR is set, both of 3 s."""
    return [(samples[: 3 * own], own) for samples, own in clips(rate, max_real=1).values()]


def vectors(preset: str, samples: np.ndarray, rate: int, **control) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of a rendered clip: of the image, and of its rows."""
    data = render(samples, rate, Recipe(preset=preset), **control).bytes
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return IMAGE.vector(image), ROWS.vector(image)


SEVERAL_FRAMES_PER_COLUMN = {"ultrasonic", "waveform", "waveform_spectrogram", "raven"}
"""Presets at the sample rate of the recording whose pixel columns combine several frames: the largest, or the mean of their colours.
Shuffled frames meet others in a column, so the rows change, too (docs/language-models.md, section Controls)."""


@pytest.mark.parametrize("preset", sorted(SEVERAL_FRAMES_PER_COLUMN))
def test_time_shuffling_changes_the_image_where_columns_combine_several_frames(preset):
    for samples, rate in audio(Recipe(preset=preset).rate):
        image, _ = vectors(preset, samples, rate)
        shuffled_image, _ = vectors(preset, samples, rate, shuffle_seed=1)
        assert np.abs(shuffled_image - image).max() > 0.1


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in SEVERAL_FRAMES_PER_COLUMN])
def test_time_shuffling_changes_the_image_and_not_its_rows(preset):
    for samples, rate in audio(Recipe(preset=preset).rate):
        image, rows = vectors(preset, samples, rate)
        shuffled_image, shuffled_rows = vectors(preset, samples, rate, shuffle_seed=1)
        # each frame becomes the same number of columns, up to one: the rows differ only by this resampling
        assert np.abs(shuffled_rows - rows).max() < 0.05
        assert np.abs(shuffled_rows - rows).mean() < 0.1 * np.abs(shuffled_image - image).mean()
        assert np.abs(shuffled_image - image).max() > 0.1


@pytest.mark.parametrize("preset", PRESETS)
def test_blank_images_of_clips_of_one_length_have_the_same_vectors(preset):
    """Except for the colorbar: with the limits of each clip, its numbers depend on the clip. It is right of the data."""
    recipe = Recipe(preset=preset)
    (samples, rate) = audio(recipe.rate)[0]
    images = [
        Image.open(io.BytesIO(render(sound, rate, recipe, blank=True).bytes)).convert("RGB")
        for sound in (samples, np.zeros_like(samples))
    ]
    box = recipe.layout.data
    has_numbers_of_clip = preset in ("paper_colorbar", "scipy", "notebook")
    left, right = (i.crop((0, 0, box.right if has_numbers_of_clip else i.width, i.height)) for i in images)
    for encoder in (IMAGE, ROWS):
        np.testing.assert_array_equal(encoder.vector(left), encoder.vector(right))


STUDY = """
name: reading
dataset: {kind: synthetic, clips: 90, n_folds: 3, duration_s: 1}
renderings: {small: {preset: plain, width: 96, height: 96, rate: 8000, n_fft: 256, hop_length: 64}}
encoders:
  pixels: {kind: pixels, rendering: small, size: 16}
  rows: {kind: pixels, rendering: small, size: 16, content: rows}
classifiers:
  probe: {kind: probe, encoder: [pixels, rows], c: 0.1, controls: [blank, time_shuffled, other_clip]}
  knn: {kind: knn, encoder: [pixels, rows], controls: [blank, time_shuffled, other_clip]}
"""


@pytest.mark.slow
def test_classifiers_drop_to_chance_on_blank_images_and_those_on_rows_ignore_the_order_in_time(data_folder, tmp_path):
    assert not run_study(Graph(parse_study(STUDY, tmp_path / "reading.yaml"), data_folder)).failed
    sql = "SELECT classifier, control, fold, avg(correct::INT) AS accuracy, count(DISTINCT predicted) AS answers FROM predictions"
    rows = query(data_folder, f"{sql} GROUP BY ALL").to_pylist()
    classifiers = ("probe_pixels", "probe_rows", "knn_pixels", "knn_rows")
    assert len(rows) == len(classifiers) * 4 * 3
    mean = {
        (c, control): np.mean([r["accuracy"] for r in rows if (r["classifier"], r["control"]) == (c, control)])
        for c in classifiers
        for control in ("none", "blank", "time_shuffled", "other_clip")
    }
    for row in rows:
        if row["control"] == "blank":  # one vector, one prediction; a class has 1 to 5 of the 30 clips of a fold
            assert row["answers"] == 1 and 1 / 30 <= row["accuracy"] <= 5 / 30
    for c in classifiers:
        assert mean[c, "none"] > 0.5
        assert mean[c, "other_clip"] < 0.2  # the prediction follows the image, which is of another class
    for kind in ("probe", "knn"):
        assert mean[f"{kind}_rows", "time_shuffled"] > mean[f"{kind}_rows", "none"] - 0.1
