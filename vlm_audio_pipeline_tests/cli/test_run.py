"""`run`, `plan`, `refresh`, `fetch`: what they do, and what they say they did."""

import re

import pytest

from vlm_audio_pipeline.planning.graph import Node
from vlm_audio_pipeline_tests.cli.program import STEPS, ask, call, refused, snapshot, vlm_audio


def test_a_run_ends_with_what_it_did(ran_once):
    _, said = ran_once
    assert re.fullmatch(rf"{STEPS} steps, \d+ runs, \d+\.\d s", said.last)
    assert "missing" in said.out  # why it ran
    assert "12 / 12" in said.out  # the leaderboard with its denominators
    assert said.err == ""


def test_a_second_run_has_nothing_to_do(done):
    said = call(done, "run")
    assert said.code == 0
    assert said.last.startswith("0 steps, 0 runs, ")
    assert f"{STEPS} fresh, 0 to do" in said.out


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_planning_writes_nothing_and_says_why(done, command):
    name, *options = command
    done.record("2-low-1", "low", seed=77)
    before = snapshot(done.folder)
    said = call(done, name, *options)
    assert said.code == 0
    assert "dataset|2 changed" in said.out
    assert not re.search(r"\d+ steps, \d+ runs", said.out)
    assert snapshot(done.folder) == before


def test_planning_what_was_never_run_makes_no_result(bench):
    before = snapshot(bench.folder)
    said = call(bench, "plan")
    assert said.code == 0
    assert f"0 fresh, {STEPS} to do" in said.out
    assert snapshot(bench.folder) == before


def test_a_plan_names_a_changed_parameter(done):
    done.write(done.changed("classifiers", "knn", k=1))
    said = call(done, "plan")
    assert re.search(r"predictions/knn\s+1,2,3\s+parameters changed", said.out)
    assert (
        "4 to do" in said.out
    )  # three folds, and history, which knows settings; what follows is known only when its inputs are


def test_a_part_taken_away_is_named_in_the_plan(done):
    done.graph().parts(Node("embeddings/bands", 3))["embeddings"].unlink()
    said = call(done, "plan")
    assert re.search(r"embeddings/bands\s+3\s+missing", said.out)
    assert "1 to do" in said.out


def test_planning_a_dataset_that_is_not_here_says_its_size_and_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    said = vlm_audio("plan", "baselines", data=tmp_path / "data")
    assert said.code == 0
    assert "takes: download 0.04 GB" in said.out  # ESC-10 is a zip of 40 MB
    assert re.search(r"predictions/listeners\s+1,2,3,4,5\s+missing", said.out)
    assert not (tmp_path / "data" / "datasets").exists()


def test_planning_what_asks_models_downloads_nothing_either(tmp_path, monkeypatch):
    """What they are asked depends on the clips, which are not here."""
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    for study in ("paper", "demo"):
        said = vlm_audio("plan", study, data=tmp_path / "data")
        assert said.code == 0, said.err
        assert f"known once the dataset is here: vlm-audio run {study} --only clips" in " ".join(said.out.split())
    assert not (tmp_path / "data" / "datasets").exists()


def test_running_a_dataset_that_cannot_be_had_says_what_to_do(tmp_path, monkeypatch):
    def no_network(*arguments, **named):
        raise OSError("no network")

    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    refused(vlm_audio("run", "baselines", data=tmp_path / "data"), "no network", "ESC10_DIR", "run again")


def test_only_an_owner_and_what_it_needs(bench):
    said = call(bench, "run", "--only", "knn")
    assert said.code == 0
    # 3 folds x (clips, embeddings, predictions), metrics: the probe, the readers and the leaderboard are not asked for
    assert said.last.startswith(f"{3 * 3 + 1} steps, ")
    assert [r["classifier"] for r in ask(bench, "SELECT DISTINCT classifier FROM predictions")] == ["knn"]


def test_only_may_be_given_twice(bench):
    said = call(bench, "plan", "--only", "embeddings/*", "--only", "people")
    assert said.code == 0
    assert {line.split()[0] for line in said.out.splitlines() if line.endswith("missing")} == {
        "clips",
        "embeddings/bands",
        "predictions/people",
        "metrics/people",
    }


def test_one_fold_is_partial_and_never_ranked(bench):
    said = call(bench, "run", "--fold", "2", "--only", "people", "--only", "leaderboard")
    assert said.code == 0
    rows = ask(bench, "SELECT * FROM leaderboard WHERE accuracy IS NOT NULL AND kind != 'reference'")
    assert [(r["classifier"], r["folds"], r["rank"], r["partial"]) for r in rows] == [("people", "2", None, True)]
    assert "folds 2 of 1,2,3" in said.out


def test_a_limited_run_is_marked_and_kept_apart(done):
    before = ask(done, "SELECT * FROM leaderboard")
    said = call(done, "run", "--limit", "2", "--only", "knn", "--only", "leaderboard")
    assert said.code == 0
    assert "limited run" in said.out
    (row,) = ask(done, "SELECT * FROM leaderboard WHERE study = 'bench_limit2' AND classifier = 'knn'")
    assert (row["clips"], row["rank"], row["partial"]) == (2 * 3, None, True)
    assert ask(done, "SELECT * FROM leaderboard WHERE study = 'bench'") == before


def test_refresh_sees_what_changed(done):
    assert "everything is fresh" in call(done, "refresh").out
    done.record("1-low-0", "low", seed=99)
    said = call(done, "refresh")
    assert said.code == 0
    assert re.search(r"4 sources seen; \d+ to do; `vlm-audio run .*bench.yaml` does it", said.out)  # 3 folds, readings
    assert call(done, "refresh").out == said.out  # it looks, and runs nothing


def test_refresh_rebuilds_the_catalogue(done):
    done.layout.results.unlink()
    assert call(done, "refresh").code == 0
    assert done.layout.results.exists()


def test_fetch_says_where_the_dataset_lies(bench):
    said = call(bench, "fetch")
    assert said.code == 0
    assert "12 clips of clips.csv" in said.out and str(bench.folder) in said.out.replace("\n", "")
