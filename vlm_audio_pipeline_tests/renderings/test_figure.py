"""The preset `notebook` against a re-enactment by scipy and matplotlib of the image of can-vlms-hear."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.signal
from PIL import Image

from vlm_audio_pipeline.datasets.audio import decode
from vlm_audio_pipeline.datasets.esc_classes import ESC10_FOLDERS
from vlm_audio_pipeline.renderings.colors import color_limits
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.transforms import compute_spectrum, prepare_samples
from vlm_audio_pipeline_tests.renderings.clips import FOLDER, RATE, clips, read_rgb, sweep

NOTEBOOK_RATE = 44100


def synthetic_clips():
    """Return eight clips of 1 s by name; six contain digital silence, one is nothing else, one has none."""
    rng = np.random.default_rng(0)
    t = np.arange(NOTEBOOK_RATE) / NOTEBOOK_RATE
    noise = (0.2 * rng.standard_normal(len(t))).clip(-1, 1)
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    samples = {
        "noise, no silence": noise,
        "silence at the end": np.where(t < 0.6, tone, 0),
        "silence at the beginning": np.where(t > 0.5, noise, 0),
        "silence in the middle": np.where(abs(t - 0.5) > 0.2, tone + noise / 10, 0),
        "a click": np.eye(1, len(t), 20000)[0],
        "a faint tone, silent to 16 bits at its ends": tone * np.exp(-40 * (t - 0.5) ** 2 * 10),
        "a constant offset": np.where(t < 0.5, 0.3, noise),
        "only silence": 0 * t,
    }
    return {name: (x.astype(np.float32), NOTEBOOK_RATE) for name, x in samples.items()}


SYNTHETIC = synthetic_clips()
REAL = [name for name in clips(rate=None, max_real=8) if name != "sweep"]
"""Eight recordings of several classes if ESC10_DIR is set."""


def reenact(samples, rate):
    """Repeat the steps of can-vlms-hear: 16 bits at full scale, scipy's spectrogram, the default figure of pyplot.

    Returns:
        (height, width, 3) uint8, the limits of the colours, and the density, (frequencies, frames) float32.
    """
    exact = samples.astype(float)
    whole = (exact / max(np.max(np.abs(exact)), 1e-30) * 32767).astype(np.int16)
    frequencies, times, density = scipy.signal.spectrogram(whole, fs=rate)
    with plt.rc_context(plt.rcParamsDefault | {"backend": "agg"}), np.errstate(divide="ignore"):
        figure = plt.figure()
        mesh = plt.pcolormesh(times, frequencies, 10 * np.log10(density))
        plt.ylabel("Frequency [Hz]")
        plt.xlabel("Time [sec]")
        plt.title("Spectrogram")
        limits = mesh.get_clim()
        plt.colorbar(label="Intensity [dB]")
        file = io.BytesIO()
        plt.savefig(file)
        plt.close(figure)
    return np.asarray(Image.open(file).convert("RGB")), limits, density


def check_pixels(samples, rate):
    recipe = Recipe(preset="notebook")
    expected, limits, density = reenact(samples, rate)
    computed = read_rgb(render(samples, rate, recipe).bytes)
    assert computed.shape == expected.shape == (480, 640, 3)
    difference = np.abs(computed.astype(int) - expected)
    assert difference.max() == 0, f"{(difference > 0).any(axis=2).sum()} pixels differ, by at most {difference.max()}"
    if (density > 0).any():
        spectrum = compute_spectrum(prepare_samples(samples, rate, recipe), rate, recipe)
        ours = color_limits(spectrum, recipe)
        assert (ours.low, ours.high) == limits
    box = recipe.layout.data
    inner = computed[box.top + 2 : box.bottom - 2, box.left + 2 : box.right - 2]
    assert ((inner == 255).all(axis=2).mean() > 0.01) == ((density == 0).mean() > 0.01), "silence is white"


@pytest.mark.parametrize("name", SYNTHETIC)
def test_the_notebook_preset_equals_the_original_image_in_every_pixel(name):
    check_pixels(*SYNTHETIC[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL or [pytest.param("", marks=pytest.mark.skip(reason="ESC10_DIR is not set"))])
def test_the_notebook_preset_equals_the_original_image_of_recordings(name):
    check_pixels(*clips(rate=None, max_real=8)[name])


def test_the_clips_cover_images_with_and_without_silence():
    recipe = Recipe(preset="notebook")
    shares = {
        name: (compute_spectrum(prepare_samples(x, rate, recipe), rate, recipe).cells == 0).mean()
        for name, (x, rate) in SYNTHETIC.items()
    }
    assert len(shares) == 8 and shares["noise, no silence"] == 0 and shares["only silence"] == 1
    assert sum(share > 0.1 for share in shares.values()) >= 6


@pytest.mark.slow
@pytest.mark.skipif(FOLDER is None, reason="ESC10_DIR is not set")
def test_the_documented_silence_of_esc10():
    recipe, shares = Recipe(preset="notebook"), {}
    for file in Path(FOLDER).glob("*/*.ogg"):
        samples, rate, _ = decode(file)
        cells = compute_spectrum(prepare_samples(samples, rate, recipe), rate, recipe).cells
        shares.setdefault(ESC10_FOLDERS[file.parent.name], []).append((cells == 0).mean())
    clips_with_silence = sum(share > 0 for of_class in shares.values() for share in of_class)
    percent = {name: f"{np.mean(of_class):.0%}".replace("%", " %") for name, of_class in shares.items()}
    page = " ".join((Path(__file__).parents[2] / "docs" / "renderings.md").read_text().split())
    assert f"in {clips_with_silence} of the {sum(map(len, shares.values()))} clips" in page
    assert (
        f"{percent['sneezing']} of the area of sneezing, {percent['rooster']} of rooster, {percent['dog']} of dog and "
        f"{percent['rain']} of rain" in page
    )


def test_the_data_box_is_that_of_the_original():
    # 0.125 and 0.745 of 640 pixels; 0.12 and 0.89 of 480: 80 to 476.8 and 57.6 to 427.2
    box = Recipe(preset="notebook").layout.data
    assert (box.left, box.right, box.top, box.bottom) == (80, 477, 58, 427)
    image = read_rgb(render(sweep(rate=RATE), RATE, Recipe(preset="notebook", rate=RATE, silence="lowest")).bytes)
    assert (image[box.top - 3, :] == 255).all(axis=1).sum() > 500, "nothing but white above the data"


def test_parts_of_the_frame_can_be_left_out():
    samples = sweep(rate=RATE)
    box = Recipe(preset="notebook").layout.data
    for part, region in {
        "title": (slice(0, box.top - 5), slice(None)),
        "labels": (slice(None), slice(0, box.left - 8)),
        "ticks": (slice(box.bottom + 2, box.bottom + 20), slice(None)),
        "colorbar": (slice(None), slice(590, None)),
    }.items():
        own = {"labels": False, "ticks": False, "title": False, "colorbar": False}
        with_part = read_rgb(
            render(samples, RATE, Recipe(preset="notebook", rate=RATE, frame={**own, part: True})).bytes
        )
        without = read_rgb(render(samples, RATE, Recipe(preset="notebook", rate=RATE, frame=own)).bytes)
        assert (without[region] == 255).all(), part
        if part != "colorbar":
            assert (with_part[region] < 128).any(), part
