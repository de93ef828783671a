"""Inputs that failed once, a short fuzzing of each target, and whether the fuzzer finds defects at all."""

import json
import random

import pytest

from vlm_audio_pipeline_tests.fuzzing.damage import damage
from vlm_audio_pipeline_tests.fuzzing.mutation import mutate, shorten
from vlm_audio_pipeline_tests.fuzzing.runner import FOUND, Fuzzer, found_inputs
from vlm_audio_pipeline_tests.fuzzing.targets import TARGETS, Target, TooSlow, execute

FOUND_INPUTS = [pytest.param(name, path, id=f"{name} {path.stem}") for name in TARGETS for path in found_inputs(name)]


def test_every_saved_input_belongs_to_a_target():
    assert {folder.name for folder in FOUND.iterdir()} <= set(TARGETS)
    assert len(FOUND_INPUTS) == 29, "no saved input may be lost"


@pytest.mark.parametrize(("name", "path"), FOUND_INPUTS)
def test_an_input_that_failed_once_is_treated_rightly(name, path):
    assert execute(TARGETS[name], path.read_bytes())


EXECUTIONS = {
    "study": 1000,
    "csv": 700,
    "listing": 1500,
    "annotations": 1500,
    "events": 500,
    "answer": 1000,
    "wire": 4000,
    "packed_body": 400,
    "result_store": 1500,
    "recording": 400,
    "hub_folder": 800,
    "partition_file": 400,
}
"""Number of inputs, about a minute together. It is a number, not a time, so that the inputs are the same on every machine."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_no_mutated_input_fails(name):
    fuzzer = Fuzzer(name, seed=17, folder=None)
    fuzzer.run(max_executions=EXECUTIONS[name])
    assert fuzzer.failures == {}


def planted(data, folder):
    """A reader with two defects: a missing key and an endless loop."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return "no JSON"
    if isinstance(value, dict):
        value["a"]
        while value.get("b") == []:
            pass
    return str(type(value))


@pytest.mark.slow
def test_planted_defects_are_found_and_shortened(monkeypatch, tmp_path):
    target = Target(planted, lambda: [b'{"a": 1, "b": [0]}'], ('"a"',), max_cpu_s=0.2)
    monkeypatch.setitem(TARGETS, "planted", target)
    fuzzer = Fuzzer("planted", seed=1, folder=tmp_path)
    fuzzer.run(max_executions=300)
    assert {name.split(" in ")[0] for name in fuzzer.failures} == {"KeyError", "TooSlow"}
    assert max(map(len, fuzzer.failures.values())) < 15
    assert {path.read_bytes() for path in (tmp_path / "planted").iterdir()} == set(fuzzer.failures.values())


def test_cpu_time_is_limited():
    def loop(data, folder):
        while True:
            pass

    with pytest.raises(TooSlow, match=r"0\.05 s of CPU time for 3 bytes"):
        execute(Target(loop, list, max_cpu_s=0.05), b"abc")


def test_mutations_depend_on_the_seed_alone():
    def mutations(seed):
        rng = random.Random(seed)
        return [mutate(b'{"a": [1, 2]}\nb, c\n', [b"x: y"], ("dog",), 100, rng) for _ in range(200)]

    assert mutations(3) == mutations(3)
    assert len(set(mutations(3)) - set(mutations(4))) > 50
    assert max(map(len, mutations(3))) <= 100


def test_a_failing_input_is_shortened_to_what_fails():
    assert shorten(b"aaaaaaaaaXbbbbbbbbbbbYcccc", lambda data: b"X" in data and b"Y" in data) == b"XY"


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ([0, 2, 0, 0, 255, 0], b"\1\2\xfc\4\5\6"),
        ([1, 2, 0, 0, 0, 0], b"\1\2"),
        ([2, 2, 0, 0, 0, 2], b"\1\2\0\0\5\6"),
        ([3, 8, 0, 0, 9, 0], b"\1\2\x09\4\5\6"),  # position 8 modulo 6
        ([5, 2, 0, 0, 1, 0], b"\1\2\5\6"),
        ([0, 0], b"\1\2\3\4\5\6"),  # incomplete
    ],
)
def test_damage_follows_instructions(instruction, expected):
    assert damage(b"\1\2\3\4\5\6", bytes(instruction)) == expected
