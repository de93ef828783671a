"""Old runs are deleted, except those that the UI shows as the latest."""

import dagster as dg
import pytest

from vlm_audio_pipeline.dagster_app import run_history
from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.dagster_app.run_history import find_old_runs, limit_history
from vlm_audio_pipeline.planning.pruning import find_unused_items, prune
from vlm_audio_pipeline.storage.disk_usage import disk_usage, size_of
from vlm_audio_pipeline_tests.planning.test_pruning import make_older


@pytest.mark.slow
def test_old_runs_are_deleted_except_those_the_ui_shows(done):
    done.record("1-low-0", "low", seed=99)
    done.run(executor=DagsterExecutor())
    instance = open_instance(done.data_folder)
    all_runs = {run.run_id for run in instance.get_runs()}
    make_older(done.data_folder)
    [vector] = find_unused_items(done.data_folder)
    assert (vector.description, vector.count) == ("results (vector) that no partition file refers to", 1)
    [waste] = find_old_runs(done.data_folder, 30)
    assert waste.description == "logs of runs older than 30 days" and 0 < waste.count < len(all_runs)
    assert waste.size > 0
    prune(done.data_folder, [waste])
    remaining = {run.run_id for run in instance.get_runs()}
    assert remaining == all_runs - set(waste.runs)
    graph = done.graph()
    for step in graph.steps.values():
        for node in step.nodes:
            records = instance.fetch_materializations(_records(step.key, node.fold), limit=1).records
            is_complete = all(path.exists() for path in graph.partition_files(node).values())
            assert {record.run_id for record in records} <= remaining and bool(records) is is_complete, node
    assert done.run().steps == []  # plans depend on partition files, not on the run history


def _records(key, fold):
    return dg.AssetRecordsFilter(asset_key=dg.AssetKey(key), asset_partitions=None if fold is None else [str(fold)])


def test_a_folder_without_runs_has_no_old_runs(done, data_folder):
    make_older(done.data_folder)
    assert find_old_runs(done.data_folder, 30) == [] == find_old_runs(data_folder, 0)


def test_the_number_of_runs_is_limited(done, monkeypatch):
    """30 runs without assets are added; 4 of them and the runs that made the results remain."""
    monkeypatch.setattr(run_history, "CHECK_EVERY", 10)
    with open_instance(done.data_folder) as instance:
        runs_of_results = {run.run_id for run in instance.get_runs()}
        for _ in range(30):
            run = instance.create_run_for_job(_nothing, tags={"study": "bench"})
            instance.report_run_failed(run)
        assert limit_history(instance, done.data_folder, max_runs=4) == 26
        remaining = {run.run_id for run in instance.get_runs()}
        assert len(remaining) == 4 + len(runs_of_results) and runs_of_results < remaining
        assert limit_history(instance, done.data_folder, max_runs=4) == 0  # nothing was added since
        (done.data_folder.dagster_home / "kept_runs").write_bytes(b"\xff")
        assert limit_history(instance, done.data_folder, max_runs=4) == 0


@dg.job
def _nothing():
    pass


def test_disk_usage_is_the_sum_of_file_sizes(done):
    use = disk_usage(done.data_folder)
    assert use["tables"] == sum(p.stat().st_size for p in done.data_folder.tables.rglob("*") if p.is_file()) > 0
    assert use["result store"] >= done.data_folder.result_store.stat().st_size > 0
    assert use["run history"] > 0 and use["environments"] == 0
    assert size_of(done.data_folder.root / "absent") == 0
