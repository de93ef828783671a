"""`init`, `schema`, `studies`, `doctor`."""

import json
from pathlib import Path

import yaml

from vlm_audio_pipeline_tests.cli.program import assert_refused, vlm_audio


def test_init_writes_a_study_that_runs(bench):
    (bench.folder / "bench.yaml").unlink()
    result = vlm_audio("init", bench.folder / "clips.csv")
    assert result.code == 0
    (path,) = bench.folder.glob("*.yaml")
    assert f"vlm-audio run {path}" in result.out
    assert_refused(vlm_audio("init", bench.folder / "clips.csv"), "exists already", "--out")
    plan = vlm_audio("plan", path, data=bench.data_folder.root)
    assert plan.code == 0 and "clips" in plan.out
    run_result = vlm_audio("run", path, "--only", "clips", data=bench.data_folder.root)
    assert run_result.code == 0
    assert run_result.last.startswith("3 steps, 3 runs, ")  # the CSV has 3 folds


def test_schema_prints_json_with_the_keys_of_a_study():
    result = vlm_audio("schema")
    assert result.code == 0
    assert {"name", "dataset", "encoders", "classifiers"} <= set(json.loads(result.out)["properties"])


def test_studies_lists_files_that_can_be_loaded():
    result = vlm_audio("studies")
    assert result.code == 0
    files = [Path(word) for word in result.out.split() if word.endswith(".yaml")]
    assert {yaml.safe_load(p.read_text())["name"] for p in files} >= {"demo", "baselines"}


def test_doctor_accepts_this_machine_and_reports_a_wrong_data_folder(tmp_path):
    result = vlm_audio("doctor", data=tmp_path / "data")
    assert result.code == 0, result.out
    assert "Python" in result.out and "bad" not in result.out
    (tmp_path / "file").write_text("no folder")
    result = vlm_audio("doctor", data=tmp_path / "file")
    assert result.code == 1
    assert str(tmp_path / "file") in result.out.replace("\n", "")
