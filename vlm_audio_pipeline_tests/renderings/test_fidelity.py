"""librosa and matplotlib are the reference: the same clip, transformed by librosa and plotted by matplotlib."""

import io

import librosa
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
from vlm_audio_pipeline.renderings.colors import color_label, color_limits, color_values
from vlm_audio_pipeline.renderings.image import axis_scales, encode_image, level_count, palette, palette_indices, render
from vlm_audio_pipeline.renderings.layout import FrameParts
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.transforms import compute_spectrum, prepare_samples
from vlm_audio_pipeline_tests.renderings.clips import RATE, clips, read_indices, read_rgb

pytestmark = pytest.mark.usefixtures("imported_librosa")
CLIPS = clips()
FRAMED = {"labels": True, "ticks": True, "title": True, "colorbar": True}


def spectrum_and_limits(samples, rate, recipe):
    spectrum = compute_spectrum(prepare_samples(samples, rate, recipe), rate, recipe)
    return spectrum, color_limits(spectrum, recipe)


def librosa_values(samples, recipe):
    """Return dB below the maximum of the clip, or coefficients, computed by librosa alone."""
    power = np.abs(librosa.stft(samples, n_fft=recipe.n_fft, hop_length=recipe.hop_length)) ** 2
    if recipe.transform == "stft":
        return librosa.power_to_db(power, ref=np.max)
    if recipe.transform == "mel":
        return librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=recipe.n_mels), ref=np.max)
    return librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=recipe.n_mfcc)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("transform", ["stft", "mel", "mfcc"])
def test_values_equal_those_of_librosa_within_a_thousandth_of_a_decibel(name, transform):
    samples, rate = CLIPS[name]
    recipe = Recipe(transform=transform)
    spectrum, limits = spectrum_and_limits(samples, rate, recipe)
    computed = color_values(spectrum.cells, spectrum.floor, limits, "db")
    if transform != "mfcc":
        computed = np.maximum(computed, limits.low)
    np.testing.assert_allclose(computed, librosa_values(samples, recipe), atol=1e-3, rtol=0)


@pytest.mark.parametrize("amplitude", ["linear", "power"])
def test_amplitudes_are_relative_to_the_maximum(amplitude):
    samples, rate = CLIPS["sweep"]
    spectrum, limits = spectrum_and_limits(samples, rate, Recipe(amplitude=amplitude))
    expected = np.abs(librosa.stft(samples)) ** (1 if amplitude == "linear" else 2)
    np.testing.assert_allclose(
        color_values(spectrum.cells, spectrum.floor, limits, amplitude), expected / expected.max(), atol=1e-5, rtol=1e-4
    )


def test_the_scipy_preset_equals_the_scipy_spectrogram():
    for samples, rate in clips(rate=None, max_real=3).values():
        recipe = Recipe(preset="scipy")
        whole = prepare_samples(samples, rate, recipe)
        assert np.abs(whole).max() == 32767 and not (whole % 1).any()
        frequencies, times, density = scipy.signal.spectrogram(whole.astype(np.float64), fs=rate)
        spectrum, limits = spectrum_and_limits(samples, rate, recipe)
        np.testing.assert_allclose(spectrum.row_centers, frequencies)
        np.testing.assert_allclose(spectrum.column_centers_s, times)
        computed = color_values(spectrum.cells, spectrum.floor, limits, "db")
        expected = 10 * np.log10(np.maximum(density, spectrum.floor))
        np.testing.assert_allclose(computed, expected, atol=1e-3, rtol=0)
        audible = expected[density > spectrum.floor]
        assert limits.low <= audible.min() < limits.low + 10 and limits.high - 10 < audible.max() <= limits.high


def test_constant_q_equals_librosa():
    samples, rate = CLIPS["sweep"]
    spectrum, limits = spectrum_and_limits(samples, rate, Recipe(transform="cqt"))
    expected = np.abs(librosa.cqt(samples, sr=rate, n_bins=len(spectrum.row_centers))) ** 2
    computed = np.maximum(color_values(spectrum.cells, spectrum.floor, limits, "db"), -80)
    np.testing.assert_allclose(computed, librosa.power_to_db(expected, ref=np.max), atol=1e-3, rtol=0)


