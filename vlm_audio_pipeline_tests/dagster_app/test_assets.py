"""The input assets of a study in Dagster: every fold of a dataset is observed, and counts as filled."""

import dagster as dg

from vlm_audio_pipeline.dagster_app.assets import report_observations
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline_tests.bench import Bench


def event_counts(instance: dg.DagsterInstance, key: dg.AssetKey) -> tuple[int, int]:
    fetches = (instance.fetch_observations, instance.fetch_materializations)
    return tuple(len(fetch(key, limit=100).records) for fetch in fetches)


def test_folds_of_a_dataset_are_filled_and_reported_once(tmp_path):
    bench = Bench(tmp_path / "bench")
    graph = bench.graph()
    key = dg.AssetKey(graph.input_assets["dataset"].key)
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            report_observations(graph, current_input_versions(graph), instance)
            assert instance.get_materialized_partitions(key) == {"1", "2", "3"}
            assert event_counts(instance, key) == (3, 3)
        bench.record("1-low-0", "low", seed=99)
        changed = bench.graph()
        report_observations(changed, current_input_versions(changed), instance)
        assert event_counts(instance, key) == (4, 4)  # only fold 1 has another recording
        newest = [
            fetch(dg.AssetRecordsFilter(asset_key=key, asset_partitions=["1"]), limit=1).records[0]
            for fetch in (instance.fetch_observations, instance.fetch_materializations)
        ]
        values = (newest[0].asset_observation, newest[1].asset_materialization)
        versions = [value.tags["dagster/data_version"] for value in values]
        assert versions[0] == versions[1]
        assert newest[0].storage_id < newest[1].storage_id  # else Dagster calls the steps after it stale
