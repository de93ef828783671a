"""The command as a stranger meets it: its surface, and what wrong words come to."""

import re
import subprocess
import sys

import pytest
import typer

from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline_tests.cli.program import PROGRAM, assert_refused, vlm_audio

SURFACE = {
    "run": ["study", "--only", "--fold", "--limit", "--dry-run", "--data"],
    "plan": ["study", "--only", "--fold", "--limit", "--data"],
    "refresh": ["study", "--data"],
    "fetch": ["study", "--data"],
    "ui": ["studies", "--port", "--data"],
    "renderings": ["--out"],
    "render": ["study", "rendering", "--out", "--clips", "--data"],
    "leaderboard": ["study", "--data"],
    "show": ["clip", "--classifier", "--study", "--data"],
    "sql": ["query", "--format", "--data"],
    "export": ["study", "--out", "--data"],
    "init": ["listing", "--out"],
    "studies": [],
    "schema": [],
    "try": ["recording", "--study", "--classifier", "--messages", "--data"],
    "report": ["study", "--open", "--single-file", "--limit", "--data"],
    "fiftyone": ["study", "--rendering", "--export", "--port", "--data"],
    "annotation-sheet": ["study", "--fold", "--rendering", "--out", "--data"],
    "doctor": ["--data"],
    "prune": ["--days", "--responses", "--yes", "--data"],
}


def commands():
    return typer.main.get_command(cli.app).commands


def test_commands_and_options_are_those_people_have_in_their_scripts():
    assert {name: [p.opts[0] for p in c.params if p.name != "help"] for name, c in commands().items()} == SURFACE


@pytest.mark.parametrize("name", SURFACE)
def test_every_command_says_what_it_does_in_a_sentence(name):
    command = commands()[name]
    first = command.help.split("\n\n")[0]
    assert re.match(r"[A-Z]", first) and first.endswith(".")
    for parameter in command.params:
        assert re.fullmatch(r"[A-Z].*\.", parameter.help, re.S)
    result = vlm_audio(name, "--help")
    assert result.code == 0
    assert first.split()[0] in result.out


def test_the_installed_program_answers_without_loading_what_is_heavy():
    result = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0
    assert all(name in result.stdout for name in SURFACE)
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, vlm_audio_pipeline.cli.main; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.split()
    assert "typer" in loaded
    assert not {"dagster", "torch", "transformers", "librosa", "sklearn", "matplotlib", "duckdb"} & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "demoo"], ["'demoo'", "did you mean 'demo'?"]),
        (["plan", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "demo", "--only", "classical_nn"], ["'classical_nn'", "predictions/classical_knn"]),
        (["run", "demo", "--fold", "6"], ["[1, 2, 3, 4, 5]", "got 6"]),
        (["fetch", "demoo"], ["'demoo'"]),
        (["refresh", "demoo"], ["'demoo'"]),
        (["leaderboard"], ["vlm-audio run demo"]),
        (["show", "1-2-A"], ["vlm-audio run demo"]),
        (["sql", "SELECT 1"], ["vlm-audio run demo"]),
        (["sql", "SELECT 1", "--format", "xml"], ["table, csv or json", "'xml'"]),
        (["export", "demo"], ["demo"]),
        (["init", "nowhere.csv"], ["nowhere.csv"]),
    ],
)
def test_wrong_arguments_give_2_and_a_message(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "data"))
    assert_refused(vlm_audio(*arguments), *words)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["run"], ["run", "demo", "--limit", "0"], ["run", "demo", "--fold", "one"], ["show"]]
)
def test_wrong_usage_gives_2_and_points_to_help(arguments):
    result = vlm_audio(*arguments)
    assert result.code == 2
    assert "--help" in result.err
    assert "Traceback" not in result.err