def by_matplotlib(samples, rate, recipe):
    """Plot the array by matplotlib alone: specshow's coordinates, pcolormesh, fig.colorbar, in the frame's layout."""
    spectrum, limits = spectrum_and_limits(samples, rate, recipe)
    table = palette(recipe.colormap, level_count(recipe))[: level_count(recipe)]
    table = matplotlib.colormaps[recipe.colormap] if level_count(recipe) == 256 else ListedColormap(table / 255)
    cells = color_values(spectrum.cells, spectrum.floor, limits, recipe.amplitude)
    time, rows = axis_scales(spectrum, recipe)
    layout = recipe.layout
    with matplotlib.rc_context(frames.frame_style(recipe.dpi)):
        if recipe.frame == "none":
            figure = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.set(xlim=(time.low, time.high))
            frames.set_row_axis(axes, rows)
        else:
            figure = frames.frame_figure(recipe, time, rows, (limits.low, limits.high), "")
            axes = figure.axes[0]
        mesh = axes.pcolormesh(
            spectrum.column_centers_s,
            spectrum.row_centers,
            cells,
            cmap=table,
            vmin=limits.low,
            vmax=limits.high,
            shading="auto",
        )
        axes.set(xlim=(time.low, time.high), ylim=(rows.low, rows.high))
        if layout.colorbar is not None:
            figure.axes[1].remove()
            box = layout.colorbar
            place = (box.left / recipe.width, 1 - box.bottom / recipe.height)
            bar = figure.add_axes((*place, box.width / recipe.width, box.height / recipe.height))
            label = color_label(recipe) if recipe.frame.labels else ""
            figure.colorbar(mesh, cax=bar, label=label).outline.set_linewidth(
                frames.frame_style(recipe.dpi)["axes.linewidth"]
            )
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3], table


def levels_of(colors_rgb, table, count):
    """Return the index of each colour in a lookup table; -1000 if it is not in the table."""
    listed = (np.asarray(table(np.arange(count)))[:, :3] * 255).round().astype(int)
    index = {tuple(c): k for k, c in enumerate(listed.tolist())}
    flat = colors_rgb.reshape(-1, 3).tolist()
    return np.array([index.get(tuple(c), -1000) for c in flat]).reshape(colors_rgb.shape[:2])


