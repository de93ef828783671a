import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.audio import decode
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.renderings import frame as frames
from vlm_audio_pipeline.renderings.controls import (
    CONTROL_VERSION,
    CONTROLS,
    blank,
    controlled_name,
    controlled_stage,
    other_clip,
)
from vlm_audio_pipeline.renderings.picture import levels, render
from vlm_audio_pipeline.renderings.presets import PRESETS
from vlm_audio_pipeline.renderings.recipe import STEP_VERSION, Recipe
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.renderings.hearing import numbers

PAPER = Recipe(preset="paper_colorbar")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return SyntheticDataset(clips=40, n_folds=2, duration_s=1).open(Layout(tmp_path_factory.mktemp("c") / "data"))


@pytest.fixture(scope="module")
def clips(dataset):
    rows = [
        {
            "clip": c.id,
            "label": c.label,
            "source": c.source,
            "file": c.file,
            "start_s": c.start_s,
            "end_s": c.end_s,
            "fold": c.fold,
        }
        for c in dataset.clips
    ]
    for row in rows:
        samples, rate, _ = decode(dataset.root / row["file"])
        row |= {"duration_s": len(samples) / rate, "rate_hz": rate}
    return [row for row in rows if row["fold"] == 1]


def made(stage, dataset, clips, tmp_path, **inputs):
    """Run a stage for fold 1 as the pipeline does."""
    told = []
    context = StageContext(
        study="s",
        name="paper",
        fold=1,
        classes=dataset.classes,
        inputs={"clips": pa.Table.from_pylist(clips), **inputs},
        dataset=dataset,
        rows=RowStore(tmp_path / "rows.sqlite"),
        progress=lambda *args: told.append(args),
    )
    table = stage.run(context)["spectrograms"]
    assert not told or told[-1][:2] == (len(clips), len(clips))
    return TABLES["spectrograms"].conform(table, study="s", rendering="paper", fold=1)


@pytest.fixture
def pictures(dataset, clips, tmp_path):
    """The real pictures."""
    (stage,) = PAPER.stages("paper")
    assert (stage.asset, stage.tables, stage.version, stage.per_fold) == (
        "spectrograms",
        ("spectrograms",),
        STEP_VERSION,
        True,
    )
    return made(stage, dataset, clips, tmp_path)


def test_the_stage_draws_every_clip(pictures, clips):
    assert pictures["clip"].to_pylist() == sorted(c["clip"] for c in clips)
    assert set(pictures["media_type"].to_pylist()) == {"image/png"}
    assert set(pictures["width"].to_pylist()) == {640} and len(set(pictures["picture_sha256"].to_pylist())) == len(
        clips
    )


def test_blank_is_one_picture_for_clips_of_one_length(pictures, dataset, clips, tmp_path):
    blank = made(controlled_stage("paper", PAPER, "blank"), dataset, clips, tmp_path)
    assert len(set(blank["picture_sha256"].to_pylist())) == 1
    box = frames.layout(PAPER).data
    inner = np.s_[box.top + 2 : box.bottom - 2, box.left + 2 : box.right - 2]
    real, empty = (numbers(table["picture"][0].as_py()).copy() for table in (pictures, blank))
    assert not empty[inner].any() and real[inner].any()
    empty[box.window] = real[box.window] = 0
    assert (empty == real).all(), "the frame and the colorbar are the real picture's"


def test_blank_does_not_read_the_recording(dataset, clips, tmp_path):
    gone = [{**c, "file": "gone.wav"} for c in clips]
    assert made(controlled_stage("paper", PAPER, "blank"), dataset, gone, tmp_path).num_rows == len(clips)
    longer = [{**c, "duration_s": 1 + i / 10} for i, c in enumerate(clips)]
    table = made(controlled_stage("paper", PAPER, "blank"), dataset, longer, tmp_path)
    assert len(set(table["picture_sha256"].to_pylist())) == len(clips), "another length has other ticks"


def test_time_shuffled_has_the_same_columns_in_another_order(dataset, clips, tmp_path):
    # one pixel a frame: 1 s at 22050 Hz and hop 512 is 44 frames
    bare = Recipe(frequency="log", width=44, height=100)
    (stage,) = bare.stages("bare")
    real = made(stage, dataset, clips, tmp_path)
    shuffled = made(controlled_stage("bare", bare, "time_shuffled"), dataset, clips, tmp_path)
    again = made(controlled_stage("bare", bare, "time_shuffled"), dataset, clips[::-1], tmp_path)
    assert again.equals(shuffled)
    orders = set()
    for a, b in zip(real["picture"].to_pylist(), shuffled["picture"].to_pylist(), strict=True):
        columns, others = numbers(a).T.tolist(), numbers(b).T.tolist()
        assert columns != others and sorted(columns) == sorted(others)
        orders.add(tuple(columns.index(c) for c in others))
    assert len(orders) == len(clips), "seeded by the clip"


