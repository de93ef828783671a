import hashlib
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.language_models.questions import audio_lookup
from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.base import (
    DATASETS,
    Clip,
    ClipRow,
    Dataset,
    RecordingChanged,
    check_listing,
    omit_single_labels,
)
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.encoders.scripted import Scripted
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.renderings.controls import control_stage
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import clip_gallery
from vlm_audio_pipeline.renderings.stage import rendering_stage
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.datasets.clip_rows import clip_row

CHANGED = (
    r"{name}\.wav changed while the study was running \(its content hash differs\)\. "
    r"Run the study again to use the new recording\."
)
GOOD = (Clip("1", "a", 1, "s1", "1.wav"), Clip("2", "a", 2, "s2", "2.wav"))


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ((), "the dataset lists no clips; check its path"),
        ((Clip("1", "", 1, "s1", "1.wav", labels=()),), "no clip of the dataset has a label, so there are no classes"),
        ((*GOOD, Clip("1", "a", 2, "s3", "3.wav")), "clip ids must be unique, got 1 that occur more than once: '1'"),
        ((*GOOD, Clip("3", "b", 2, "s3", "3.wav")), r"labels must be among the classes \['a'\], got 'b'"),
        (
            (*GOOD, Clip("3", "a", 0, "s3", "3.wav")),
            "folds are numbered from 1, but these clips have a lower number: '3'",
        ),
    ],
)
def test_wrong_listings_are_refused(clips, message):
    check_listing(GOOD, ("a",))
    with pytest.raises(BadDataset, match=message):
        check_listing(clips, ("a",))


def test_the_hash_of_samples_is_checked_before_resampling(tmp_path):
    values = [0.5, -0.25, -0.75, 0.0]
    soundfile.write(tmp_path / "1.wav", np.array(values), 8000, subtype="FLOAT")
    dataset = Dataset(tmp_path, ("a",), GOOD, DatasetCard("t"))
    sha256, other_rate = (hashlib.sha256(struct.pack("<4fI", *values, rate)).hexdigest() for rate in (8000, 16000))
    row = ClipRow("1", "1.wav", None, None, sha256, 4 / 8000, 8000)
    assert dataset.samples(row, 8000).tolist() == values
    assert len(dataset.samples(row, 16000)) == 8
    # the peak 0.75 becomes 32767; 0.5 becomes 21844.67, cut to 21844; a reader divides by 2^15
    normalised = dataset.samples(row, 8000, normalises_peak=True)
    assert normalised.dtype == np.float32 and (normalised * 32768).tolist() == [21844, -10922, -32767, 0]
    with pytest.raises(RecordingChanged, match=CHANGED.format(name="1")):
        dataset.samples(replace(row, samples_sha256=other_rate), 16000)


def replaced_recording(folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """Return a dataset and a row of `clips`; the recording was replaced after the row was measured."""
    dataset = Dataset(folder, ("a",), GOOD, DatasetCard("t"))
    sweep = np.sin(np.linspace(0, 400, 8000) ** 1.5)
    soundfile.write(folder / "1.wav", 0.5 * sweep, 8000)
    row = clip_row(dataset, GOOD[0])
    soundfile.write(folder / "1.wav", 0.25 * sweep[::-1], 8000)
    return dataset, row


def context(dataset: Dataset, row: dict[str, Any], folder: Path) -> StageContext:
    clips = pa.Table.from_pylist([row])
    return StageContext(
        "s", "e", 1, ("a",), {"clips": clips}, dataset, ResultStore(folder / "results.sqlite"), engine=LocalEngine()
    )


RECIPE = Recipe(width=64, height=64)
COLORBAR_OF_EACH_CLIP = Recipe(transform="mfcc", frame={"colorbar": True})

CALLERS: dict[str, Callable[[Dataset, dict[str, Any], Path], object]] = {
    "rendering": lambda dataset, row, folder: rendering_stage(RECIPE).run(context(dataset, row, folder)),
    "control time_shuffled": lambda dataset, row, folder: control_stage("r", RECIPE, "time_shuffled").run(
        context(dataset, row, folder)
    ),
    "control blank with the clip's colorbar": lambda dataset, row, folder: control_stage(
        "r", COLORBAR_OF_EACH_CLIP, "blank"
    ).run(context(dataset, row, folder)),
    "sheet of a preview": lambda dataset, row, _: clip_gallery(dataset, [row]),
    "encoder": lambda dataset, row, folder: Scripted().stages("e")[0].run(context(dataset, row, folder)),
    "audio of a language model": lambda dataset, row, _: audio_lookup(dataset, [row], 1)("none", "1").load(16000),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_refuses_a_recording_that_was_replaced_during_a_run(caller, tmp_path):
    dataset, row = replaced_recording(tmp_path)
    with pytest.raises(RecordingChanged, match=CHANGED.format(name="1")):
        CALLERS[caller](dataset, row, tmp_path)
    CALLERS[caller](dataset, clip_row(dataset, GOOD[0]), tmp_path)


@pytest.mark.parametrize("kind", ["csv", "esc10", "esc50", "folder", "synthetic"])
def test_a_class_that_is_listed_twice_is_refused(kind, tmp_path):
    path_parameter = {} if kind == "synthetic" else {"path": tmp_path}
    with pytest.raises(ValidationError, match=r"each value must occur only once, got \['dog', 'rain', 'dog'\]; remove"):
        DATASETS.get(kind)(**path_parameter, classes=("dog", "rain", "dog"))
    assert DATASETS.get(kind)(**path_parameter, classes=("rain", "dog")).classes == ("rain", "dog")


@pytest.mark.parametrize(
    "name", ["(error)", "(refused)", "(unparseable)", "(truncated)", "(answered)", "(no majority)"]
)
def test_a_class_with_the_name_of_an_outcome_column_is_refused(name):
    clip = Clip("a", name, 1, "a", "a.wav")
    with pytest.raises(BadDataset, match=f"a class must not have the name of an outcome, got '{re.escape(name)}'"):
        check_listing((clip,), (name, "dog"))
    check_listing((replace(clip, label=name.strip("()")),), (name.strip("()"), "dog"))


def test_labels_are_omitted_only_if_every_clip_has_exactly_one():
    one, two, none = (
        Clip(str(len(labels)), "; ".join(labels), 1, "s", "x.wav", labels=labels)
        for labels in (("dog",), ("dog", "rain"), ())
    )
    assert omit_single_labels([one, one]) == [replace(one, labels=None)] * 2
    for mixed in ([one, two], [one, none]):
        assert omit_single_labels(mixed) == mixed
