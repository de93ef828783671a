"""Old runs are deleted, except those that the UI shows as the latest."""

import dagster as dg
import pytest

from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.dagster_app.run_history import find_old_runs
from vlm_audio_pipeline.planning.pruning import find_waste, prune
from vlm_audio_pipeline.storage.disk_usage import disk_usage, size_of
from vlm_audio_pipeline_tests.planning.test_pruning import aged


@pytest.mark.slow
def test_old_runs_go_but_those_the_ui_still_shows(done):
    done.record("1-low-0", "low", seed=99)
    done.run(executor=DagsterExecutor())
    instance = open_instance(done.data_folder)
    all_runs = {run.run_id for run in instance.get_runs()}
    aged(done.data_folder)
    [vector] = find_waste(done.data_folder)
    assert (vector.description, vector.count) == ("results (vector) that no partition file refers to", 1)
    [waste] = find_old_runs(done.data_folder, 30)
    assert waste.description == "logs of runs older than 30 days" and 0 < waste.count < len(all_runs)
    assert waste.size > 0
    prune(done.data_folder, [waste])
    left = {run.run_id for run in instance.get_runs()}
    assert left == all_runs - set(waste.runs)
    graph = done.graph()
    for step in graph.steps.values():
        for node in step.nodes:
            there = instance.fetch_materializations(_records(step.key, node.fold), limit=1).records
            made = all(path.exists() for path in graph.partition_files(node).values())
            assert {record.run_id for record in there} <= left and bool(there) is made, node
    assert done.run().steps == []  # plans are made from parts, whatever history says


def _records(key, fold):
    return dg.AssetRecordsFilter(asset_key=dg.AssetKey(key), asset_partitions=None if fold is None else [str(fold)])


def test_a_folder_without_runs_has_no_old_runs(done, data_folder):
    aged(done.data_folder)
    assert find_old_runs(done.data_folder, 30) == [] == find_old_runs(data_folder, 0)


def test_disk_usage_adds_up(done):
    use = disk_usage(done.data_folder)
    assert use["tables"] == sum(p.stat().st_size for p in done.data_folder.tables.rglob("*") if p.is_file()) > 0
    assert use["result store"] >= done.data_folder.result_store.stat().st_size > 0
    assert use["run history"] > 0 and use["environments"] == 0
    assert size_of(done.data_folder.root / "absent") == 0
