"""Questions built from tables: the correct image for each control, after the correct examples."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Sampling
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.questions import QuestionBuilder, audio_lookup, image_lookup
from vlm_audio_pipeline.classifiers.language_models.trials import trials
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.perturbation import Perturb
from vlm_audio_pipeline_tests.datasets.clip_rows import clip_row

BOTH = frozenset({"likelihood", "generation"})


def spectrograms(prefix: str, clips: str) -> pa.Table:
    return pa.table(
        {
            "clip": list(clips),
            "image": [f"{prefix}{c}".encode() for c in clips],
            "media_type": ["image/png"] * len(clips),
            "image_sha256": [f"sha-{prefix}{c}" for c in clips],
        }
    )


def form(**changes) -> QuestionBuilder:
    values = {
        "prompt": PROMPTS["plain"],
        "input": "image",
        "names": {"dog": "dog", "sea_waves": "sea waves"},
        "scorings": BOTH,
        "controls": ("blank", "no_image"),
        "trials": trials(1, 1, 1, 1),
        "sampling": Sampling(),
        "seed": 0,
        "repeats_differ": False,
    }
    return QuestionBuilder(**{**values, **changes})


def lookup():
    tables = {"none": spectrograms("", "abxy"), "blank": spectrograms("blank ", "ab")}
    return image_lookup(tables, {"none": {"a", "b", "x", "y"}, "blank": {"a", "b"}})


def image_hashes(question) -> list[str]:
    """Return the hashes of the images of a question, in order."""
    return [p.sha256 for m in question.request.messages for p in m.parts if isinstance(p, ImagePart)]


def example(clip: str, label: str, trial: int = 0, query: str = "", position: int = 0) -> dict:
    return {"trial": trial, "query": query, "position": position, "clip": clip, "label": label, "example_label": label}


def test_each_clip_has_a_question_for_each_control():
    questions = form().build(["a", "b"], [], lookup())
    assert [(q.row_columns["control"], q.row_columns["clip"], image_hashes(q)) for q in questions] == [
        ("none", "a", ["sha-a"]),
        ("none", "b", ["sha-b"]),
        ("blank", "a", ["sha-blank a"]),
        ("blank", "b", ["sha-blank b"]),
        ("no_image", "a", []),
        ("no_image", "b", []),
    ]
    assert questions[4].request == questions[5].request, "without an image the request is the same for all clips"


def test_labels_are_the_class_names_in_the_order_of_the_study():
    [question] = form(controls=()).build(["a"], [], lookup())
    assert question.classes == ("dog", "sea_waves") and question.request.labels == ("dog", "sea waves")
    assert "dog, sea waves" in str(question.request.messages[-1].parts[0])


def test_controls_do_not_change_the_examples_before_the_query():
    rows = [example("x", "dog"), example("y", "sea_waves", position=1)]
    questions = form(controls=("blank",)).build(["a"], rows, lookup())
    assert [image_hashes(q) for q in questions] == [["sha-x", "sha-y", "sha-a"], ["sha-x", "sha-y", "sha-blank a"]]
    texts = [m.parts for m in questions[0].request.messages if m.role == "assistant"]
    assert texts == [("dog",), ("sea waves",)]


def test_permuted_labels_appear_in_the_prompt():
    rows = [{**example("x", "dog"), "example_label": "sea_waves"}]
    [question] = form(controls=()).build(["a"], rows, lookup())
    assert [m.parts for m in question.request.messages if m.role == "assistant"] == [("sea waves",)]


def test_examples_of_one_query_appear_only_in_its_prompt():
    rows = [example("x", "dog", query="a"), example("y", "dog", query="b")]
    questions = form(controls=()).build(["a", "b"], rows, lookup())
    assert [image_hashes(q) for q in questions] == [["sha-x", "sha-a"], ["sha-y", "sha-b"]]


def test_each_trial_has_its_own_examples_and_order():
    rows = [example("x", "dog", trial=0), example("x", "dog", trial=1), example("y", "dog", trial=2)]
    questions = form(controls=(), trials=trials(2, 2, 1, 1)).build(
        ["a"], [*rows, example("y", "dog", trial=3)], lookup()
    )
    assert [image_hashes(q)[0] for q in questions] == ["sha-x", "sha-x", "sha-y", "sha-y"]
    assert [(q.row_columns["draw"], q.row_columns["class_order"]) for q in questions] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]


def test_repeats_have_different_seeds_only_if_something_is_sampled():
    greedy = form(controls=(), trials=trials(1, 1, 1, 3)).build(["a"], [], lookup())
    sampled = form(controls=(), trials=trials(1, 1, 1, 3), sampling=Sampling(0.7, seed=5), repeats_differ=True)
    assert {q.request.sampling.seed for q in greedy} == {0}
    seeds = [q.request.sampling.seed for q in sampled.build(["a", "b"], [], lookup())]
    assert len(set(seeds)) == 6, "otherwise the clips of a repeat would have correlated samples"
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds == [q.request.sampling.seed for q in sampled.build(["a", "b"], [], lookup())]
    endpoint_form = form(controls=(), trials=trials(1, 1, 1, 3), sampling=Sampling(0.0, seed=5), repeats_differ=True)
    assert [q.request.sampling.seed for q in endpoint_form.build(["a"], [], lookup())] == [5, 6, 7], (
        "greedy decoding by an endpoint"
    )


def test_a_missing_image_is_an_error():
    with pytest.raises(VlmAudioError, match="clip q has no image under control none"):
        form(controls=()).build(["q"], [], lookup())


class ConstantSamples:
    """A dataset whose samples all have the value in the name of the file."""

    @property
    def recordings(self):
        return self

    def samples(self, clip, sample_rate_hz):
        return np.full(sample_rate_hz, float(clip.file), np.float32)

    def files(self, clip):
        return (Path(clip.file),)

    def content_sha256(self, clip):
        return clip.samples_sha256


def clip(name: str, label: str, fold: int = 1) -> dict:
    return {
        "clip": name,
        "label": label,
        "source": name,
        "fold": fold,
        "file": name,
        "start_s": None,
        "end_s": None,
        "samples_sha256": f"samples-{name}",
        "duration_s": 0.5,
        "sample_rate_hz": 16000,
    }


def test_audio_has_the_requested_sample_rate_and_a_hash_of_its_samples():
    lookup = audio_lookup(ConstantSamples(), [clip("1", "dog"), clip("2", "rain"), clip("3", "rain", fold=2)], 1)
    audio = lookup("none", "1")
    assert isinstance(audio, AudioPart) and audio.sha256 == "samples-1" and audio.duration_s == 0.5
    assert audio.load(8000).tolist() == [1.0] * 8000
    assert lookup("no_image", "1") is None


def test_blank_audio_has_the_duration_of_the_clip_and_is_equal_for_equal_durations():
    lookup = audio_lookup(
        ConstantSamples(), [clip("1", "dog"), clip("2", "rain"), {**clip("3", "dog"), "duration_s": 0.7}], 1
    )
    first, two, longer = (lookup("blank", c) for c in "123")
    assert first is not None and two is not None and longer is not None
    assert first.load(8000).shape == (4000,) and not first.load(8000).any()
    assert first.sha256 == two.sha256 != longer.sha256


def test_the_other_clip_control_has_another_class_and_the_same_fold():
    lookup = audio_lookup(ConstantSamples(), [clip("1", "dog"), clip("2", "rain"), clip("3", "rain", fold=2)], 1)
    other = lookup("other_clip", "1")
    assert other is not None and other.sha256 == "samples-2"
    with pytest.raises(
        VlmAudioError, match="another class and source recording in fold 1 for 1, but the fold has none"
    ):
        audio_lookup(ConstantSamples(), [clip("1", "dog"), clip("3", "rain", fold=2)], 1)("other_clip", "1")


def test_changed_audio_is_looked_up_by_the_name_of_the_change(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(800, 0.5, np.float32), 8000, subtype="FLOAT")
    dataset = Dataset(tmp_path, ("dog",), (Clip("a", "dog", 1, "a", "a.wav"),), DatasetCard("t"))
    (change,) = Perturb(gain_db=[-20]).perturbations
    lookup = audio_lookup(dataset, [clip_row(dataset, dataset.clips[0])], 1, [change])
    original, changed = lookup("none", "a"), lookup("gain_minus_20db", "a")
    assert original is not None and changed is not None
    assert original.load(8000).tolist() == [0.5] * 800
    assert np.allclose(changed.load(8000), 0.05)  # -20 dB: a tenth
    assert original.sha256 != changed.sha256 and changed.files == (tmp_path / "a.wav",)
