import hashlib
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from subprocess import run

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings import frame as frames
from vlm_audio_pipeline.renderings.image import level_count, palette, render
from vlm_audio_pipeline.renderings.presets import PRESETS
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import STEP_VERSION
from vlm_audio_pipeline_tests.renderings.clips import RATE, read_indices, read_rgb, sweep

TONE = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)


def test_low_frequencies_are_at_the_bottom_and_time_runs_to_the_right():
    half = np.concatenate([TONE, 0 * TONE])
    image = read_indices(render(half, RATE, Recipe(width=400, height=441)).bytes)
    # 441 pixels over 11025 Hz: 25 Hz per pixel, so 1000 Hz is 40 pixels above the bottom
    line, column = np.unravel_index(image.argmax(), image.shape)
    assert abs((441 - line) - 40) <= 1 and column < 200
    assert image[:, 230:].max() == 0 < image[:, :170].max()


def test_the_reference_is_the_maximum_of_the_clip_or_a_fixed_value():
    # a full-scale sine on bin 100 in a Hann window of n: |X| = n / 4, so its power is (2048 / 4)^2
    sine = np.sin(2 * np.pi * 100 / 2048 * np.arange(RATE)).astype(np.float32)
    fixed = Recipe(reference=(2048 / 4) ** 2 * 100, height=1025)
    whole = {"height": 1025}  # one pixel per row: with fewer, the nearest row may not be the loudest
    assert read_indices(render(sine, RATE, Recipe(**whole)).bytes).max() == 255
    # 20 dB below the reference of an 80 dB range: three quarters of 256 levels
    middle = read_indices(render(sine, RATE, fixed).bytes)[:, 200:400]
    assert abs(int(middle.max()) - 192) <= 1
    assert (
        read_rgb(render(sine, RATE, Recipe()).bytes) == read_rgb(render(sine / 8, RATE, Recipe()).bytes)
    ).mean() > 0.99


@pytest.mark.parametrize(
    ("duration", "seconds", "filled"), [("pad", 4, 1 / 4), ("crop", 0.5, 1), ("repeat", 4, 1), ("crop", 4, 1)]
)
def test_durations(duration, seconds, filled):
    image = read_indices(render(TONE, RATE, Recipe(duration=duration, seconds=seconds, width=200, height=441)).bytes)
    has_tone = image[400:402].max(axis=0) > 200
    assert abs(has_tone.mean() - filled) <= 0.03
    length = min(1, seconds) if duration == "crop" else seconds
    assert round(length * RATE) == len(TONE) * length


UNUSUAL_CLIPS = {
    "silence": (np.zeros(RATE), RATE),
    "one sample": (np.ones(1), RATE),
    "1 ms": (TONE[:22], RATE),
    "10 minutes": (np.tile(TONE, 600), RATE),
    "8 kHz": (TONE[:8000], 8000),
    "96 kHz": (np.tile(TONE, 5), 96000),
    "clipped": (np.clip(5 * TONE, -1, 1), RATE),
    "constant": (np.ones(RATE), RATE),
    "nearly silent": (np.full(RATE, 1e-38), RATE),
    "beyond full scale": (100 * TONE, RATE),
    "a click": (np.eye(1, RATE, 5000)[0], RATE),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n == "10 minutes" else []) for n in UNUSUAL_CLIPS]
)
def test_unusual_clips_give_valid_images_without_warnings(name):
    samples, rate = UNUSUAL_CLIPS[name]
    samples = samples.astype(np.float32)
    presets = ("paper", "scipy") if name == "10 minutes" else PRESETS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for preset in presets:
            recipe = Recipe(preset=preset).model_copy(update={"rate": None})
            if max(recipe.lowest_hz, recipe.f_max or 0) >= rate / 2:
                with pytest.raises(VlmAudioError, match=f"half the sample rate, {rate / 2:g} Hz"):
                    render(samples, rate, recipe)
                continue
            image = render(samples, rate, recipe)
            assert read_rgb(image.bytes).shape[:2] == (recipe.height, recipe.width) == (image.height, image.width)
        for changed in (
            {"resampling": "bilinear"},
            {"resampling": "area"},
            {"resampling": "max"},
            {"amplitude": "power"},
            {"range_db": None},
        ):
            render(samples[: 10 * RATE], rate, Recipe(**changed, rate=None))


