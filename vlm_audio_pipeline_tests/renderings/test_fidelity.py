"""librosa and matplotlib are the oracle: the same clip, transformed by librosa and drawn by matplotlib, nearest."""

import io

import librosa
import librosa.display
import matplotlib
import numpy as np
import pytest
import scipy.signal
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from vlm_audio_pipeline.renderings import frame as frames
from vlm_audio_pipeline.renderings.axes import frequency_scale
from vlm_audio_pipeline.renderings.picture import encoded, levels, palette, pixels, render, scales
from vlm_audio_pipeline.renderings.recipe import FrameParts, Recipe
from vlm_audio_pipeline.renderings.spectra import colours, prepared, spectrum, values
from vlm_audio_pipeline_tests.renderings.hearing import RATE, clips, numbers, rgb

CLIPS = clips()
FRAMED = {"labels": True, "ticks": True, "title": True, "colorbar": True}


def heard(samples, rate, recipe):
    found = spectrum(prepared(samples, rate, recipe), rate, recipe)
    return found, colours(found, recipe)


def librosas(samples, recipe):
    """dB below the clip's maximum, or coefficients, by librosa alone."""
    power = np.abs(librosa.stft(samples, n_fft=recipe.n_fft, hop_length=recipe.hop_length)) ** 2
    if recipe.transform == "stft":
        return librosa.power_to_db(power, ref=np.max)
    if recipe.transform == "mel":
        return librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=recipe.n_mels), ref=np.max)
    return librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=recipe.n_mfcc)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("transform", ["stft", "mel", "mfcc"])
def test_values_equal_librosas_within_a_thousandth_of_a_decibel(name, transform):
    samples, rate = CLIPS[name]
    recipe = Recipe(transform=transform)
    found, shown = heard(samples, rate, recipe)
    ours = values(found.cells, found.floor, shown, "db")
    if transform != "mfcc":
        ours = np.maximum(ours, shown.low)
    np.testing.assert_allclose(ours, librosas(samples, recipe), atol=1e-3, rtol=0)


@pytest.mark.parametrize("amplitude", ["linear", "power"])
def test_amplitudes_are_shares_of_the_largest(amplitude):
    samples, rate = CLIPS["sweep"]
    found, shown = heard(samples, rate, Recipe(amplitude=amplitude))
    theirs = np.abs(librosa.stft(samples)) ** (1 if amplitude == "linear" else 2)
    np.testing.assert_allclose(
        values(found.cells, found.floor, shown, amplitude), theirs / theirs.max(), atol=1e-5, rtol=1e-4
    )


def test_the_notebook_is_scipys_spectrogram():
    for samples, rate in clips(rate=None, most=3).values():
        recipe = Recipe(preset="notebook")
        whole = prepared(samples, rate, recipe)
        assert np.abs(whole).max() == 32767 and not (whole % 1).any()
        frequencies, times, density = scipy.signal.spectrogram(whole.astype(np.float64), fs=rate)
        found, shown = heard(samples, rate, recipe)
        np.testing.assert_allclose(found.rows, frequencies)
        np.testing.assert_allclose(found.times, times)
        ours = values(found.cells, found.floor, shown, "db")
        theirs = 10 * np.log10(np.maximum(density, found.floor))
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)
        audible = theirs[density > found.floor]
        assert shown.low <= audible.min() < shown.low + 10 and shown.high - 10 < audible.max() <= shown.high


def test_constant_q_is_librosas():
    samples, rate = CLIPS["sweep"]
    found, shown = heard(samples, rate, Recipe(transform="cqt"))
    theirs = np.abs(librosa.cqt(samples, sr=rate, n_bins=len(found.rows))) ** 2
    ours = np.maximum(values(found.cells, found.floor, shown, "db"), -80)
    np.testing.assert_allclose(ours, librosa.power_to_db(theirs, ref=np.max), atol=1e-3, rtol=0)


