"""`--json`: one shape for every table; `-q` and `-v`."""

import json
import re
from pathlib import Path

import pytest

import vlm_audio_pipeline
from vlm_audio_pipeline_tests.cli.program import run_command, vlm_audio
from vlm_audio_pipeline_tests.cli.test_main import commands

PAGE = (Path(vlm_audio_pipeline.__file__).parents[1] / "docs" / "command-line.md").read_text()
DOCUMENTED = {
    command: set(re.findall(r"`(\w+)`", tables))
    for command, tables in re.findall(r"^\| `(\w+)` \| (`.*) \|$", PAGE, re.MULTILINE)
}


def tables_of(*arguments, data=None, code=0):
    """Return the tables that a command prints, after a check of their shape."""
    result = vlm_audio(*arguments, "--json", data=data)
    assert result.code == code, result.err
    tables = json.loads(result.out)
    assert isinstance(tables, dict)
    for rows in tables.values():
        assert isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    return tables


def test_the_documentation_lists_every_command_with_json():
    assert set(DOCUMENTED) == {n for n, c in commands().items() if "--json" in [o for p in c.params for o in p.opts]}


@pytest.mark.parametrize(
    ("arguments", "table", "columns"),
    [
        (("run", "bench"), "leaderboard", {"classifier", "accuracy"}),
        (("plan", "bench"), "plan", {"fresh", "to_do", "to_do_at_most"}),
        (("leaderboard", "bench"), "leaderboard", {"classifier", "rank"}),
        (("show", "1-low-0"), "predictions", {"clip", "classifier", "scores"}),
        (("fetch", "bench"), "dataset", {"clips", "folder"}),
        (("studies",), "studies", {"name", "description", "file"}),
        pytest.param(("doctor",), "checks", {"state", "text"}, marks=pytest.mark.slow),  # imports torch
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_tables_as_json(done, arguments, table, columns):
    tables = tables_of(*arguments, data=done.data_folder.root)
    assert set(tables) == DOCUMENTED[arguments[0]]
    assert tables[table] and columns <= set(tables[table][0])


def test_presets_as_json():
    tables = tables_of("renderings")
    assert set(tables) == DOCUMENTED["renderings"]
    assert {"paper", "plain"} <= {row["name"] for row in tables["presets"]}


def test_a_query_as_json(done):
    query = "SELECT clip, fold FROM clips ORDER BY clip LIMIT 1"
    assert tables_of("sql", query, data=done.data_folder.root) == {"rows": [{"clip": "1-high-0", "fold": 1}]}


def test_prune_as_json_deletes_nothing_and_asks_nothing(done):
    (done.data_folder.root / "tables" / "x").mkdir(parents=True)
    assert set(tables_of("prune", data=done.data_folder.root)) == {"unused"}


def test_a_mistake_is_no_json(done):
    result = vlm_audio("leaderboard", "bnch", "--json", data=done.data_folder.root)
    assert (result.code, result.out) == (2, "") and result.err.startswith("error: ")


def test_the_json_of_a_failed_run_names_the_failures(bench):
    with (bench.folder / "annotations.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    result = run_command(bench, "run", "--only", "panel", "--json")
    assert result.code == 1
    failures = json.loads(result.out)["failures"]
    assert {(row["step"], row["fold"]) for row in failures} == {("predictions/panel", fold) for fold in (1, 2, 3)}
    assert "'loud'" in failures[0]["reason"]


def test_quiet_prints_no_progress_and_no_plan(bench):
    result = run_command(bench, "run", "-q", "--only", "knn", "--only", "leaderboard")
    assert result.code == 0
    assert not re.search(r"^\[\d+/", result.err, re.MULTILINE)
    assert result.out.split()[0] == "bench" and "to do" not in result.out and "runs" not in result.out
    assert "/ 12" in result.out, "the leaderboard"


def test_quiet_stands_before_or_after_the_command(done):
    before = vlm_audio("-q", "run", "bench", data=done.data_folder.root)
    after = vlm_audio("run", "bench", "-q", data=done.data_folder.root)
    assert (before.code, before.err) == (0, "") and before.out == after.out
    assert before.out.split()[0] == "bench"


def test_verbose_shows_where_an_error_was_raised(done):
    result = vlm_audio("leaderboard", "bnch", "-v", data=done.data_folder.root)
    assert result.code == 2
    assert "in find_run_study" in result.err and result.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in vlm_audio("leaderboard", "bnch", data=done.data_folder.root).err, (
        "settings end with a command"
    )
