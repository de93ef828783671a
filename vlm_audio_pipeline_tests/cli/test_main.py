"""The commands, their options and help, and errors of usage."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import vlm_audio_pipeline
from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline.cli.app import EXIT_CODES
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline_tests.cli.program import PROGRAM, assert_refused, vlm_audio

ROOT = Path(vlm_audio_pipeline.__file__).parents[1]
COMMAND_OPTIONS = {
    "run": [
        "study",
        "--only",
        "--fold",
        "--limit",
        "--again",
        "--dry-run",
        "--no-wait",
        "--engine",
        "--json",
        "--data",
    ],
    "plan": ["study", "--only", "--fold", "--limit", "--difference", "--json", "--data"],
    "batch": ["study", "--write", "--read", "--classifier", "--forget", "--data"],
    "refresh": ["study", "--json", "--data"],
    "fetch": ["study", "--everywhere", "--engine", "--json", "--data"],
    "ui": ["studies", "--port", "--data"],
    "renderings": ["--out", "--json"],
    "render": ["study", "rendering", "--out", "--clips", "--data"],
    "leaderboard": ["study", "--json", "--data"],
    "show": ["clip", "--classifier", "--study", "--json", "--data"],
    "sql": ["query", "--format", "--allow-files", "--json", "--data"],
    "export": ["study", "--out", "--format", "--data"],
    "init": ["listing", "--out", "--from"],
    "studies": ["--json", "--data"],
    "schema": [],
    "try": ["recording", "--study", "--classifier", "--messages", "--json", "--data"],
    "report": ["study", "others", "--open", "--single-file", "--limit", "--data"],
    "fiftyone": ["study", "--rendering", "--export", "--port", "--data"],
    "annotation-sheet": ["study", "--fold", "--rendering", "--out", "--data"],
    "doctor": ["folder", "--engine", "--json", "--data"],
    "prune": ["--days", "--responses", "--yes", "--json", "--data"],
}


OPTIONS_OF_ALL = {"quiet", "verbose", "help"}


def commands():
    return typer.main.get_command(cli.app).commands


def test_commands_and_options_are_unchanged():
    assert {
        name: [p.opts[0] for p in c.params if p.name not in OPTIONS_OF_ALL] for name, c in commands().items()
    } == COMMAND_OPTIONS
    assert all({p.name for p in c.params} >= OPTIONS_OF_ALL - {"help"} for c in commands().values())


def test_the_help_lists_run_first():
    assert re.findall(r"^│ ([a-z][a-z-]*) ", vlm_audio("--help").out, re.MULTILINE)[0] == "run"


@pytest.mark.parametrize("name", COMMAND_OPTIONS)
def test_every_command_has_a_help_sentence(name):
    command = commands()[name]
    first = command.help.split("\n\n")[0]
    assert re.match(r"[A-Z]", first) and first.endswith(".")
    for parameter in command.params:
        assert re.fullmatch(r"[A-Z].*\.", parameter.help, re.S)
    result = vlm_audio(name, "--help")
    assert result.code == 0
    assert first.split()[0] in result.out


def test_the_installed_program_shows_help_without_heavy_imports():
    result = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0
    assert all(name in result.stdout for name in COMMAND_OPTIONS)
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
def test_wrong_arguments_give_exit_code_2_and_a_message(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "data"))
    assert_refused(vlm_audio(*arguments), *words)
    assert not (tmp_path / "data").exists()


def test_the_version_is_that_of_the_package():
    result = vlm_audio("--version")
    assert (result.code, result.out) == (0, f"vlm-audio {vlm_audio_pipeline.__version__}\n")


@pytest.mark.parametrize("name", ["", *COMMAND_OPTIONS])
def test_h_shows_the_help_in_80_columns(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    short, long = (vlm_audio(*filter(None, [name, option])) for option in ("-h", "--help"))
    assert short.code == 0 and short.out == long.out
    assert max(map(len, short.out.splitlines())) <= 80
    assert "…" not in short.out, "nothing is cut"


def test_the_help_and_the_documentation_list_the_exit_codes():
    text = " ".join(vlm_audio("--help").out.split())
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert set(EXIT_CODES) == {0, 1, 2, 130}
    for code, meaning in EXIT_CODES.items():
        assert f"{code}: {meaning}" in text
        assert f"| {code} | {meaning} |" in page


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documentation_has_a_line_for_each_shell_and_it_completes_studies(shell, bench, monkeypatch, capsys):
    page = (ROOT / "docs" / "command-line.md").read_text()
    assert f"_VLM_AUDIO_COMPLETE=source_{shell} vlm-audio" in page
    monkeypatch.setenv("VLM_AUDIO_DATA", str(bench.data_folder.root))
    monkeypatch.setenv("_VLM_AUDIO_COMPLETE", f"source_{shell}")
    assert f"complete_{shell}" in vlm_audio().out
    monkeypatch.setenv("_VLM_AUDIO_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "vlm-audio run b")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("COMP_WORDS", "vlm-audio run b")
    monkeypatch.setenv("COMP_CWORD", "2")
    publish_study(bench.graph(), rebuild=False)
    assert set(re.findall(r"\w+", vlm_audio().out)) >= {"baselines", "bench"}
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "vlm-audio report demo b")  # the study to compare with
    monkeypatch.setenv("COMP_WORDS", "vlm-audio report demo b")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert set(re.findall(r"\w+", vlm_audio().out)) >= {"baselines", "bench"}
