import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.base import ClipRow
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.renderings.controls import (
    CONTROL_VERSION,
    CONTROLS,
    choose_other_clip,
    control_stage,
    render_blank,
)
from vlm_audio_pipeline.renderings.image import level_count, palette, render
from vlm_audio_pipeline.renderings.presets import PRESETS
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import STEP_VERSION, render_clip, rendering_stage
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.datasets.clip_rows import clip_row
from vlm_audio_pipeline_tests.renderings.clips import read_indices, read_rgb

PAPER = Recipe(preset="paper_colorbar")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return SyntheticDataset(clips=40, n_folds=2, duration_s=1).open(DataFolder(tmp_path_factory.mktemp("c") / "data"))


@pytest.fixture(scope="module")
def clips(dataset):
    return [clip_row(dataset, c) for c in dataset.clips if c.fold == 1]


def run_stage(stage, dataset, clips, tmp_path, **inputs):
    """Run a stage for fold 1 and return its stored table."""
    progress_calls = []
    context = StageContext(
        study="s",
        name="paper",
        fold=1,
        classes=dataset.classes,
        inputs={"clips": pa.Table.from_pylist(clips), **inputs},
        dataset=dataset,
        result_store=ResultStore(tmp_path / "results.sqlite"),
        progress=lambda *args: progress_calls.append(args),
        engine=LocalEngine(),
    )
    table = stage.run(context)["spectrograms"]
    assert not progress_calls or progress_calls[-1][:2] == (len(clips), len(clips))
    return TABLES["spectrograms"].conform(table, study="s", rendering="paper", fold=1)


@pytest.fixture
def images(dataset, clips, tmp_path):
    """Return the original images of the clips."""
    stage = rendering_stage(PAPER)
    assert (stage.asset, stage.tables, stage.version, stage.per_fold) == (
        "spectrograms",
        ("spectrograms",),
        STEP_VERSION,
        True,
    )
    return run_stage(stage, dataset, clips, tmp_path)


def test_the_stage_renders_every_clip(images, clips):
    assert images["clip"].to_pylist() == sorted(c["clip"] for c in clips)
    assert set(images["media_type"].to_pylist()) == {"image/png"}
    assert set(images["width"].to_pylist()) == {640} and len(set(images["image_sha256"].to_pylist())) == len(clips)


def test_blank_is_one_image_for_clips_of_one_length(images, dataset, clips, tmp_path):
    blank = run_stage(control_stage("paper", PAPER, "blank"), dataset, clips, tmp_path)
    assert len(set(blank["image_sha256"].to_pylist())) == 1
    box = PAPER.layout.data
    inner = np.s_[box.top + 2 : box.bottom - 2, box.left + 2 : box.right - 2]
    real, empty = (read_indices(table["image"][0].as_py()).copy() for table in (images, blank))
    assert not empty[inner].any() and real[inner].any()
    empty[box.slices] = real[box.slices] = 0
    assert (empty == real).all(), "the frame and the colorbar are the real image's"


def test_blank_does_not_read_the_recording(dataset, clips, tmp_path):
    missing_files = [{**c, "file": "gone.wav"} for c in clips]
    assert run_stage(control_stage("paper", PAPER, "blank"), dataset, missing_files, tmp_path).num_rows == len(clips)
    longer = [{**c, "duration_s": 1 + i / 10} for i, c in enumerate(clips)]
    table = run_stage(control_stage("paper", PAPER, "blank"), dataset, longer, tmp_path)
    assert len(set(table["image_sha256"].to_pylist())) == len(clips), "another length has other ticks"


def test_time_shuffled_has_the_same_columns_in_another_order(dataset, clips, tmp_path):
    # one pixel per frame: 1 s at 22050 Hz and hop 512 is 44 frames
    bare = Recipe(frequency="log", width=44, height=100)
    stage = rendering_stage(bare)
    real = run_stage(stage, dataset, clips, tmp_path)
    shuffled = run_stage(control_stage("bare", bare, "time_shuffled"), dataset, clips, tmp_path)
    again = run_stage(control_stage("bare", bare, "time_shuffled"), dataset, clips[::-1], tmp_path)
    assert again.equals(shuffled)
    orders = set()
    for a, b in zip(real["image"].to_pylist(), shuffled["image"].to_pylist(), strict=True):
        columns, others = read_indices(a).T.tolist(), read_indices(b).T.tolist()
        assert columns != others and sorted(columns) == sorted(others)
        orders.add(tuple(columns.index(c) for c in others))
    assert len(orders) == len(clips), "seeded by the clip"


def test_time_shuffled_keeps_the_frame(images, dataset, clips, tmp_path):
    shuffled = run_stage(control_stage("paper", PAPER, "time_shuffled"), dataset, clips, tmp_path)
    box = PAPER.layout.data
    for a, b in zip(images["image"].to_pylist(), shuffled["image"].to_pylist(), strict=True):
        a, b = read_indices(a).copy(), read_indices(b).copy()
        assert (a != b).any()
        a[box.slices] = b[box.slices] = 0
        assert (a == b).all()