def test_time_shuffled_keeps_the_frame(pictures, dataset, clips, tmp_path):
    shuffled = made(controlled_stage("paper", PAPER, "time_shuffled"), dataset, clips, tmp_path)
    box = frames.layout(PAPER).data
    for a, b in zip(pictures["picture"].to_pylist(), shuffled["picture"].to_pylist(), strict=True):
        a, b = numbers(a).copy(), numbers(b).copy()
        assert (a != b).any()
        a[box.window] = b[box.window] = 0
        assert (a == b).all()


def test_other_clip_is_a_real_picture_of_another_class(pictures, dataset, clips, tmp_path):
    stage = controlled_stage("paper", PAPER, "other_clip")
    assert [i.key for i in stage.inputs] == ["clips", "spectrograms/paper"]
    other = made(stage, dataset, clips, tmp_path, **{"spectrograms/paper": pictures})
    labels = {c["clip"]: c["label"] for c in clips}
    owner = dict(zip(pictures["picture_sha256"].to_pylist(), pictures["clip"].to_pylist(), strict=True))
    for clip, sha in zip(other["clip"].to_pylist(), other["picture_sha256"].to_pylist(), strict=True):
        assert labels[owner[sha]] != labels[clip]
    assert len(set(other["picture_sha256"].to_pylist())) > len(clips) / 3, "not one picture for all"


def test_other_clip_stays_when_clips_come_and_go(clips):
    chosen = {c["clip"]: other_clip(c, clips) for c in clips}
    without = [c for c in clips if c["clip"] != clips[0]["clip"]]
    moved = [c for c in without if other_clip(c, without) != chosen[c["clip"]]]
    assert all(chosen[c["clip"]] == clips[0] for c in moved)


def test_a_fold_of_one_class_has_no_other_clip(pictures, dataset, clips, tmp_path):
    one = [c for c in clips if c["label"] == clips[0]["label"]]
    with pytest.raises(
        VlmAudioError, match=r"a clip of another class and another source .*, got none in fold 1 for \["
    ):
        made(controlled_stage("p", PAPER, "other_clip"), dataset, one, tmp_path, **{"spectrograms/p": pictures})


def test_other_clip_is_of_another_source(pictures, dataset, clips, tmp_path):
    # one recording with a stretch of each of two classes: neither may stand in for the other
    first = clips[0]
    second = next(c for c in clips if c["label"] != first["label"])
    third = next(c for c in clips if c["label"] not in (first["label"], second["label"]))
    cut = [{**first, "source": "one"}, {**second, "source": "one"}]
    assert [other_clip(c, cut) for c in cut] == [None, None]
    assert [other_clip(c, [*cut, third]) for c in cut] == [third, third]
    with pytest.raises(VlmAudioError, match=f"got none in fold 1 for .*'{first['clip']}'.*; leave the control out"):
        made(controlled_stage("p", PAPER, "other_clip"), dataset, cut, tmp_path, **{"spectrograms/p": pictures})


def test_names_and_fingerprints():
    assert controlled_name("paper", "blank") == "paper__blank"
    parameters = [dict(controlled_stage("paper", PAPER, c).parameters) for c in CONTROLS]
    assert parameters[0] != parameters[1] != parameters[2]
    assert dict(controlled_stage("paper", Recipe(), "blank").parameters) != parameters[0]
    with pytest.raises(VlmAudioError, match="did you mean 'blank'"):
        controlled_stage("paper", PAPER, "blanc")


@pytest.mark.parametrize("name", PRESETS)
def test_blank_is_the_clips_frame_and_the_lowest_colour(name, dataset, clips):
    recipe = Recipe(preset=name)
    box = frames.layout(recipe).data
    empty = numbers(blank(dataset, clips[0], recipe).bytes)
    real = numbers(recipe.draw(dataset, clips[0]).bytes)
    around = np.ones(real.shape, bool)
    around[box.window] = False
    assert np.array_equal(empty[around], real[around]), "the same frame, a colorbar's numbers included"
    greys = levels(recipe)  # an axis's line may lie on the data's edge
    assert {*np.unique(empty[box.window])} - {*range(greys, 256)} == {0}
    assert len(np.unique(real[box.window])) > 20


@pytest.mark.parametrize("frames_", [2, 3])
def test_time_shuffled_is_never_the_very_order_where_there_is_another(frames_):
    recipe = Recipe(preset="plain")
    samples = np.sin(np.arange((frames_ - 1) * recipe.hop_length) ** 2 / 9000).astype(np.float32)
    real = render(samples, recipe.rate, recipe).bytes
    assert all(render(samples, recipe.rate, recipe, order=seed).bytes != real for seed in range(20))


def test_orders_and_other_clips_are_on_record():
    """Golden: if these change, raise CONTROL_VERSION, for pictures on record are then others."""
    assert CONTROL_VERSION == 3
    rows = [{"clip": f"c{i}", "label": f"l{i % 3}", "source": f"s{i}"} for i in range(9)]
    assert [other_clip(row, rows)["clip"] for row in rows] == ["c1", "c6", "c6", "c4", "c0", "c4", "c8", "c0", "c4"]
    seed = int(fingerprint("time_shuffled", "1-17367-A"), 16)
    assert np.random.default_rng(seed).permutation(8).tolist() == [5, 0, 2, 7, 4, 1, 3, 6]