@pytest.mark.parametrize("name", ["silence", "1 ms", "8 kHz", "constant"])
def test_unusual_clips_by_constant_q(name):
    samples, rate = UNUSUAL_CLIPS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = render(samples.astype(np.float32), rate, Recipe(transform="cqt", rate=None))
    assert read_indices(image.bytes).shape == (480, 640)


def test_silence_is_the_lowest_colour():
    assert not read_indices(render(np.zeros(RATE, np.float32), RATE, Recipe()).bytes).any()


def test_digital_silence_can_be_white():
    half = np.concatenate([TONE, 0 * TONE])
    for recipe in (Recipe(), Recipe(preset="paper"), Recipe(preset="notebook", rate=RATE)):
        box = recipe.layout.data
        right = (slice(box.top + 2, box.bottom - 2), slice(box.left + 3 * box.width // 4, box.right - 2))
        white, dark = (
            read_rgb(render(half, RATE, recipe.model_copy(update={"silence": s})).bytes)[right]
            for s in ("white", "lowest")
        )
        assert (white == 255).all() and (dark == palette("viridis", 256)[0]).all()
        blank = render(half, RATE, recipe.model_copy(update={"silence": "white"}), blank=True).bytes
        assert (read_rgb(blank)[right] == palette("viridis", 256)[0]).all(), "without data nothing shows the silence"
    silent = read_rgb(render(np.zeros(RATE, np.float32), RATE, Recipe(silence="white")).bytes)
    assert (silent == 255).all()
    loud = read_indices(render(TONE, RATE, Recipe(silence="white", height=1025)).bytes)
    assert loud.max() == 254, "255 levels of data, and white"


def test_data_and_frame_share_no_colour_of_the_palette():
    recipe = Recipe(preset="scipy", rate=RATE)
    image = read_indices(render(sweep(), RATE, recipe).bytes)
    layout = recipe.layout
    data = image < level_count(recipe)
    inside = np.zeros_like(data)
    for box in (layout.data, layout.colorbar):
        inside[box.slices] = True
    assert level_count(recipe) == 224 and not data[~inside].any() and data[inside].mean() > 0.97
    greys = palette("viridis", 224)[224:]
    assert (greys == greys[:, :1]).all() and greys[0, 0] == 0 and greys[-1, 0] == 255


def test_the_frame_is_drawn_once_for_many_clips(monkeypatch):
    figures = []
    original = frames.frame_figure
    monkeypatch.setattr(frames, "frame_figure", lambda *args: figures.append(args) or original(*args))
    frames._cached_frame.cache_clear()
    recipe = Recipe(preset="paper_colorbar", height=400)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda level: render(TONE * level, RATE, recipe), np.linspace(0.1, 1, 8, dtype=np.float32)))
    assert len(figures) == 1
    render(TONE[:5000], RATE, recipe)
    assert len(figures) == 2, "another duration has other ticks"


SCRIPT = """
import hashlib, sys
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import preset_recipes
from vlm_audio_pipeline_tests.renderings.clips import sweep
for name, recipe in preset_recipes().items():
    rate = recipe.rate or 44100
    print(name, hashlib.sha256(render(sweep(rate=rate), rate, recipe).bytes).hexdigest())
"""


@pytest.mark.slow
def test_the_same_bytes_in_every_process_thread_and_style_of_matplotlib(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.grid: True\nlines.linewidth: 5\nfigure.dpi: 50\n")
    outputs = []
    for threads, settings in (("1", {}), ("2", {"MATPLOTLIBRC": str(tmp_path)})):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads, **settings}
        process = run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr
        outputs.append(process.stdout)
    assert outputs[0] == outputs[1] and len(outputs[0].splitlines()) == len(PRESETS)
    recipe = Recipe(preset="paper")
    with ThreadPoolExecutor(4) as pool:
        many = set(pool.map(lambda _: render(sweep(), RATE, recipe).bytes, range(12)))
    assert [hashlib.sha256(b).hexdigest() for b in many] == [outputs[0].split()[1]]


