"""The Dagster definitions: keys, folds, versions, tags, and the Dagster home."""

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
def gpu_encoder(monkeypatch):
    """Register an encoder that needs an accelerator, during a test."""
    monkeypatch.setattr(ENCODERS, "_classes", dict(ENCODERS.all()))

    @ENCODERS.register("gpu_encoder")
    class GpuEncoder(Scripted):
        @property
        def accelerator(self) -> bool:
            return True


def test_keys_of_the_built_in_studies(tmp_path, monkeypatch):
    monkeypatch.delenv("VLM_AUDIO_STUDIES", raising=False)
    data_folder = DataFolder(tmp_path)
    assert sorted(specs(build_definitions(studies=studies_to_show(data_folder), data_folder=data_folder))) == BUILT_IN


def test_every_step_is_an_asset_with_version_owner_and_columns(bench):
    defs, graph = definitions(bench), bench.graph()
    specs_by_key = specs(defs)
    for name, step in graph.steps.items():
        spec = specs_by_key["/".join(graph.steps[name].key)]
        assert spec.code_version == f"{step.stage.version}:{fingerprint(dict(step.stage.parameters))}"
        assert spec.group_name == "bench"
        assert spec.owners == ["team:vlm_audio_pipeline"]
        assert {"parquet", "python"} <= spec.kinds
        assert spec.description.startswith(step.stage.description)
        columns = spec.metadata["dagster/column_schema"].columns
        assert [c.name for c in columns] == [c.name for c in TABLES[step.stage.tables[0]].columns]
        assert all(c.description for c in columns)
    input_groups = {f"datasets/{graph.study.dataset.asset_name}": "datasets", "bench/panel_annotations": "bench"}
    assert set(specs_by_key) - {"/".join(step.key) for step in graph.steps.values()} == set(input_groups)
    for key, group in input_groups.items():
        assert specs_by_key[key].group_name == group
        assert specs_by_key[key].description


def test_the_last_parts_of_keys_are_distinct():
    """The graph of the UI shows only the last part; "janus" was four nodes."""
    for study in ("demo", "baselines", "esc10"):
        names = [key.split("/")[-1] for key in BUILT_IN if key.startswith((f"{study}/", "datasets/", "models/"))]
        assert len(set(names)) == len(names)


def test_input_assets_have_path_counts_owner_and_licence(bench):
    specs_by_key = specs(definitions(bench, {**bench.study, "owner": "ann@example.org"}))
    dataset = specs_by_key[f"datasets/{bench.graph().study.dataset.asset_name}"].metadata
    assert dataset["path"].value == str(bench.folder)
    assert (dataset["clips"], dataset["source recordings"], dataset["classes"], dataset["folds"]) == (12, 6, 2, 3)
    assert dataset["owners"] == "ann@example.org"
    annotations = specs_by_key["bench/panel_annotations"].metadata
    assert annotations["path"].value == str(bench.folder / "annotations.csv")
    assert annotations["bytes"] == (bench.folder / "annotations.csv").stat().st_size


def test_input_assets_that_are_not_on_this_machine_have_licence_and_link(tmp_path):
    specs_by_key = specs(build_definitions(studies=["esc10"], data_folder=DataFolder(tmp_path)))
    clap = specs_by_key["models/laion/clap-htsat-unfused"].metadata
    assert clap["link"].value == "https://huggingface.co/laion/clap-htsat-unfused"
    assert "Apache-2.0" in clap["licence"]
    assert "CC BY" in specs_by_key["datasets/esc10"].metadata["licence"]


def test_the_owner_of_a_study_owns_its_assets(bench):
    specs_by_key = specs(definitions(bench, {**bench.study, "owner": "ann@example.org"}))
    assert specs_by_key["bench/leaderboard"].owners == ["ann@example.org"]


def test_partitions_are_folds(bench):
    study = bench.changed_study()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    specs_by_key = specs(definitions(bench, study))
    folds = {key: tuple(s.partitions_def.get_partition_keys()) for key, s in specs_by_key.items() if s.partitions_def}
    assert folds.pop("bench/early_probes") == ("1",)
    assert folds.pop("bench/early_predictions") == ("1",)
    assert set(folds.values()) == {("1", "2", "3")}
    assert set(specs_by_key) - set(folds) - {"bench/early_probes", "bench/early_predictions"} == {
        *(f"bench/{name}" for name in ("leaderboard", "leakage", "history", "report")),
        *(f"bench/bands_{name}" for name in ("embedding_quality", "projections")),
        "bench/panel_annotations",
        *(f"bench/{c}_metrics" for c in ("probe", "knn", "panel", "early")),
    }


