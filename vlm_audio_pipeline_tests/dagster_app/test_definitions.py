"""The definitions Dagster is given: keys, folds, versions, tags, and the home they run in."""

import logging
from pathlib import Path

import dagster as dg
import pytest
import yaml

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.dagster_app.definitions import build_definitions, studies_to_show
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.scripted import Scripted
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import read_partition, read_provenance
from vlm_audio_pipeline.storage.schemas import TABLES

BUILT_IN = Path(__file__).with_name("built_in_assets.txt").read_text().splitlines()
"""The asset keys, one a line. Notebooks, selections, schedules and the run history name assets by these keys."""


def definitions(bench, study=None) -> dg.Definitions:
    return build_definitions(studies=[str(bench.write(study))], data_folder=bench.data_folder)


def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {"/".join(s.key.path): s for s in defs.resolve_all_asset_specs()}


def op(defs: dg.Definitions, key: str):
    return defs.resolve_assets_def(dg.AssetKey(key.split("/"))).op


@pytest.fixture
def wants_gpu(monkeypatch):
    """A family of encoders that wants an accelerator, for the length of a test."""
    monkeypatch.setattr(ENCODERS, "_classes", dict(ENCODERS.all()))

    @ENCODERS.register("wants_gpu")
    class WantsGpu(Scripted):
        @property
        def accelerator(self) -> bool:
            return True


def test_keys_of_the_built_in_studies(tmp_path, monkeypatch):
    monkeypatch.delenv("VLM_AUDIO_STUDIES", raising=False)
    data_folder = DataFolder(tmp_path)
    assert sorted(specs(build_definitions(studies=studies_to_show(data_folder), data_folder=data_folder))) == BUILT_IN


def test_every_step_is_an_asset_with_what_a_person_wants_to_know(bench):
    defs, graph = definitions(bench), bench.graph()
    found = specs(defs)
    for name, step in graph.steps.items():
        spec = found[f"bench/{name}"]
        assert spec.code_version == f"{step.stage.version}:{fingerprint(dict(step.stage.parameters))}"
        assert spec.group_name == "bench"
        assert spec.owners == ["team:vlm_audio_pipeline"]
        assert {"parquet", "python"} <= spec.kinds
        assert spec.description.startswith(step.stage.description)
        columns = spec.metadata["dagster/column_schema"].columns
        assert [c.name for c in columns] == [c.name for c in TABLES[step.stage.tables[0]].columns]
        assert all(c.description for c in columns)
    sources = {f"datasets/{graph.study.dataset.asset_name}": "datasets", "bench/annotations/panel": "bench"}
    assert set(found) - {f"bench/{name}" for name in graph.steps} == set(sources)
    for key, group in sources.items():
        assert found[key].group_name == group
        assert found[key].description


def test_the_owner_of_a_study_owns_its_assets(bench):
    found = specs(definitions(bench, {**bench.study, "owner": "ann@example.org"}))
    assert found["bench/leaderboard"].owners == ["ann@example.org"]


def test_partitions_are_folds(bench):
    study = bench.changed()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    found = specs(definitions(bench, study))
    folds = {key: tuple(s.partitions_def.get_partition_keys()) for key, s in found.items() if s.partitions_def}
    assert folds.pop("bench/probes/early") == ("1",)
    assert folds.pop("bench/predictions/early") == ("1",)
    assert set(folds.values()) == {("1", "2", "3")}
    assert set(found) - set(folds) - {"bench/probes/early", "bench/predictions/early"} == {
        *(f"bench/{name}" for name in ("leaderboard", "leakage", "published", "history", "report")),
        *(f"bench/{name}/bands" for name in ("embedding_quality", "projections")),
        "bench/annotations/panel",
        *(f"bench/metrics/{c}" for c in ("probe", "knn", "panel", "early")),
    }


def upstream(defs: dg.Definitions, key: str, parent: str, fold: str) -> set[str]:
    """Give the folds of a parent that one fold of an asset reads, going by Dagster."""
    graph = defs.resolve_asset_graph()
    child, above = (graph.get(dg.AssetKey(k.split("/"))) for k in (key, parent))
    return set(
        graph.get_partition_mapping(child.key, above.key)
        .get_upstream_mapped_partitions_result_for_partitions(
            child.partitions_def.subset_with_partition_keys([fold]), child.partitions_def, above.partitions_def
        )
        .partitions_subset.get_partition_keys()
    )