def by_matplotlib(samples, rate, recipe):
    """Draw the array with matplotlib: specshow's coordinates, pcolormesh, fig.colorbar; the frame's place and style."""
    found, shown = heard(samples, rate, recipe)
    table = palette(recipe.colormap, levels(recipe))[: levels(recipe)]
    table = matplotlib.colormaps[recipe.colormap] if levels(recipe) == 256 else ListedColormap(table / 255)
    cells = values(found.cells, found.floor, shown, recipe.amplitude)
    time, rows = scales(found, recipe)
    where = frames.layout(recipe)
    with matplotlib.rc_context(frames.style(recipe.dpi)):
        if recipe.frame == "none":
            drawing = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
            axes = drawing.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.set(xlim=(time.low, time.high))
            frames._frequency_axis(axes, rows)
        else:
            drawing = frames.figure(recipe, time, rows, (shown.low, shown.high), "")
            axes = drawing.axes[0]
        mesh = axes.pcolormesh(
            found.times, found.rows, cells, cmap=table, vmin=shown.low, vmax=shown.high, shading="auto"
        )
        axes.set(xlim=(time.low, time.high), ylim=(rows.low, rows.high))
        if where.colorbar is not None:
            drawing.axes[1].remove()
            box = where.colorbar
            place = (box.left / recipe.width, 1 - box.bottom / recipe.height)
            bar = drawing.add_axes((*place, box.width / recipe.width, box.height / recipe.height))
            label = frames._unit(recipe) if recipe.frame.labels else ""
            drawing.colorbar(mesh, cax=bar, label=label).outline.set_linewidth(
                frames.style(recipe.dpi)["axes.linewidth"]
            )
        canvas = FigureCanvasAgg(drawing)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3], table


def level_of(colours_rgb, table, count):
    """Give the numbers of colours in a lookup table; far from any where a colour is none of it."""
    listed = (np.asarray(table(np.arange(count)))[:, :3] * 255).round().astype(int)
    found = {tuple(c): k for k, c in enumerate(listed.tolist())}
    flat = colours_rgb.reshape(-1, 3).tolist()
    return np.array([found.get(tuple(c), -1000) for c in flat]).reshape(colours_rgb.shape[:2])


RECIPES = {
    "bare": {},
    "bare log": {"frequency": "log"},
    "bare, fewer pixels than cells": {"frequency": "log", "width": 144, "height": 96},
    "bare mel": {"transform": "mel", "width": 1000, "height": 400},
    "bare stretch of frequencies": {"f_min": 200, "f_max": 5000, "frequency": "log", "width": 224, "height": 224},
    "bare linear amplitude": {"amplitude": "linear", "colormap": "magma"},
    "paper": {"preset": "paper"},
    "paper 384": {"preset": "paper", "size": 384},
    "linear frequency": {"preset": "paper_linear_frequency"},
    "low resolution": {"preset": "paper_low_resolution"},
    "mel": {"preset": "paper_mel"},
    "mfcc": {"preset": "paper_mfcc"},
    "no labels": {"preset": "paper_no_labels"},
    "colorbar and title": {"preset": "paper", "frame": FRAMED, "width": 1000, "height": 400},
    "notebook": {"preset": "notebook"},
}


@pytest.mark.parametrize("name", RECIPES)
def test_pixels_are_matplotlibs(name):
    recipe = Recipe(**RECIPES[name])
    for clip in list(CLIPS)[:3]:
        samples, rate = CLIPS[clip]
        recipe = recipe if recipe.rate else recipe.model_copy(update={"rate": RATE})
        ours = render(samples, rate, recipe)
        theirs, table = by_matplotlib(samples, rate, recipe)
        read = rgb(ours.bytes)
        assert read.shape == theirs.shape == (recipe.height, recipe.width, 3)
        number, count = numbers(ours.bytes).astype(int), levels(recipe)
        if count < 256:
            data = number < count
            off = (np.abs(read.astype(int) - theirs).max(axis=2) > 5) & ~data
            # fig.colorbar joins the lines of its outline otherwise: four corners of one pixel
            corners = 4 if frames.layout(recipe).colorbar else 0
            assert off.sum() <= corners and np.abs(read.astype(int) - theirs)[off].max(initial=0) <= 31, "the frame"
        else:
            data = np.ones_like(number, bool)
        theirs = level_of(theirs, table, count)
        apart = np.abs(number - theirs)[data]
        assert (apart <= 1).mean() >= 0.999, f"{clip}: {(apart > 1).mean():.5f} of the data area"
        inner = frames.layout(recipe).data
        if count < 256:
            around = frames.frame(recipe, *scales(heard(samples, rate, recipe)[0], recipe), (0, 1), "")
            assert data[around.data.window].all()
            assert 0 <= around.data.left - inner.left <= 1 and 0 <= inner.right - around.data.right <= 1
            assert data.sum() == around.data.width * around.data.height + (
                around.colorbar.width * around.colorbar.height if around.colorbar and recipe.frame.colorbar else 0
            )