def upstream(defs: dg.Definitions, key: str, parent: str, fold: str) -> set[str]:
    """Return the folds of a parent that one fold of an asset reads, according to Dagster."""
    graph = defs.resolve_asset_graph()
    child, parent_asset = (graph.get(dg.AssetKey(k.split("/"))) for k in (key, parent))
    return set(
        graph.get_partition_mapping(child.key, parent_asset.key)
        .get_upstream_mapped_partitions_result_for_partitions(
            child.partitions_def.subset_with_partition_keys([fold]), child.partitions_def, parent_asset.partitions_def
        )
        .partitions_subset.get_partition_keys()
    )


def test_a_probe_is_trained_on_the_other_folds(bench):
    study = bench.changed_study()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    defs = definitions(bench, study)
    assert upstream(defs, "bench/bands_embeddings", "bench/clips", "2") == {"2"}
    assert upstream(defs, "bench/probe_probes", "bench/bands_embeddings", "2") == {"1", "3"}
    assert upstream(defs, "bench/early_probes", "bench/bands_embeddings", "1") == {"2", "3"}
    assert upstream(defs, "bench/early_predictions", "bench/early_probes", "1") == {"1"}
    assert upstream(defs, "bench/early_predictions", "bench/bands_embeddings", "1") == {"1"}


def test_a_backfill_can_compute_clips_and_embeddings_of_a_fold_in_one_run(bench):
    graph = definitions(bench).resolve_asset_graph()
    clips, vectors = dg.AssetKey(["bench", "clips"]), dg.AssetKey(["bench", "bands_embeddings"])
    assert isinstance(graph.get_partition_mapping(vectors, clips), dg.IdentityPartitionMapping)


@pytest.mark.slow
def test_a_classifier_of_one_fold_runs_in_that_fold(done):
    study = done.changed_study()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    defs, graph = definitions(done, study), done.graph(study)
    result = dg.materialize(
        list(defs.assets),
        selection=[dg.AssetKey(["bench", f"early_{t}"]) for t in ("probes", "predictions")],
        partition_key="1",
        instance=open_instance(done.data_folder),
    )
    assert result.success
    partition_files = graph.partition_files(Node("predictions/early", 1))
    assert read_partition(partition_files["predictions"], TABLES["predictions"])[0]["fold"].to_pylist() == [1] * 4
    assert set(read_provenance(graph.partition_files(Node("probes/early", 1))["probes"]).inputs) >= {
        "embeddings/bands|2",
        "embeddings/bands|3",
    }
    materialized = {"/".join(e.asset_key.path): e.partition for e in result.get_asset_materialization_events()}
    assert materialized == {"bench/early_probes": "1", "bench/early_predictions": "1"}


def test_an_accelerator_step_has_tags_for_every_executor(bench, gpu_encoder):
    defs = definitions(bench, bench.changed_study("encoders", large={"kind": "gpu_encoder", "dimensions": 4}))
    large, small = op(defs, "bench/large_embeddings"), op(defs, "bench/bands_embeddings")
    assert large.pool == "gpu"
    assert large.tags["gpu"] == "1"
    assert large.tags["dagster-celery/queue"] == "gpu"
    assert yaml.safe_load(large.tags["dagster-dask/resource_requirements"]) == {"GPU": 1}
    assert yaml.safe_load(large.tags["dagster-k8s/config"])["container_config"]["resources"] == {
        "limits": {"nvidia.com/gpu": "1"}
    }
    assert yaml.safe_load(large.tags["dagster-ray/config"]) == {"num_gpus": 1}
    assert specs(defs)["bench/large_embeddings"].kinds >= {"torch", "parquet"}
    assert small.pool is None
    assert not [t for t in small.tags if "gpu" in t or t.startswith("dagster-")]


def test_steps_run_in_one_process_by_default(bench):
    assert definitions(bench).executor is dg.in_process_executor
    study = str(bench.write())
    custom = build_definitions(studies=[study], data_folder=bench.data_folder, executor=dg.multiprocess_executor)
    assert custom.executor is dg.multiprocess_executor


def test_a_wrong_study_does_not_block_the_others(bench, tmp_path, caplog):
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: bad\ndataset: {kind: nowhere}\n")
    with caplog.at_level(logging.WARNING):
        specs_by_key = specs(build_definitions(studies=[str(bad), str(bench.write())], data_folder=bench.data_folder))
    assert "bench/leaderboard" in specs_by_key
    assert not [key for key in specs_by_key if key.startswith("bad/")]
    assert [str(bad) in r.getMessage() and "nowhere" in r.getMessage() for r in caplog.records] == [True]