def test_a_probe_learns_from_the_other_folds(bench):
    study = bench.changed()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    defs = definitions(bench, study)
    assert upstream(defs, "bench/embeddings/bands", "bench/clips", "2") == {"2"}
    assert upstream(defs, "bench/probes/probe", "bench/embeddings/bands", "2") == {"1", "3"}
    assert upstream(defs, "bench/probes/early", "bench/embeddings/bands", "1") == {"2", "3"}
    assert upstream(defs, "bench/predictions/early", "bench/probes/early", "1") == {"1"}
    assert upstream(defs, "bench/predictions/early", "bench/embeddings/bands", "1") == {"1"}


def test_a_backfill_can_make_clips_and_vectors_of_a_fold_in_one_run(bench):
    graph = definitions(bench).resolve_asset_graph()
    clips, vectors = dg.AssetKey(["bench", "clips"]), dg.AssetKey(["bench", "embeddings", "bands"])
    assert isinstance(graph.get_partition_mapping(vectors, clips), dg.IdentityPartitionMapping)


def test_a_classifier_of_one_fold_runs_in_that_fold(done):
    study = done.changed()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    defs, graph = definitions(done, study), done.graph(study)
    result = dg.materialize(
        list(defs.assets),
        selection=[dg.AssetKey(["bench", t, "early"]) for t in ("probes", "predictions")],
        partition_key="1",
        instance=open_instance(done.data_folder),
    )
    assert result.success
    parts = graph.partition_files(Node("predictions/early", 1))
    assert read_partition(parts["predictions"], TABLES["predictions"])[0]["fold"].to_pylist() == [1] * 4
    assert set(read_provenance(graph.partition_files(Node("probes/early", 1))["probes"]).inputs) >= {
        "embeddings/bands|2",
        "embeddings/bands|3",
    }
    materialized = {"/".join(e.asset_key.path): e.partition for e in result.get_asset_materialization_events()}
    assert materialized == {"bench/probes/early": "1", "bench/predictions/early": "1"}


def test_what_wants_an_accelerator_says_so_to_every_executor(bench, wants_gpu):
    defs = definitions(bench, bench.changed("encoders", large={"kind": "wants_gpu", "dimensions": 4}))
    large, small = op(defs, "bench/embeddings/large"), op(defs, "bench/embeddings/bands")
    assert large.pool == "gpu"
    assert large.tags["gpu"] == "1"
    assert large.tags["dagster-celery/queue"] == "gpu"
    assert yaml.safe_load(large.tags["dagster-dask/resource_requirements"]) == {"GPU": 1}
    assert yaml.safe_load(large.tags["dagster-k8s/config"])["container_config"]["resources"] == {
        "limits": {"nvidia.com/gpu": "1"}
    }
    assert yaml.safe_load(large.tags["dagster-ray/config"]) == {"num_gpus": 1}
    assert specs(defs)["bench/embeddings/large"].kinds >= {"torch", "parquet"}
    assert small.pool is None
    assert not [t for t in small.tags if "gpu" in t or t.startswith("dagster-")]


def test_steps_run_in_one_process_unless_told_otherwise(bench):
    assert definitions(bench).executor is dg.in_process_executor
    study = str(bench.write())
    given = build_definitions(studies=[study], data_folder=bench.data_folder, executor=dg.multiprocess_executor)
    assert given.executor is dg.multiprocess_executor


def test_a_bad_study_leaves_the_others_loaded(bench, tmp_path, caplog):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\ndataset: {kind: nowhere}\n")
    with caplog.at_level(logging.WARNING):
        found = specs(build_definitions(studies=[str(bad), str(bench.write())], data_folder=bench.data_folder))
    assert "bench/leaderboard" in found
    assert not [key for key in found if key.startswith("bad/")]
    assert [str(bad) in r.getMessage() and "nowhere" in r.getMessage() for r in caplog.records] == [True]


def test_studies_of_one_dataset_share_its_asset(bench):
    first = bench.write()
    second = bench.folder / "second.yaml"
    second.write_text(first.read_text().replace("name: bench", "name: second"))
    found = specs(build_definitions(studies=[str(first), str(second)], data_folder=bench.data_folder))
    datasets = [key for key in found if key.startswith("datasets/")]
    assert len(datasets) == 1
    for study in ("bench", "second"):
        parents = {d.asset_key for d in found[f"{study}/clips"].deps}
        assert parents == {found[datasets[0]].key}