@pytest.mark.parametrize(
    "recipe, axis",
    [
        (Recipe(frequency="log"), "log"),
        (Recipe(transform="mel"), "mel"),
        (Recipe(frequency="linear"), "linear"),
        (Recipe(transform="cqt"), "cqt_hz"),
    ],
)
def test_axes_are_those_of_specshow(recipe, axis):
    samples, rate = CLIPS["sweep"]
    found, shown = heard(samples, rate, recipe)
    time, rows = scales(found, recipe)
    axes = Figure().add_subplot()
    librosa.display.specshow(
        values(found.cells, found.floor, shown, "db"), ax=axes, sr=rate, hop_length=512, x_axis="time", y_axis=axis
    )
    np.testing.assert_allclose(axes.get_xlim(), (time.low, time.high))
    np.testing.assert_allclose(axes.get_ylim(), (rows.low, rows.high), rtol=1e-6)
    inside = np.linspace(rows.low, rows.high, 1000)
    low, high = axes.yaxis.get_transform().transform(np.array(axes.get_ylim()))
    theirs = (axes.yaxis.get_transform().transform(inside) - low) / (high - low)
    np.testing.assert_allclose(rows.position(inside), theirs, atol=1e-6)
    framed = frames.figure(recipe.model_copy(update={"frame": FrameParts()}), time, rows, None, "").axes[0]
    if axis != "linear":  # whose number of ticks follows the height
        assert framed.get_yticks().tolist() == axes.get_yticks().tolist()


def test_fewer_levels_are_at_most_one_entry_of_matplotlibs_table_apart():
    # value x in 0..1 is entry floor(256 x) of matplotlib's table, and level floor(224 x) of ours
    x = np.linspace(0, 1, 100_001)
    exact = np.minimum(x * 256, 255).astype(int)
    shown = ((np.minimum(x * 224, 223).astype(int) + 0.5) / 224 * 256).astype(int)
    assert np.abs(exact - shown).max() <= 1
    listed = (np.asarray(matplotlib.colormaps["viridis"].colors) * 255).round().astype(int)
    np.testing.assert_allclose(
        palette("viridis", 224)[:224], listed[((np.arange(224) + 0.5) / 224 * 256).astype(int)], atol=1
    )
    np.testing.assert_allclose(palette("viridis", 256), listed, atol=1)


def test_nearest_equals_imshow_on_linear_axes():
    samples, rate = CLIPS["sweep"]
    recipe = Recipe(
        width=300,
        height=200,
    )
    found, shown = heard(samples, rate, recipe)
    drawing = Figure(figsize=(3, 2), dpi=100)
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(
        values(found.cells, found.floor, shown, "db"),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        vmin=-80,
        vmax=0,
        cmap="gray",
    )
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    theirs = np.asarray(canvas.buffer_rgba())[:, :, 0].astype(int)
    ours = pixels(found, shown, recipe).astype(int)
    assert (np.abs(ours - theirs) <= 1).mean() >= 0.999


def test_bilinear_and_area_are_their_definitions():
    samples, rate = CLIPS["sweep"]
    for resampling, size in (("bilinear", (400, 300)), ("area", (40, 30))):
        recipe = Recipe(resampling=resampling, width=size[0], height=size[1])
        found, shown = heard(samples, rate, recipe)
        db = np.clip(values(found.cells, found.floor, shown, "db"), -80, 0)
        n, m = db.shape
        # n cells fill P pixels: the centre of pixel p lies at (p + 1/2) n / P cells, that is 1/2 less from centre 0
        y = np.clip((np.arange(size[1]) + 0.5) / size[1] * n - 0.5, 0, n - 1)
        x = np.clip((np.arange(size[0]) + 0.5) / size[0] * m - 0.5, 0, m - 1)
        if resampling == "bilinear":
            expected = scipy.interpolate.RegularGridInterpolator((np.arange(n), np.arange(m)), db)(
                np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
            )
        else:  # the integral of a step function between the edges of a pixel

            def mean(cells, count, pixels):
                edges = np.arange(pixels + 1) / pixels * count
                summed = np.concatenate([np.zeros((1, cells.shape[1])), np.cumsum(cells, axis=0)])
                at = np.array([np.interp(edges, np.arange(count + 1), column) for column in summed.T]).T
                return np.diff(at, axis=0) / np.diff(edges)[:, None]

            expected = mean(mean(db.astype(float), n, size[1]).T, m, size[0]).T
        level = np.minimum((expected[::-1] + 80) / 80 * 256, 255).astype(int)
        got = pixels(found, shown, recipe).astype(int)
        assert (np.abs(level - got) <= 1).all() and (level == got).mean() > 0.98


