"""Limits of study files: each of these files ends with a message in less than a second."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline.studies.yaml_text import MAX_BYTES, MAX_DEPTH, read_yaml

HEAD = "dataset: {kind: csv, path: x.csv}\nencoders:\n  e: {kind: features, features: [mfcc]}\n"


def laughs(levels: int, width: int, form: str) -> str:
    """Return a file in which each level has `width` aliases of the level before it."""
    lines = ["l0: &l0 {a: 1}"]
    for level in range(1, levels):
        aliases = ", ".join([f"*l{level - 1}"] * width)
        lines.append(f"l{level}: &l{level} " + form.format(aliases))
    return "\n".join(lines) + "\n"


TOO_MANY = "at most 100,000 values"
BOMBS = {
    "aliases": (laughs(12, 10, "[{}]"), TOO_MANY),
    "aliases in mappings": (laughs(14, 1, "{{a: [{0}, {0}, {0}], b: [{0}, {0}]}}"), TOO_MANY),
    "merge keys": (laughs(12, 10, "{{<<: [{}]}}"), TOO_MANY),
    "aliases as long chain": (laughs(80, 1, "[{}]"), "nested at most 64 deep"),
    "merge keys as long chain": (laughs(80, 1, "{{<<: {}}}"), "nested at most 64 deep"),
    "deep lists": ("a: " + "[" * 5000, "nested at most 64 deep"),
    "deep mappings": ("a: " + "{b: " * 5000, "nested at most 64 deep"),
    "deep blocks": ("\n".join("  " * i + "a:" for i in range(400)), "nested at most 64 deep"),
    "long number": ("a: " + "9" * 5000, "less than 400 digits"),
    "number in base 60": ("a: 1" + ":59" * 30_000, "less than 400 digits"),
    "large file": ("# " + "x" * 300_000, "at most 256 kB"),
    "cycle and bomb": ("x: &x {y: *x}\n" + laughs(12, 10, "[{}]"), TOO_MANY),
    "cycle of merge keys": ("x: &x {<<: *x}\n", "must not contain itself"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_text_that_stands_for_too_much_is_refused_at_once(tmp_path, text, message):
    started = time.process_time()
    with pytest.raises(BadStudy, match=message) as caught:
        parse_study(text, tmp_path / "bomb.yaml")
    assert time.process_time() - started < 2  # s
    assert str(caught.value).startswith(f"{tmp_path / 'bomb.yaml'}:")


def test_aliases_and_merge_keys_within_the_limits_are_read(tmp_path):
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n"
    values, lines = read_yaml(text, tmp_path / "study.yaml")
    assert values == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": [{"x": 1, "y": 2}] * 2}
    assert (lines[("b",)], lines[("c",)]) == (2, 3)


def test_values_up_to_the_maximum_depth_are_read(tmp_path):
    text = "a: " + "[" * (MAX_DEPTH - 2) + "1" + "]" * (MAX_DEPTH - 2)
    assert read_yaml(text, tmp_path / "study.yaml")[0].keys() == {"a"}


@pytest.mark.parametrize("kind", ["large", "pipe", "device", "folder"])
def test_only_a_regular_file_of_limited_size_is_read(tmp_path, kind):
    path = tmp_path / "study.yaml"
    if kind == "large":
        path.touch()
        os.truncate(path, 20_000_000_000)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(BadStudy, match="at most 256 kB" if kind == "large" else "must be a file"):
        load_study(path)
    assert MAX_BYTES == 256 * 1024


TEN = "[" + ", ".join(map(str, range(1, 11))) + "]"
VARIANTS = {
    "lists of a language model": (
        HEAD
        + "renderings: {r: {}}\nclassifiers:\n  m: {kind: language_model, model: m, rendering: r, "
        + ", ".join(
            f"{key}: {TEN}" for key in ("shots", "draws", "orders", "repeats", "temperature", "max_tokens", "seed")
        )
        + ", encoder: e}\n",
        "stands for 10,000,000 entries",
    ),
    "groups of groups": (
        "dataset: {kind: csv, path: x.csv}\nrenderings:\n"
        + f"  r: {{size: {TEN}, n_fft: {TEN}, hop_length: {TEN}, rate: {TEN}}}\n"
        + "encoders:\n  e: {kind: pixels, rendering: [r, r, r, r]}\nclassifiers:\n  k: {kind: knn, encoder: [e, e, e]}\n",
        "stands for 10,000 entries",
    ),
    "groups of groups within the limit of each": (
        "dataset: {kind: csv, path: x.csv}\nrenderings:\n"
        "  r: {size: [16, 32, 48], n_fft: [256, 512, 1024], hop_length: [64, 128], rate: [8000, 16000, 22050]}\n"
        "encoders:\n  e: {kind: pixels, rendering: [r, r]}\nclassifiers:\n"
        + "".join(f"  k{i}: {{kind: knn, encoder: e, k: [1, 3, 5]}}\n" for i in range(20)),
        "at most 1000 classifiers are allowed",
    ),
    "many entries": (
        HEAD + "classifiers:\n" + "".join(f"  k{i}: {{kind: knn, encoder: e}}\n" for i in range(1200)),
        "at most 1000 entries, got 1200",
    ),
    "a long chain of like": (
        HEAD
        + "classifiers:\n  k0: {kind: knn, encoder: e}\n"
        + "".join(f"  k{i}: {{like: k{i - 1}}}\n" for i in range(1, 900)),
        "over at most 50 entries",
    ),
    "many mistakes": (
        HEAD + "classifiers:\n" + "".join(f"  k{i}: {{kind: knn, encoder: f{i}}}\n" for i in range(900)),
        "possibly more mistakes",
    ),
    "many comparisons": (
        HEAD
        + "classifiers:\n  k: {kind: knn, encoder: e, k: ["
        + ", ".join(map(str, range(1, 200)))
        + "]}\n  p: {kind: knn, encoder: e, k: ["
        + ", ".join(map(str, range(1, 200)))
        + "]}\ncontrasts:\n  - {classifier: k, against: [p]}\n",
        "at most 5000 comparisons",
    ),
    "many trials": (
        HEAD
        + "renderings: {r: {}}\nclassifiers:\n  m: {kind: language_model, model: m, rendering: r, shots: 1, encoder: e, "
        "select: random, draws: 100, orders: 100, repeats: 100, temperature: 1}\n",
        "at most 10000, got 1000000",
    ),
}


@pytest.mark.parametrize(("text", "message"), VARIANTS.values(), ids=VARIANTS)
def test_a_study_that_stands_for_too_many_entries_is_refused_at_once(tmp_path, text, message):
    started = time.process_time()
    with pytest.raises(BadStudy, match=message):
        parse_study(text, tmp_path / "study.yaml")
    assert time.process_time() - started < 5  # s


@given(st.text(alphabet="ab:&*<{}[], \n-1'\"|>!?#", max_size=200))
def test_any_text_is_read_or_refused(text):
    from pathlib import Path

    try:
        parse_study(text, Path("study.yaml"))
    except BadStudy as error:
        assert str(error).startswith("study.yaml")
