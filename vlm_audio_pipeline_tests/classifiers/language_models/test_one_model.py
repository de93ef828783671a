"""A classifier never mixes the responses of two models: within a fold, across folds, and in summaries."""

import copy

import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_failures import send, store  # noqa: F401

OLD, NEW = "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"
CLIPS_PER_FOLD = 4  # of the bench, which has 3 folds


def rerouting(after):
    """Return a script of a server whose responses name another model after a number of requests."""
    script = ServerScript()

    def play(question, attempt):
        body = script.bodies[-1]
        served = OLD if len(script.bodies) <= after else NEW
        return 200, completion("low", body, script.usage) | {"model": served}

    script.play = play
    return script


def study_of(bench, server, **endpoint):
    study = copy.deepcopy(bench.study)
    endpoint = {"url": server.url, "concurrency": 1, **endpoint}
    model = {
        "kind": "language_model",
        "backend": "openai",
        "model": "gpt-4o",
        "rendering": "small",
        "endpoint": endpoint,
    }
    study["renderings"] = {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}}
    study["classifiers"] = {"gpt": model}
    study["analyses"] = ["variance_components"]
    study["contrasts"] = [{"classifier": "gpt", "against": ["chance"]}]
    return study


def row(bench, sql):
    (only,) = query(bench.data_folder, sql).to_pylist()
    return only


def has_no_number_of_two_models(bench):
    """Return whether every measure is undefined with the reason, and nothing else counts or remembers the responses."""
    metrics = query(bench.data_folder, "SELECT value, reason FROM metrics WHERE classifier = 'gpt'").to_pylist()
    tables = [
        f"SELECT 1 FROM {name} WHERE classifier = 'gpt'" for name in ("confusion", "reliability", "variance_components")
    ]
    counts = [query(bench.data_folder, sql).num_rows for sql in tables]
    return (
        len(metrics) > 50
        and all(m["value"] is None and f"of {OLD} and of {NEW}" in m["reason"] for m in metrics)
        and counts == [0, 0, 0]
    )


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "bench")


def test_another_model_in_the_second_fold_stops_the_row_after_one_response(bench):
    with serving(rerouting(CLIPS_PER_FOLD)) as server:
        bench.study = study_of(bench, server)
        summary = bench.run().report
        assert len(server.bodies) == CLIPS_PER_FOLD + 2  # one in each of the folds 2 and 3
        again = bench.run().report
        assert len(server.bodies) == CLIPS_PER_FOLD + 2  # the stored responses say so already
    assert summary.failed.keys() == {Node("responses/gpt", 2), Node("responses/gpt", 3)} == again.failed.keys()
    assert f"got responses of {OLD} and of {NEW}" in summary.failed[Node("responses/gpt", 2)]
    line = row(bench, "SELECT rank, partial, folds FROM leaderboard WHERE classifier = 'gpt'")
    assert line == {"rank": None, "partial": True, "folds": "1"}
    contrast = row(bench, "SELECT verdict, reason FROM contrasts")
    assert contrast["verdict"] == "not compared" and "fold" in contrast["reason"]


@pytest.mark.slow
def test_accepted_models_are_ranked_and_without_the_acceptance_the_row_is_not(bench):
    with serving(rerouting(CLIPS_PER_FOLD)) as server:
        bench.study = study_of(bench, server, accept=[NEW])
        assert not bench.run().report.failed_checks
        ranked = row(bench, "SELECT rank, partial FROM leaderboard WHERE classifier = 'gpt'")
        assert ranked == {"rank": 1, "partial": False}
        results = query(bench.data_folder, "SELECT count(*) AS n FROM history WHERE classifier = 'gpt'").to_pylist()
        bench.study = study_of(bench, server)
        checked = bench.run().report
        assert (
            query(bench.data_folder, "SELECT count(*) AS n FROM history WHERE classifier = 'gpt'").to_pylist()
            == results
        )
        assert len(server.bodies) == 3 * CLIPS_PER_FOLD
    line = row(bench, "SELECT * FROM leaderboard WHERE classifier = 'gpt'")
    assert (line["rank"], line["partial"]) == (None, True)
    assert (
        f"not comparable: all responses of a classifier must be of one model, got responses of {OLD} and of {NEW}"
        in line["note"]
    )
    contrast = row(bench, "SELECT verdict, reason FROM contrasts")
    assert contrast["verdict"] == "not compared" and f"of {OLD} and of {NEW}" in contrast["reason"]
    assert (line["accuracy"], line["correct"], line["accuracy_low"]) == (None, None, None)
    (failed,) = checked.failed_checks
    assert failed.startswith("bench/metrics/gpt") and "one_model" in failed
    assert has_no_number_of_two_models(bench)


def test_another_model_within_a_fold_stops_after_its_first_response(store):  # noqa: F811
    with serving(rerouting(2)) as server:
        with pytest.raises(NotAvailable, match="must be of one model"):
            send(store, server, count=8, concurrency=1)
        assert len(server.bodies) <= 4  # one of another model, and those that were in flight


@pytest.mark.slow
def test_the_check_is_an_asset_check_of_dagster(bench):
    with serving(rerouting(CLIPS_PER_FOLD)) as server:
        bench.study = study_of(bench, server, accept=[NEW])
        assert not run_study(bench.graph(), executor=DagsterExecutor()).failed_checks
        bench.study = study_of(bench, server)
        (failed,) = run_study(bench.graph(), executor=DagsterExecutor()).failed_checks
    assert "metrics/gpt" in failed and "one_model" in failed and NEW in failed