RECIPES = {
    "bare": {},
    "bare log": {"frequency": "log"},
    "bare, fewer pixels than cells": {"frequency": "log", "width": 144, "height": 96},
    "bare mel": {"transform": "mel", "width": 1000, "height": 400},
    "bare, part of the frequencies": {"f_min": 200, "f_max": 5000, "frequency": "log", "width": 224, "height": 224},
    "bare linear amplitude": {"amplitude": "linear", "colormap": "magma"},
    "paper": {"preset": "paper"},
    "paper 384": {"preset": "paper", "size": 384},
    "linear frequency": {"preset": "paper_linear_frequency"},
    "low resolution": {"preset": "paper_low_resolution"},
    "mel": {"preset": "paper_mel"},
    "mfcc": {"preset": "paper_mfcc"},
    "no labels": {"preset": "paper_no_labels"},
    "colorbar and title": {"preset": "paper", "frame": FRAMED, "width": 1000, "height": 400},
    "scipy": {"preset": "scipy"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_pixels_equal_those_of_matplotlib(name):
    recipe = Recipe(**RECIPES[name])
    for clip in list(CLIPS)[:3]:
        samples, rate = CLIPS[clip]
        recipe = recipe if recipe.rate else recipe.model_copy(update={"rate": RATE})
        computed = render(samples, rate, recipe)
        expected, table = by_matplotlib(samples, rate, recipe)
        decoded = read_rgb(computed.bytes)
        assert decoded.shape == expected.shape == (recipe.height, recipe.width, 3)
        number, count = read_indices(computed.bytes).astype(int), level_count(recipe)
        if count < 256:
            data = number < count
            off = (np.abs(decoded.astype(int) - expected).max(axis=2) > 5) & ~data
            # fig.colorbar joins the lines of its outline differently: four corners of one pixel
            corners = 4 if recipe.layout.colorbar else 0
            assert off.sum() <= corners and np.abs(decoded.astype(int) - expected)[off].max(initial=0) <= 31, (
                "the frame"
            )
        else:
            data = np.ones_like(number, bool)
        expected = levels_of(expected, table, count)
        apart = np.abs(number - expected)[data]
        assert (apart <= 1).mean() >= 0.999, f"{clip}: {(apart > 1).mean():.5f} of the data area"
        inner = recipe.layout.data
        if count < 256:
            frame = frames.draw_frame(
                recipe, *axis_scales(spectrum_and_limits(samples, rate, recipe)[0], recipe), (0, 1), ""
            )
            assert data[frame.data.slices].all()
            assert 0 <= frame.data.left - inner.left <= 1 and 0 <= inner.right - frame.data.right <= 1
            assert data.sum() == frame.data.width * frame.data.height + (
                frame.colorbar.width * frame.colorbar.height if frame.colorbar and recipe.frame.colorbar else 0
            )


@pytest.mark.parametrize(
    ("recipe", "axis"),
    [
        (Recipe(frequency="log"), "log"),
        (Recipe(transform="mel"), "mel"),
        (Recipe(frequency="linear"), "linear"),
        (Recipe(transform="cqt"), "cqt_hz"),
    ],
)
def test_axes_equal_those_of_specshow(recipe, axis):
    import librosa.display

    samples, rate = CLIPS["sweep"]
    spectrum, limits = spectrum_and_limits(samples, rate, recipe)
    time, rows = axis_scales(spectrum, recipe)
    axes = Figure().add_subplot()
    librosa.display.specshow(
        color_values(spectrum.cells, spectrum.floor, limits, "db"),
        ax=axes,
        sr=rate,
        hop_length=512,
        x_axis="time",
        y_axis=axis,
    )
    np.testing.assert_allclose(axes.get_xlim(), (time.low, time.high))
    np.testing.assert_allclose(axes.get_ylim(), (rows.low, rows.high), rtol=1e-6)
    inside = np.linspace(rows.low, rows.high, 1000)
    low, high = axes.yaxis.get_transform().transform(np.array(axes.get_ylim()))
    expected = (axes.yaxis.get_transform().transform(inside) - low) / (high - low)
    np.testing.assert_allclose(rows.positions(inside), expected, atol=1e-6)
    framed = frames.frame_figure(recipe.model_copy(update={"frame": FrameParts()}), time, rows, None, "").axes[0]
    if axis != "linear":  # its number of ticks depends on the height
        assert framed.get_yticks().tolist() == axes.get_yticks().tolist()


def test_fewer_levels_differ_by_at_most_one_entry_of_the_matplotlib_colormap():
    # value x in 0..1 is entry floor(256 x) of matplotlib's table, and level floor(224 x) of ours
    x = np.linspace(0, 1, 100_001)
    exact = np.minimum(x * 256, 255).astype(int)
    computed = ((np.minimum(x * 224, 223).astype(int) + 0.5) / 224 * 256).astype(int)
    assert np.abs(exact - computed).max() <= 1
    listed = (np.asarray(matplotlib.colormaps["viridis"].colors) * 255).round().astype(int)
    np.testing.assert_allclose(
        palette("viridis", 224)[:224], listed[((np.arange(224) + 0.5) / 224 * 256).astype(int)], atol=1
    )
    np.testing.assert_allclose(palette("viridis", 256), listed, atol=1)


def test_nearest_equals_imshow_on_linear_axes():
    samples, rate = CLIPS["sweep"]
    recipe = Recipe(width=300, height=200)
    spectrum, limits = spectrum_and_limits(samples, rate, recipe)
    figure = Figure(figsize=(3, 2), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(
        color_values(spectrum.cells, spectrum.floor, limits, "db"),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        vmin=-80,
        vmax=0,
        cmap="gray",
    )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    expected = np.asarray(canvas.buffer_rgba())[:, :, 0].astype(int)
    computed = palette_indices(spectrum, limits, recipe).astype(int)
    assert (np.abs(computed - expected) <= 1).mean() >= 0.999


def test_bilinear_and_area_equal_their_definitions():
    samples, rate = CLIPS["sweep"]
    for resampling, size in (("bilinear", (400, 300)), ("area", (40, 30))):
        recipe = Recipe(resampling=resampling, width=size[0], height=size[1])
        spectrum, limits = spectrum_and_limits(samples, rate, recipe)
        db = np.clip(color_values(spectrum.cells, spectrum.floor, limits, "db"), -80, 0)
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
        values = palette_indices(spectrum, limits, recipe).astype(int)
        assert (np.abs(level - values) <= 1).all() and (level == values).mean() > 0.98


@pytest.mark.parametrize("preset", ["paper_colorbar", "plain"])
def test_rgb_has_the_pixels_of_the_palette_image_and_jpeg_similar_ones(preset):
    samples, rate = CLIPS["sweep"]
    images = {f: render(samples, rate, Recipe(preset=preset, format=f)) for f in ("palette", "rgb", "jpeg")}
    assert [p.media_type for p in images.values()] == ["image/png", "image/png", "image/jpeg"]
    exact = read_rgb(images["palette"].bytes)
    assert (read_rgb(images["rgb"].bytes) == exact).all()
    assert Image.open(io.BytesIO(images["rgb"].bytes)).mode == "RGB"
    assert np.abs(read_rgb(images["jpeg"].bytes).astype(int) - exact).mean() < 6


def test_png_of_any_pixels_is_decoded_unchanged(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (5, 1), (33, 70)):
        for n_colors in (2, 256):
            image = rng.integers(0, n_colors, shape).astype(np.uint8)
            image[shape[0] // 2 :] = image[shape[0] // 2]
            recipe = Recipe()
            assert (read_indices(encode_image(image, recipe).bytes) == image).all()
            as_rgb = encode_image(image, Recipe(format="rgb"))
            assert (read_rgb(as_rgb.bytes) == palette("viridis", 256)[image]).all()


@pytest.mark.parametrize(("low", "high"), [(5000, 8000), (1100, 2000), (300, 450), (0, 60)])
def test_a_narrow_frequency_axis_has_numbers(low, high):
    """No two powers of two are between f_min and f_max."""
    axes = Figure().add_subplot()
    frames.set_row_axis(axes, frequency_scale("log", low, high))
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 2
    assert min(axes.get_yticks()) >= 0


def visible_ticks(axis, low, high):
    return [tick for tick in axis.get_majorticklocs() if low <= tick <= high]


def test_the_frame_has_the_labels_and_ticks_of_specshow():
    """The labels and tick numbers equal those of `specshow` on axes of the same position and size."""
    import librosa.display

    recipe = Recipe(preset="paper_colorbar")
    spectrum, limits = spectrum_and_limits(clips()["sweep"][0], RATE, recipe)
    time, rows = axis_scales(spectrum, recipe)
    box = recipe.layout.data
    place = (
        box.left / recipe.width,
        1 - box.bottom / recipe.height,
        box.width / recipe.width,
        box.height / recipe.height,
    )
    with matplotlib.rc_context(frames.frame_style(recipe.dpi)):
        computed = frames.frame_figure(recipe, time, rows, (limits.low, limits.high), "")
        usual = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
        librosa.display.specshow(
            color_values(spectrum.cells, spectrum.floor, limits, "db"),
            sr=RATE,
            hop_length=recipe.hop_length,
            x_axis="time",
            y_axis="log",
            ax=usual.add_axes(place),
        )
        for figure in (computed, usual):
            FigureCanvasAgg(figure).draw()
        frame, expected = computed.axes[0], usual.axes[0]
        assert (frame.get_xlabel(), frame.get_ylabel()) == ("Time (s)", "Frequency (Hz)")
        assert computed.axes[1].get_ylabel() == "Level (dB)"
        our_ticks, their_ticks = (visible_ticks(a.yaxis, rows.low, rows.high) for a in (frame, expected))
        assert our_ticks == their_ticks
        assert visible_ticks(frame.xaxis, time.low, time.high) and frame.get_xlim() == pytest.approx(
            expected.get_xlim(), abs=1e-6
        )
        assert [
            float(t.get_text().replace("\N{MINUS SIGN}", "-")) for t in frame.get_xticklabels()
        ] == frame.get_xticks().tolist()