@pytest.mark.parametrize("preset", ["paper_colorbar", "plain"])
def test_rgb_holds_the_pixels_of_the_palette_and_jpeg_nearly(preset):
    samples, rate = CLIPS["sweep"]
    pictures = {f: render(samples, rate, Recipe(preset=preset, format=f)) for f in ("palette", "rgb", "jpeg")}
    assert [p.media_type for p in pictures.values()] == ["image/png", "image/png", "image/jpeg"]
    exact = rgb(pictures["palette"].bytes)
    assert (rgb(pictures["rgb"].bytes) == exact).all()
    assert Image.open(io.BytesIO(pictures["rgb"].bytes)).mode == "RGB"
    assert np.abs(rgb(pictures["jpeg"].bytes).astype(int) - exact).mean() < 6


def test_png_of_any_pixels_is_read_back(tmp_path):
    dice = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (5, 1), (33, 70)):
        for most in (2, 256):
            picture = dice.integers(0, most, shape).astype(np.uint8)
            picture[shape[0] // 2 :] = picture[shape[0] // 2]
            recipe = Recipe()
            assert (numbers(encoded(picture, recipe).bytes) == picture).all()
            as_rgb = encoded(picture, Recipe(format="rgb"))
            assert (rgb(as_rgb.bytes) == palette("viridis", 256)[picture]).all()


@pytest.mark.parametrize(("low", "high"), [(5000, 8000), (1100, 2000), (300, 450), (0, 60)])
def test_a_narrow_frequency_axis_has_numbers(low, high):
    """Where no two powers of two lie between f_min and f_max."""
    axes = Figure().add_subplot()
    frames._frequency_axis(axes, frequency_scale("log", low, high))
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2
    assert min(axes.get_yticks()) >= 0


def test_a_frame_says_what_librosas_own_display_says():
    """Names of the axes, and numbers along them, of `specshow` on axes of the same place and size."""
    recipe = Recipe(preset="paper_colorbar")
    found, shown = heard(clips()["sweep"][0], RATE, recipe)
    time, rows = scales(found, recipe)
    box = frames.layout(recipe).data
    place = (
        box.left / recipe.width,
        1 - box.bottom / recipe.height,
        box.width / recipe.width,
        box.height / recipe.height,
    )
    with matplotlib.rc_context(frames.style(recipe.dpi)):
        ours = frames.figure(recipe, time, rows, (shown.low, shown.high), "")
        usual = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
        librosa.display.specshow(
            values(found.cells, found.floor, shown, "db"),
            sr=RATE,
            hop_length=recipe.hop_length,
            x_axis="time",
            y_axis="log",
            ax=usual.add_axes(place),
        )
        for drawing in (ours, usual):
            FigureCanvasAgg(drawing).draw()
        frame, theirs = ours.axes[0], usual.axes[0]
        assert (frame.get_xlabel(), frame.get_ylabel()) == ("Time (s)", "Frequency (Hz)")
        assert ours.axes[1].get_ylabel() == "Level (dB)"
        low, high = time.low, time.high
        numbers_of = lambda axis, low, high: [t for t in axis.get_majorticklocs() if low <= t <= high]  # noqa: E731
        assert numbers_of(frame.yaxis, rows.low, rows.high) == numbers_of(theirs.yaxis, rows.low, rows.high)
        assert {*numbers_of(frame.xaxis, low, high)} and frame.get_xlim() == pytest.approx(theirs.get_xlim(), abs=1e-6)
        assert [
            float(t.get_text().replace("\N{MINUS SIGN}", "-")) for t in frame.get_xticklabels()
        ] == frame.get_xticks().tolist()