def test_studies_of_one_dataset_share_its_asset(bench):
    first = bench.write()
    second = bench.folder / "second.yaml"
    second.write_text(first.read_text().replace("name: bench", "name: second"))
    specs_by_key = specs(build_definitions(studies=[str(first), str(second)], data_folder=bench.data_folder))
    datasets = [key for key in specs_by_key if key.startswith("datasets/")]
    assert len(datasets) == 1
    for study in ("bench", "second"):
        parents = {d.asset_key for d in specs_by_key[f"{study}/clips"].deps}
        assert parents == {specs_by_key[datasets[0]].key}


def test_two_datasets_with_one_name_are_refused(bench, tmp_path, caplog):
    from vlm_audio_pipeline_tests.bench import Bench

    other_bench = Bench(tmp_path / "twin")  # another clips.csv in another folder
    other_bench.study["name"] = "twin"
    with caplog.at_level(logging.WARNING):
        defs = build_definitions(studies=[str(bench.write()), str(other_bench.write())], data_folder=bench.data_folder)
    assert (
        f"dataset.name: '{other_bench.graph().study.dataset.asset_name}' is also the name of another dataset"
        in caplog.text
    )
    assert "bench/clips" in specs(defs) and "twin/clips" not in specs(defs)
    named = other_bench.changed_study("dataset", name="elsewhere")
    defs = build_definitions(studies=[str(bench.write()), str(other_bench.write(named))], data_folder=bench.data_folder)
    assert {"bench/clips", "twin/clips", "datasets/elsewhere"} <= set(specs(defs))


def test_two_studies_with_one_name_are_refused(bench, caplog):
    first = bench.write(bench.changed_study(rerun={"schedule": "0 3 * * *"}))
    second = bench.folder / "copy.yaml"
    second.write_text(first.read_text().replace("k: 3", "k: 1"))
    with caplog.at_level(logging.WARNING):
        defs = build_definitions(studies=[str(first), str(second)], data_folder=bench.data_folder)
    assert f"{second}: name: 'bench' is also the name of {first}" in caplog.text
    assert "bench/leaderboard" in specs(defs)


def test_a_study_that_was_run_in_the_data_folder_is_shown(done, monkeypatch):
    monkeypatch.delenv("VLM_AUDIO_STUDIES", raising=False)
    assert studies_to_show(done.data_folder)[:3] == ["demo", "baselines", "esc10"]
    assert {Path(s).name for s in studies_to_show(done.data_folder)[3:]} == {"bench.yaml"}
    monkeypatch.setenv("VLM_AUDIO_STUDIES", " demo , ")
    assert studies_to_show(done.data_folder) == ["demo"]


def test_the_dagster_home_limits_concurrent_runs(tmp_path):
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


def test_observing_the_dataset_detects_one_changed_recording(bench):
    defs = definitions(bench)
    dataset = next(key for key in specs(defs) if key.startswith("datasets/"))
    job = defs.resolve_implicit_global_asset_job_def()

    def observed_versions() -> dict[str, str]:
        result = job.execute_in_process(asset_selection=[dg.AssetKey(dataset.split("/"))])  # the "Observe" button
        assert result.success
        events = result.get_asset_observation_events()
        return {
            e.event_specific_data.asset_observation.partition: e.event_specific_data.asset_observation.data_version
            for e in events
        }

    before = observed_versions()
    assert set(before) == {"1", "2", "3"}
    assert observed_versions() == before
    bench.record("2-low-1", "low", seed=99)
    after = observed_versions()
    assert {fold for fold in before if before[fold] != after[fold]} == {"2"}


def test_a_materialization_has_counts_images_and_a_preview(bench):
    graph = bench.graph()
    result = dg.materialize(definitions(bench).assets, selection=["bench/clips"], partition_key="3")
    metadata = next(iter(result.asset_materializations_for_node("bench__clips"))).metadata
    assert metadata["dagster/row_count"].value == 4
    assert metadata["rejected_clips rows"].value == 0
    assert metadata["images"].value.startswith("![images](data:image/webp;base64,UklGR")  # RIFF
    assert (
        metadata["files"].value.split(", ")[0]
        == graph.partition_files(Node("clips", 3))["clips"].relative_to(bench.data_folder.root).as_posix()
    )
    assert "`3-high-0`" in metadata["preview"].value
    checks = {c.check_name: c.passed for c in result.get_asset_check_evaluations()}
    assert checks == {"rows_unique": True, "fold_has_clips": True, "sources_in_one_fold": True}
