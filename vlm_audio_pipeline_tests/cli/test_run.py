"""`run`, `plan`, `refresh`, `fetch`: what they do and print."""

import re

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline_tests.cli.program import STEPS, assert_refused, query_results, run_command, snapshot, vlm_audio


def test_a_run_ends_with_a_summary(first_run):
    _, result = first_run
    assert re.fullmatch(rf"{STEPS} steps, \d+ runs, \d+\.\d s", result.last)
    assert "missing" in result.out  # the reason
    assert "12 / 12" in result.out  # the leaderboard with its denominators
    assert all(
        re.fullmatch(r"\[\d+/\d+\] \S+: \d+\.\d s", line) for line in result.err.splitlines()
    )  # progress, and nothing else


def test_a_second_run_has_nothing_to_do(done):
    result = run_command(done, "run")
    assert result.code == 0
    assert result.last.startswith("0 steps, 0 runs, ")
    assert f"{STEPS + 1} fresh, 0 to do" in result.out  # and the map of the embeddings


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_planning_writes_nothing_and_gives_reasons(done, command):
    name, *options = command
    done.record("2-low-1", "low", seed=77)
    before = snapshot(done.folder)
    result = run_command(done, name, *options)
    assert result.code == 0
    assert "dataset|2 changed" in result.out
    assert not re.search(r"\d+ steps, \d+ runs", result.out)
    assert snapshot(done.folder) == before


def test_planning_a_study_that_was_not_run_writes_no_result(bench):
    before = snapshot(bench.folder)
    result = run_command(bench, "plan")
    assert result.code == 0
    assert f"0 fresh, {STEPS} to do" in result.out
    assert snapshot(bench.folder) == before


def test_a_plan_names_a_changed_parameter(done):
    done.write(done.changed_study("classifiers", "knn", k=1))
    result = run_command(done, "plan")
    assert re.search(r"predictions/knn\s+1,2,3\s+parameters changed", result.out)
    assert (
        "4 to do" in result.out
    )  # three folds, and history, which depends on settings; downstream steps are planned when their inputs are known


@pytest.mark.parametrize("change", ["recording", "parameter"])
def test_the_counts_of_a_plan_are_those_of_the_run(done, change):
    """The run executes at least the steps to do, and at most those that the plan announces."""
    study = None
    if change == "recording":
        done.record("2-low-1", "low", seed=77)
    else:
        study = done.changed_study("classifiers", "knn", k=1)
    out = (
        run_command(done, "plan").out
        if study is None
        else vlm_audio("plan", done.write(study), data=done.data_folder.root).out
    )
    now, at_most = map(int, re.search(r"(\d+) to do now, up to (\d+) if they change", out).groups())
    last = vlm_audio("run", done.write(study), data=done.data_folder.root).last
    steps = int(last.split()[0])
    assert now < at_most and now <= steps <= at_most
    if change == "parameter":
        # 3 folds of predictions and the history; then perhaps metrics, leaderboard and leakage of the classifier
        assert now == 4


def test_a_deleted_partition_file_is_named_in_the_plan(done):
    done.graph().partition_files(Node("embeddings/bands", 3))["embeddings"].unlink()
    result = run_command(done, "plan")
    assert re.search(r"embeddings/bands\s+3\s+missing", result.out)
    assert "1 to do" in result.out


def test_a_plan_shows_the_differences_that_the_contrasts_detect(bench):
    study = bench.changed_study("classifiers", "knn", k=1)
    study["contrasts"] = [{"classifier": "probe", "against": ["knn"]}, {"classifier": "knn", "against": ["chance"]}]
    bench.write(study)
    result = run_command(bench, "plan")
    # 12 clips, two a source: design effect 1.5, variance of a difference 2 * 0.25 * 0.4 * 1.5 + 2 * 0.25 * 0.3 = 0.45;
    # z(1 - 0.05 / 4) + z(0.8) = 3.083 standard errors sqrt(0.45 / 12)
    assert re.search(r"probe +knn +12 +6 +1 / 1 +none +59\.7 points", result.out)
    assert re.search(r"knn +chance +12 +6 +1 +none ", result.out)
    assert "about 8 of 10 such studies, after Holm's correction for 2 tests" in " ".join(result.out.split())
    # (3.083 / 0.2)^2 * 0.45 = 106.9 clips
    result = run_command(bench, "plan", "--difference", "0.2")
    assert re.search(r"probe +knn +12 +6 +1 / 1 +none +59\.7 points +107 +not enough", result.out)
    assert "59.7 points" in run_command(bench, "run", "--dry-run").out, "the same as plan"
    result = run_command(bench, "plan", "--difference", "2")
    assert result.code == 2 and "--difference" in result.err


def test_a_plan_without_contrasts_shows_none(bench):
    assert "what the contrasts can show" not in run_command(bench, "plan").out


