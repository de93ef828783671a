"""Every entry of TRANSFORMS follows the contract, and a new transform needs only an entry."""

import librosa
import matplotlib
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.renderings.colors import color_label, color_limits, has_clip_specific_limits
from vlm_audio_pipeline.renderings.frame import frame_figure, frame_style
from vlm_audio_pipeline.renderings.image import axis_scales, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.spectrum import Spectrum
from vlm_audio_pipeline.renderings.stage import rendering_stage
from vlm_audio_pipeline.renderings.transforms import TRANSFORMS, Transform, compute_spectrum
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline.studies.schema import study_schema
from vlm_audio_pipeline_tests.datasets.clip_rows import clip_row
from vlm_audio_pipeline_tests.renderings.clips import RATE, read_indices, sweep
from vlm_audio_pipeline_tests.renderings.test_time_frequency import librosa_pcen

FRAME = {"labels": True, "ticks": True, "colorbar": True}


@pytest.fixture(params=[*TRANSFORMS, "added"])
def name(request, monkeypatch):
    if request.param == "added":
        add_envelope(monkeypatch)
        return "envelope"
    return request.param


def envelope(samples, sample_rate_hz, parameters):
    """Return two rows: the mean and the peak magnitude of each frame of `hop_length` samples."""
    hop = parameters.hop_length
    frames = np.abs(np.pad(samples, (0, -len(samples) % hop))).reshape(-1, hop)
    cells = np.stack([frames.mean(axis=1), frames.max(axis=1)]).astype(np.float32)
    centers_s = (np.arange(len(frames)) + 0.5) * hop / sample_rate_hz
    return Spectrum(cells, np.arange(2.0), centers_s, hop / sample_rate_hz, None)


def add_envelope(monkeypatch):
    entry = Transform(envelope, axes=("linear",), label="Statistic", unit="", is_power=False, has_numbered_rows=True)
    monkeypatch.setitem(TRANSFORMS, "envelope", entry)


def test_the_array_is_float32_with_ascending_axes(name):
    transform = TRANSFORMS[name]
    for seconds in (0.001, 0.5, 3):
        spectrum = compute_spectrum(sweep(3)[: round(seconds * RATE)], RATE, Recipe(transform=name))
        rows, frames = spectrum.cells.shape
        assert spectrum.cells.dtype == np.float32 and np.isfinite(spectrum.cells).all()
        assert spectrum.row_centers.shape == (rows,) and spectrum.column_centers_s.shape == (frames,)
        assert (np.diff(spectrum.row_centers) > 0).all() and (np.diff(spectrum.column_centers_s) > 0).all()
        assert len(spectrum.row_edges) == rows + 1 and len(spectrum.column_edges_s) == frames + 1
        assert spectrum.hop_s > 0
        assert (spectrum.floor is not None) == transform.is_power
        assert not transform.is_power or (spectrum.cells >= 0).all()


def test_the_clip_fills_the_time_axis(name):
    spectrum = compute_spectrum(sweep(3), RATE, Recipe(transform=name))
    time, _ = axis_scales(spectrum, Recipe(transform=name))
    assert abs(time.low) <= spectrum.hop_s and abs(time.high - 3) <= 2 * spectrum.hop_s


def test_every_axis_of_a_transform_can_be_drawn(name):
    transform = TRANSFORMS[name]
    assert transform.axes and transform.label and transform.unit in ("Hz", "")
    assert Recipe(transform=name).frequency == transform.axes[0], "the first axis is the default"
    for axis in transform.axes:
        recipe = Recipe(transform=name, frequency=axis, frame=FRAME)
        spectrum = compute_spectrum(sweep(), RATE, recipe)
        time, rows = axis_scales(spectrum, recipe)
        assert rows.low < rows.high
        assert rows.is_integer == transform.has_numbered_rows == (name in ("mfcc", "envelope"))
        positions = rows.positions(spectrum.row_centers)
        assert (np.diff(positions) > 0).all() and positions.min() >= -0.01 and positions.max() <= 1.01
        with matplotlib.rc_context(frame_style(recipe.dpi)):
            axes, colorbar = frame_figure(recipe, time, rows, (0, 1), "").axes
        unit = f" ({transform.unit})" if transform.unit else ""
        assert axes.get_ylabel() == transform.axis_label() == f"{transform.label}{unit}"
        assert colorbar.get_ylabel() == color_label(recipe) == ("Level (dB)" if transform.is_power else "Value")
    others = {"linear", "log", "mel"} - set(transform.axes)
    for axis in others:
        with pytest.raises(ValidationError, match=f"for transform {name}, got '{axis}'"):
            Recipe(transform=name, frequency=axis)


def test_color_limits_contain_the_data(name):
    recipe = Recipe(transform=name, range_db=None)
    limits = color_limits(compute_spectrum(sweep(), RATE, recipe), recipe)
    assert limits.low < limits.high and not limits.is_silent
    assert has_clip_specific_limits(recipe) == (name != "waveform"), "a waveform is black on white in every clip"
    assert has_clip_specific_limits(Recipe(transform=name)) == (name != "waveform" and not TRANSFORMS[name].is_power)


