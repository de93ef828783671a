"""`run`, `plan`, `refresh`, `fetch`: what they do, and what they say they did."""

import re

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline_tests.cli.program import STEPS, assert_refused, query_results, run_command, snapshot, vlm_audio


def test_a_run_ends_with_what_it_did(ran_once):
    _, result = ran_once
    assert re.fullmatch(rf"{STEPS} steps, \d+ runs, \d+\.\d s", result.last)
    assert "missing" in result.out  # why it ran
    assert "12 / 12" in result.out  # the leaderboard with its denominators
    assert result.err == ""


def test_a_second_run_has_nothing_to_do(done):
    result = run_command(done, "run")
    assert result.code == 0
    assert result.last.startswith("0 steps, 0 runs, ")
    assert f"{STEPS} fresh, 0 to do" in result.out


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_planning_writes_nothing_and_says_why(done, command):
    name, *options = command
    done.record("2-low-1", "low", seed=77)
    before = snapshot(done.folder)
    result = run_command(done, name, *options)
    assert result.code == 0
    assert "dataset|2 changed" in result.out
    assert not re.search(r"\d+ steps, \d+ runs", result.out)
    assert snapshot(done.folder) == before


def test_planning_what_was_never_run_makes_no_result(bench):
    before = snapshot(bench.folder)
    result = run_command(bench, "plan")
    assert result.code == 0
    assert f"0 fresh, {STEPS} to do" in result.out
    assert snapshot(bench.folder) == before


def test_a_plan_names_a_changed_parameter(done):
    done.write(done.changed("classifiers", "knn", k=1))
    result = run_command(done, "plan")
    assert re.search(r"predictions/knn\s+1,2,3\s+parameters changed", result.out)
    assert (
        "4 to do" in result.out
    )  # three folds, and history, which knows settings; what follows is known only when its inputs are


def test_a_part_taken_away_is_named_in_the_plan(done):
    done.graph().partition_files(Node("embeddings/bands", 3))["embeddings"].unlink()
    result = run_command(done, "plan")
    assert re.search(r"embeddings/bands\s+3\s+missing", result.out)
    assert "1 to do" in result.out


def test_planning_a_dataset_that_is_not_here_says_its_size_and_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    result = vlm_audio("plan", "baselines", data=tmp_path / "data")
    assert result.code == 0
    assert "download 0.04 GB" in result.out  # ESC-10 is a zip of 40 MB
    assert re.search(r"predictions/annotators\s+1,2,3,4,5\s+missing", result.out)
    assert not (tmp_path / "data" / "datasets").exists()


def test_planning_what_asks_models_downloads_nothing_either(tmp_path, monkeypatch):
    """What they are asked depends on the clips, which are not here."""
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    for study in ("paper", "demo"):
        result = vlm_audio("plan", study, data=tmp_path / "data")
        assert result.code == 0, result.err
        assert f"known once the dataset is here: vlm-audio run {study} --only clips" in " ".join(result.out.split())
    assert not (tmp_path / "data" / "datasets").exists()


def test_running_a_dataset_that_cannot_be_had_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **named):
        raise OSError("no network")

    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert_refused(vlm_audio("run", "baselines", data=tmp_path / "data"), "no network", "ESC10_DIR", "run again")


def test_only_an_owner_and_what_it_needs(bench):
    result = run_command(bench, "run", "--only", "knn")
    assert result.code == 0
    # 3 folds x (clips, embeddings, predictions), metrics: the probe, the readers and the leaderboard are not asked for
    assert result.last.startswith(f"{3 * 3 + 1} steps, ")
    assert [r["classifier"] for r in query_results(bench, "SELECT DISTINCT classifier FROM predictions")] == ["knn"]


def test_only_may_be_given_twice(bench):
    result = run_command(bench, "plan", "--only", "embeddings/*", "--only", "panel")
    assert result.code == 0
    assert {line.split()[0] for line in result.out.splitlines() if line.endswith("missing")} == {
        "clips",
        "embeddings/bands",
        "predictions/panel",
        "metrics/panel",
    }


def test_one_fold_is_partial_and_never_ranked(bench):
    result = run_command(bench, "run", "--fold", "2", "--only", "panel", "--only", "leaderboard")
    assert result.code == 0
    rows = query_results(bench, "SELECT * FROM leaderboard WHERE accuracy IS NOT NULL AND kind != 'reference'")
    assert [(r["classifier"], r["folds"], r["rank"], r["partial"]) for r in rows] == [("panel", "2", None, True)]
    assert "folds 2 of 1,2,3" in result.out


def test_a_limited_run_is_marked_and_kept_apart(done):
    before = query_results(done, "SELECT * FROM leaderboard")
    result = run_command(done, "run", "--limit", "2", "--only", "knn", "--only", "leaderboard")
    assert result.code == 0
    assert "limited run" in result.out
    (row,) = query_results(done, "SELECT * FROM leaderboard WHERE study = 'bench_limit2' AND classifier = 'knn'")
    assert (row["clips"], row["rank"], row["partial"]) == (2 * 3, None, True)
    assert query_results(done, "SELECT * FROM leaderboard WHERE study = 'bench'") == before


def test_refresh_sees_what_changed(done):
    assert "everything is fresh" in run_command(done, "refresh").out
    done.record("1-low-0", "low", seed=99)
    result = run_command(done, "refresh")
    assert result.code == 0
    assert re.search(
        r"4 inputs checked; \d+ steps to do: `vlm-audio run .*bench.yaml`", result.out
    )  # 3 folds, readings
    assert run_command(done, "refresh").out == result.out  # it looks, and runs nothing


def test_refresh_rebuilds_the_catalogue(done):
    done.data_folder.catalogue.unlink()
    assert run_command(done, "refresh").code == 0
    assert done.data_folder.catalogue.exists()


def test_fetch_says_where_the_dataset_lies(bench):
    result = run_command(bench, "fetch")
    assert result.code == 0
    assert "12 clips of clips.csv" in result.out and str(bench.folder) in result.out.replace("\n", "")