def test_planning_a_missing_dataset_prints_its_size_and_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    result = vlm_audio("plan", "baselines", data=tmp_path / "data")
    assert result.code == 0
    assert "download 0.04 GB" in result.out  # ESC-10 is a zip of 40 MB
    assert re.search(r"predictions/annotators\s+1,2,3,4,5\s+missing", result.out)
    assert not (tmp_path / "data" / "datasets").exists()


def test_planning_language_models_downloads_nothing(tmp_path, monkeypatch):
    """The requests depend on the clips, and the dataset is not downloaded yet."""
    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("a plan must not download"))
    for study in ("paper", "demo"):
        result = vlm_audio("plan", study, data=tmp_path / "data")
        assert result.code == 0, result.err
        assert f"can be computed after the dataset is downloaded: vlm-audio run {study} --only clips" in " ".join(
            result.out.split()
        )
    assert not (tmp_path / "data" / "datasets").exists()


def test_a_failed_download_gives_advice(tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise OSError("no network")

    monkeypatch.delenv("ESC10_DIR", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    assert_refused(vlm_audio("run", "baselines", data=tmp_path / "data"), "no network", "ESC10_DIR", "run again")


def test_only_with_a_component_runs_it_and_what_it_needs(bench):
    result = run_command(bench, "run", "--only", "knn")
    assert result.code == 0
    # 3 folds x (clips, embeddings, predictions), metrics: the probe, the annotators and the leaderboard are not selected
    assert result.last.startswith(f"{3 * 3 + 1} steps, ")
    assert [r["classifier"] for r in query_results(bench, "SELECT DISTINCT classifier FROM predictions")] == ["knn"]


def test_only_may_occur_twice(bench):
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


def test_a_limited_run_is_marked_and_stored_separately(done):
    before = query_results(done, "SELECT * FROM leaderboard")
    result = run_command(done, "run", "--limit", "2", "--only", "knn", "--only", "leaderboard")
    assert result.code == 0
    assert "limited run" in result.out
    (row,) = query_results(done, "SELECT * FROM leaderboard WHERE study = 'bench_limit2' AND classifier = 'knn'")
    assert (row["clips"], row["rank"], row["partial"]) == (2 * 3, None, True)
    assert query_results(done, "SELECT * FROM leaderboard WHERE study = 'bench'") == before


def test_refresh_reports_changed_inputs(done):
    assert "everything is fresh" in run_command(done, "refresh").out
    done.record("1-low-0", "low", seed=99)
    result = run_command(done, "refresh")
    assert result.code == 0
    assert re.search(
        r"4 inputs checked; \d+ to do now, up to \d+ if they change: `vlm-audio run .*bench.yaml`", result.out
    )  # 3 folds and the annotations
    assert run_command(done, "refresh").out == result.out  # a refresh runs nothing


def test_refresh_rebuilds_the_catalogue(done):
    done.data_folder.catalogue.unlink()
    assert run_command(done, "refresh").code == 0
    assert done.data_folder.catalogue.exists()


def test_fetch_prints_the_folder_of_the_dataset(bench):
    result = run_command(bench, "fetch")
    assert result.code == 0
    assert "12 clips of clips.csv" in result.out and str(bench.folder) in result.out.replace("\n", "")


def scripted_model(bench):
    """Make a language model without weights the only classifier of a bench."""
    bench.study |= {
        "encoders": {},
        "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
        "classifiers": {
            "m": {"kind": "language_model", "backend": "scripted", "model": "scripted", "rendering": "small"}
        },
    }
    bench.write()
    return bench


def test_a_step_is_asked_again_and_the_dry_run_writes_nothing(bench):
    run_command(scripted_model(bench), "run")
    before = snapshot(bench.folder)
    planned = run_command(bench, "run", "--again", "responses/m", "--dry-run")
    assert re.search(r"responses/m\s+1,2,3\s+asked again", planned.out) and "12" in planned.out
    assert snapshot(bench.folder) == before
    times = query_results(bench, "SELECT count(*) AS n FROM responses")
    result = run_command(bench, "run", "--again", "m")
    assert result.code == 0 and "asked again" in result.out
    assert query_results(bench, "SELECT count(*) AS n FROM responses") == times
    assert "asked again" not in run_command(bench, "run").out


def test_a_step_that_asks_no_model_is_not_asked_again(bench):
    assert_refused(run_command(scripted_model(bench), "run", "--again", "clips"), "--again must name a step that asks")


def test_the_plan_warns_about_retired_models(bench):
    scripted_model(bench).study["classifiers"]["m"] = {
        "kind": "language_model",
        "backend": "openai",
        "model": "gemini-1.5-pro",
        "rendering": "small",
        "endpoint": {"url": "https://generativelanguage.googleapis.com/v1beta/openai", "key": "GEMINI_API_KEY"},
    }
    bench.study["budget"] = {"usd": 1}
    bench.write()
    out = " ".join(run_command(bench, "plan").out.split())
    assert "m: Google has retired gemini-1.5-pro on 2025-09-24; its replacement is gemini-2.0-flash (https://" in out
    assert "not run: Google has retired gemini-1.5-pro" in out