def test_other_clip_is_the_image_of_a_clip_of_another_class(images, dataset, clips, tmp_path):
    stage = control_stage("paper", PAPER, "other_clip")
    assert [i.key for i in stage.inputs] == ["clips", "spectrograms/paper"]
    other = run_stage(stage, dataset, clips, tmp_path, **{"spectrograms/paper": images})
    labels = {c["clip"]: c["label"] for c in clips}
    clip_of = dict(zip(images["image_sha256"].to_pylist(), images["clip"].to_pylist(), strict=True))
    for clip, sha in zip(other["clip"].to_pylist(), other["image_sha256"].to_pylist(), strict=True):
        assert labels[clip_of[sha]] != labels[clip]
    assert len(set(other["image_sha256"].to_pylist())) > len(clips) / 3, "not one image for all"


def test_other_clip_seldom_changes_when_clips_are_added_or_removed(clips):
    chosen = {c["clip"]: choose_other_clip(c, clips) for c in clips}
    without = [c for c in clips if c["clip"] != clips[0]["clip"]]
    changed = [c for c in without if choose_other_clip(c, without) != chosen[c["clip"]]]
    assert all(chosen[c["clip"]] == clips[0] for c in changed)


def test_a_fold_of_one_class_has_no_other_clip(images, dataset, clips, tmp_path):
    one = [c for c in clips if c["label"] == clips[0]["label"]]
    with pytest.raises(
        VlmAudioError, match=r"a clip of another class and another source .*, got none in fold 1 for \["
    ):
        run_stage(control_stage("p", PAPER, "other_clip"), dataset, one, tmp_path, **{"spectrograms/p": images})


def test_other_clip_comes_from_another_source_recording(images, dataset, clips, tmp_path):
    # one recording with a segment of each of two classes: neither may replace the other
    first = clips[0]
    second = next(c for c in clips if c["label"] != first["label"])
    third = next(c for c in clips if c["label"] not in (first["label"], second["label"]))
    cut = [{**first, "source": "one"}, {**second, "source": "one"}]
    assert [choose_other_clip(c, cut) for c in cut] == [None, None]
    assert [choose_other_clip(c, [*cut, third]) for c in cut] == [third, third]
    with pytest.raises(VlmAudioError, match=f"got none in fold 1 for .*'{first['clip']}'.*; remove the control"):
        run_stage(control_stage("p", PAPER, "other_clip"), dataset, cut, tmp_path, **{"spectrograms/p": images})


def test_names_and_fingerprints():
    assert controlled_name("paper", "blank") == "paper__blank"
    parameters = [dict(control_stage("paper", PAPER, c).parameters) for c in CONTROLS]
    assert parameters[0] != parameters[1] != parameters[2]
    assert dict(control_stage("paper", Recipe(), "blank").parameters) != parameters[0]
    with pytest.raises(VlmAudioError, match="did you mean 'blank'"):
        control_stage("paper", PAPER, "blanc")


@pytest.mark.parametrize("name", PRESETS)
def test_blank_has_the_frame_of_the_clip_and_the_lowest_colour(name, dataset, clips):
    recipe = Recipe(preset=name)
    box = recipe.layout.data
    row = ClipRow.from_row(clips[0])
    empty = read_rgb(render_blank(dataset, row, recipe).bytes)
    real = read_rgb(render_clip(dataset, row, recipe).bytes)
    around = np.ones(real.shape[:2], bool)
    around[box.slices] = False
    if (waveform := recipe.layout.waveform) is not None:
        around[waveform.slices] = False
        empty_waveform = empty[waveform.top + 2 : waveform.bottom - 2, waveform.left + 2 : waveform.right - 2]
        assert (empty_waveform == 255).all(), "no waveform"
    assert np.array_equal(empty[around], real[around]), "the same frame, the numbers of a colorbar included"
    inner = np.s_[
        box.top + 2 : box.bottom - 2, box.left + 2 : box.right - 2
    ]  # an axis line may cover the edge of the data
    assert (empty[inner] == palette(recipe.colormap, level_count(recipe))[0]).all()
    colors = len(np.unique(real[inner].reshape(-1, 3), axis=0))
    assert colors == 2 if recipe.transform == "waveform" else colors > 20


@pytest.mark.parametrize("n_frames", [2, 3])
def test_time_shuffled_is_never_the_original_order_of_two_or_more_frames(n_frames):
    recipe = Recipe(preset="plain")
    samples = np.sin(np.arange((n_frames - 1) * recipe.hop_length) ** 2 / 9000).astype(np.float32)
    real = render(samples, recipe.rate, recipe).bytes
    assert all(render(samples, recipe.rate, recipe, shuffle_seed=seed).bytes != real for seed in range(20))


def test_orders_and_other_clips_do_not_change_between_versions():
    """Golden values. If they change, raise CONTROL_VERSION, because stored images differ."""
    assert CONTROL_VERSION == 3
    rows = [{"clip": f"c{i}", "label": f"l{i % 3}", "source": f"s{i}"} for i in range(9)]
    assert [choose_other_clip(row, rows)["clip"] for row in rows] == [
        "c1",
        "c6",
        "c6",
        "c4",
        "c0",
        "c4",
        "c8",
        "c0",
        "c4",
    ]
    seed = int(fingerprint("time_shuffled", "1-17367-A"), 16)
    assert np.random.default_rng(seed).permutation(8).tolist() == [5, 0, 2, 7, 4, 1, 3, 6]