def test_two_datasets_of_one_name_are_told_apart(bench, tmp_path, caplog):
    from vlm_audio_pipeline_tests.bench import Bench

    twin = Bench(tmp_path / "twin")  # another clips.csv, elsewhere
    twin.study["name"] = "twin"
    with caplog.at_level(logging.WARNING):
        defs = build_definitions(studies=[str(bench.write()), str(twin.write())], data_folder=bench.data_folder)
    assert f"dataset.name: '{twin.graph().study.dataset.asset_name}' is also the name of another dataset" in caplog.text
    assert "bench/clips" in specs(defs) and "twin/clips" not in specs(defs)
    named = twin.changed("dataset", name="elsewhere")
    defs = build_definitions(studies=[str(bench.write()), str(twin.write(named))], data_folder=bench.data_folder)
    assert {"bench/clips", "twin/clips", "datasets/elsewhere"} <= set(specs(defs))


def test_two_studies_of_one_name_are_told_apart(bench, caplog):
    first = bench.write(bench.changed(rerun={"schedule": "0 3 * * *"}))
    second = bench.folder / "copy.yaml"
    second.write_text(first.read_text().replace("k: 3", "k: 1"))
    with caplog.at_level(logging.WARNING):
        defs = build_definitions(studies=[str(first), str(second)], data_folder=bench.data_folder)
    assert f"{second}: name: must differ from the name of {first}" in caplog.text
    assert "bench/leaderboard" in specs(defs)


def test_a_study_run_here_is_shown(done, monkeypatch):
    monkeypatch.delenv("VLM_AUDIO_STUDIES", raising=False)
    assert studies_to_show(done.data_folder)[:3] == ["demo", "baselines", "esc10"]
    assert {Path(s).name for s in studies_to_show(done.data_folder)[3:]} == {"bench.yaml"}
    monkeypatch.setenv("VLM_AUDIO_STUDIES", " demo , ")
    assert studies_to_show(done.data_folder) == ["demo"]


def test_the_home_limits_what_runs_at_once(tmp_path):
    data_folder = DataFolder(tmp_path)
    with open_instance(data_folder) as instance:
        pools = instance.get_concurrency_config().pool_config
        assert (pools.default_pool_limit, pools.pool_granularity.value) == (1, "op")
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 2
        assert instance.run_monitoring_enabled
        assert instance.run_coordinator.dequeue_interval_seconds == 1
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
    config = data_folder.dagster_home / "dagster.yaml"
    changed = config.read_text().replace("default_limit: 1", "default_limit: 3")
    config.write_text(changed)
    with open_instance(data_folder) as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 3
    assert config.read_text() == changed


def test_observing_the_dataset_sees_one_recording_change(bench):
    defs = definitions(bench)
    dataset = next(key for key in specs(defs) if key.startswith("datasets/"))
    job = defs.resolve_implicit_global_asset_job_def()

    def seen() -> dict[str, str]:
        result = job.execute_in_process(asset_selection=[dg.AssetKey(dataset.split("/"))])  # the button "Observe"
        assert result.success
        events = result.get_asset_observation_events()
        return {
            e.event_specific_data.asset_observation.partition: e.event_specific_data.asset_observation.data_version
            for e in events
        }

    before = seen()
    assert set(before) == {"1", "2", "3"}
    assert seen() == before
    bench.record("2-low-1", "low", seed=99)
    after = seen()
    assert {fold for fold in before if before[fold] != after[fold]} == {"2"}


def test_a_materialization_shows_counts_images_and_rows(bench):
    graph = bench.graph()
    result = dg.materialize(definitions(bench).assets, selection=["bench/clips"], partition_key="3")
    shown = next(iter(result.asset_materializations_for_node("bench__clips"))).metadata
    assert shown["dagster/row_count"].value == 4
    assert shown["rejected_clips rows"].value == 0
    assert shown["images"].value.startswith("![plot](data:image/png;base64,iVBORw0KGgo")
    assert (
        shown["files"].value.split(", ")[0]
        == graph.partition_files(Node("clips", 3))["clips"].relative_to(bench.data_folder.root).as_posix()
    )
    assert "3-high-0" in shown["preview"].value
    checks = {c.check_name: c.passed for c in result.get_asset_check_evaluations()}
    assert checks == {"rows_unique": True, "fold_has_clips": True, "sources_in_one_fold": True}