@pytest.mark.parametrize("frame", ["none", FRAME])
def test_the_same_clip_gives_the_same_bytes(name, frame):
    recipe = Recipe(transform=name, frame=frame, width=320, height=240)
    image = render(sweep(), RATE, recipe)
    assert image.bytes == render(sweep().copy(), RATE, recipe).bytes
    assert read_indices(image.bytes).shape == (240, 320)
    assert len(np.unique(read_indices(image.bytes))) > (1 if name == "waveform" else 5), "the image shows data"


def test_the_summary_names_axis_and_amplitude_only_where_they_apply(name):
    transform, summary = TRANSFORMS[name], Recipe(transform=name).summary()
    assert summary.startswith(f"{name}, ")
    assert (f"{transform.axes[0]} frequency" in summary) == (transform.unit == "Hz")
    assert ("db" in summary) == transform.is_power


STUDY = """
dataset: {kind: synthetic, clips: 40, n_folds: 2, duration_s: 1}
renderings: {mine: {transform: envelope, frame: {colorbar: true}, hop_length: 200}}
encoders: {scripted: {kind: scripted}}
classifiers: {probe: {kind: probe, encoder: scripted}}
"""


def test_a_new_transform_needs_only_an_entry_in_the_table(tmp_path, monkeypatch):
    with pytest.raises(ValidationError, match="unknown transform 'envelope'"):
        Recipe(transform="envelope")
    add_envelope(monkeypatch)
    study = parse_study(STUDY, tmp_path / "new.yaml")
    recipe = study.renderings["mine"]
    assert recipe.fingerprint() != Recipe(frame={"colorbar": True}, hop_length=200).fingerprint()
    assert "envelope" in str(study_schema()["$defs"]["renderings.recipe"]["properties"]["transform"])

    dataset = SyntheticDataset(clips=40, n_folds=2, duration_s=1).open(DataFolder(tmp_path / "data"))
    rows = [clip_row(dataset, clip) for clip in dataset.clips if clip.fold == 1]
    clips = {"clips": pa.Table.from_pylist(rows)}
    store = ResultStore(tmp_path / "results.sqlite")
    context = StageContext("new", "mine", 1, dataset.classes, clips, dataset, store, engine=LocalEngine())
    table = rendering_stage(recipe).run(context)["spectrograms"]
    table = TABLES["spectrograms"].conform(table, study="new", rendering="mine", fold=1)
    assert table.num_rows == len(rows)
    image = read_indices(table["image"][0].as_py())
    box = recipe.layout.data
    mean, peak = np.split(image[box.slices][2:-2, 2:-2].astype(int), 2)[::-1]
    assert peak.mean() >= mean.mean(), "high rows are on top"


@pytest.mark.parametrize("level", [1.0, 0.01])
def test_pcen_is_that_of_librosa_for_32_bit_samples(level):
    samples = level * sweep(2)
    recipe = Recipe(transform="pcen", n_mels=40)
    magnitudes = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=2048, hop_length=512, n_mels=40, power=1)
    expected = librosa_pcen(magnitudes * 2**31)
    assert np.allclose(compute_spectrum(samples, RATE, recipe).cells, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "ticks"),
    [
        ({"frequency": "linear", "rate": 44100}, ["0", "2.5", "5", "7.5", "10", "12.5", "15", "17.5", "20"]),
        ({"transform": "mel", "rate": RATE}, ["0", "0.25", "0.5", "1", "2", "4", "8"]),
        ({"frequency": "log", "rate": RATE, "f_min": 400}, ["0.5", "1", "2", "4", "8"]),
    ],
)
def test_the_frequency_axis_can_be_in_khz(fields, ticks):
    recipe = Recipe(**fields, frame={"frequency_unit": "kHz"})
    time, rows = axis_scales(compute_spectrum(sweep(rate=recipe.rate), recipe.rate, recipe), recipe)
    with matplotlib.rc_context(frame_style(recipe.dpi)):
        figure = frame_figure(recipe, time, rows, None, "")
        figure.canvas.draw()
        axis = figure.axes[0].yaxis
        low, high = figure.axes[0].get_ylim()
        texts = [
            t.get_text() for t, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True) if low <= at <= high
        ]
    assert texts == ticks and figure.axes[0].get_ylabel() == "Frequency (kHz)"
    assert Recipe(transform="mfcc", frame={"frequency_unit": "kHz"}).summary() and "axis in kHz" in recipe.summary()


def test_loud_sounds_outside_of_the_visible_frequencies_can_be_ignored():
    rumble = np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    tone = np.sin(2 * np.pi * 5000 * np.arange(RATE) / RATE)
    samples = (0.5 * rumble + 0.0005 * tone).astype(np.float32)  # 60 dB below the rumble
    fields = {"f_min": 1000, "f_max": 8000, "range_db": 50}
    limits = {
        name: color_limits(compute_spectrum(samples, RATE, Recipe(**fields)), Recipe(**fields, reference=name))
        for name in ("max", "visible_max")
    }
    ratio_db = 10 * np.log10(limits["max"].reference / limits["visible_max"].reference)
    assert ratio_db == pytest.approx(60, abs=1)
    assert not read_indices(render(samples, RATE, Recipe(**fields)).bytes).any()
    assert read_indices(render(samples, RATE, Recipe(**fields, reference="visible_max")).bytes).max() >= 245