# The `summary` of the sweep. If an image changes, raise STEP_VERSION, so that stored images are rendered again.
GOLDEN = {
    "paper": [73.382, 13.794, 75.673, 20.09, 22.853, 13.591],
    "paper_linear_frequency": [68.364, 10.918, 73.924, 19.564, 22.499, 12.738],
    "paper_linear_amplitude": [3.103, 1.008, 3.59, 1.108, 1.007, 0.642],
    "paper_no_labels": [73.309, 13.88, 76.057, 20.491, 22.973, 13.702],
    "paper_magma": [73.382, 13.794, 75.673, 20.09, 22.853, 13.591],
    "paper_mel": [81.452, 21.797, 88.475, 23.069, 27.821, 16.775],
    "paper_colorbar": [73.339, 13.904, 75.603, 20.243, 22.873, 13.638],
    "paper_low_resolution": [71.307, 13.758, 74.815, 21.232, 22.593, 13.664],
    "paper_mfcc": [192.119, 193.783, 182.692, 174.197, 89.727, 92.167],
    "notebook": [166.604, 151.372, 179.45, 183.22, 89.028, 85.441],
    "scipy": [135.867, 80.176, 149.381, 110.381, 63.395, 50.308],
    "plain": [84.738, 16.079, 87.647, 23.49, 26.441, 15.739],
    "pcen": [20.962, 10.417, 14.305, 6.448, 5.793, 4.842],
    "band_limited": [48.974, 2.588, 54.03, 10.101, 15.201, 7.168],
    "ultrasonic": [143.224, 45.963, 143.849, 46.006, 47.35, 31.107],
    "waveform": [127.838, 99.727, 127.017, 99.764, 56.58, 50.658],
    "waveform_spectrogram": [61.91, 6.329, 66.954, 14.95, 20.089, 10.104],
    "raven": [48.818, 1.516, 57.633, 13.926, 17.339, 7.754],
}


@pytest.mark.parametrize("name", PRESETS)
def test_golden_images_guard_the_step_version(name):
    assert STEP_VERSION == 3
    recipe = Recipe(preset=name)
    rate = recipe.rate or 44100
    image = render(sweep(rate=rate), rate, recipe).bytes
    levels = read_rgb(image)[:, :, 1] if recipe.format == "rgb" else read_indices(image)  # the green of viridis rises
    assert summary(levels, recipe) == pytest.approx(GOLDEN[name], abs=0.02)


def summary(image, recipe):
    """Return the mean level of the quarters of the data area (top left, top right, bottom left, bottom right), and the means weighted by row and by column. All change if pixels or levels change."""
    box = recipe.layout.data
    data = image[box.slices].astype(float)
    if recipe.format == "palette":
        data[data >= level_count(recipe)] = 0
    h, w = data.shape[0] // 2, data.shape[1] // 2
    quarters = [data[:h, :w], data[:h, w:], data[h:, :w], data[h:, w:]]
    lines, columns = np.indices(data.shape)
    moments = [(data * lines).mean() / data.shape[0], (data * columns).mean() / data.shape[1]]
    return [round(float(v), 3) for v in (*(q.mean() for q in quarters), *moments)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: render(np.zeros(0, np.float32), RATE, Recipe()), "one sample or more"),
        (lambda: render(np.zeros((2, 5), np.float32), RATE, Recipe()), "one channel"),
        (lambda: render(TONE, 8000, Recipe()), "recipe's 22050 Hz, got 8000"),
        (lambda: render(TONE, 8000, Recipe(rate=None, f_max=5000)), "half the sample rate, 4000 Hz"),
        (lambda: render(TONE, 8000, Recipe(rate=None, transform="cqt", f_min=3600)), "two bins apart"),
    ],
)
def test_invalid_recipes_are_refused(call, message):
    with pytest.raises(VlmAudioError, match=message):
        call()
