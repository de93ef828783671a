"""The job of a study, and the tag of its runs."""

import dagster as dg

from vlm_audio_pipeline.dagster_app.definitions import build_definitions
from vlm_audio_pipeline.dagster_app.instance import open_instance


def test_a_study_has_one_job_with_all_its_steps(bench):
    definitions = build_definitions(studies=[str(bench.write())], data_folder=bench.data_folder)
    assert {job.name for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")} == {"bench"}
    job = definitions.resolve_job_def("bench")
    assert job.tags["study"] == "bench"
    assert {key.path[-1] for key in job.asset_layer.executable_asset_keys} == {
        step.key[-1] for step in bench.graph().steps.values()
    }


def test_a_classifier_with_its_own_folds_has_a_job_for_them(bench):
    study = bench.changed_study()
    study["classifiers"]["early"] = {"kind": "probe", "encoder": "bands", "folds": [1]}
    definitions = build_definitions(studies=[str(bench.write(study))], data_folder=bench.data_folder)
    job = definitions.resolve_job_def("bench_folds_1")
    assert {key.path[-1] for key in job.asset_layer.executable_asset_keys} == {"early_probes", "early_predictions"}


def test_the_runs_of_the_command_are_runs_of_the_job(done):
    with open_instance(done.data_folder) as instance:
        runs = instance.get_runs()
    assert runs and {(run.job_name, run.tags["study"]) for run in runs} == {("bench", "bench")}


def test_a_run_that_is_started_from_the_graph_has_the_tag(done):
    definitions = build_definitions(studies=[str(done.write())], data_folder=done.data_folder)
    with open_instance(done.data_folder) as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(["bench", "leaderboard"])]
        result = job.execute_in_process(asset_selection=keys, instance=instance)
        assert instance.get_run_by_id(result.run_id).tags["study"] == "bench"
