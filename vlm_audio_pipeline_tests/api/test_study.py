"""`study`: running a study and reading its results."""

import json

import pytest

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.contracts.errors import BadStudy, NotAvailable
from vlm_audio_pipeline.studies.loading import built_in_studies
from vlm_audio_pipeline_tests.cli.conftest import bench as bench  # fixtures
from vlm_audio_pipeline_tests.cli.conftest import done as done
from vlm_audio_pipeline_tests.cli.conftest import first_run as first_run
from vlm_audio_pipeline_tests.cli.program import STEPS, vlm_audio


@pytest.fixture
def study(bench):
    return vap.study(bench.folder / "bench.yaml", data=bench.data_folder.root)


@pytest.fixture
def finished(done):
    """A study that was run."""
    return vap.study(done.folder / "bench.yaml", data=done.data_folder.root)


def test_a_study_runs_and_gives_its_results(bench, study):
    assert study.name == "bench" and "bench" in repr(study)
    plan = study.plan()
    assert len(plan.steps) == len(plan.plan.todo) == STEPS
    assert set(plan.steps["state"]) == {"to do"} and set(plan.steps["reason"]) == {"missing"}
    summary = study.run()
    assert (summary.steps, summary.failed, summary.not_run) == (STEPS, {}, {})
    assert (study.run().steps, len(study.plan().steps)) == (0, 0)


def test_results_are_tables(done, finished):
    bench, study = done, finished
    board = study.leaderboard()
    assert {"probe", "knn", "panel"} <= set(board["classifier"])
    command = vlm_audio("leaderboard", "bench", data=bench.data_folder.root).out
    assert all(line.rstrip() in command for line in str(board).splitlines()[1:])
    assert len(study.predictions()) == sum(len(study.predictions(name)) for name in ("probe", "knn", "panel"))
    assert set(study.predictions("knn")["classifier"]) == {"knn"}
    with pytest.raises(vap.VlmAudioError, match=r"classifier 'kn'; did you mean 'knn'\?"):
        study.predictions("kn")
    assert study.table("clips")["clip"] == study.clips()["clip"]
    with pytest.raises(vap.VlmAudioError, match=r"no table 'clip'; did you mean 'clips'\?"):
        study.table("clip")
    shown = study.show(bench.rows[0]["id"], "knn")
    assert len(shown) == 1 and "knn" in str(shown)
    assert vap.leaderboard("bench", data=bench.data_folder.root).to_arrow() == board.to_arrow()
    assert len(vap.show(bench.rows[0]["id"], data=bench.data_folder.root)) == 1 + 1 + 2  # probe, knn, two annotators


def test_the_plan_is_printed_as_by_the_command(bench, study):
    lines = vlm_audio("plan", bench.folder / "bench.yaml", data=bench.data_folder.root).out.splitlines()
    printed = repr(study.plan()).splitlines()
    assert printed[:3] == [line.rstrip() for line in lines[:3]] or printed[0].split() == lines[0].split()
    assert f"{STEPS} to do" in repr(study.plan())


def test_only_one_step_and_fold_run(study):
    summary = study.run(only="embeddings/bands", fold=1)
    assert summary.steps == 2  # clips and embeddings
    assert study.run(only=["knn"], fold=1).steps > 0


def test_sql_sees_only_the_rows_of_the_study(done, finished):
    bench, study = done, finished
    other = bench.changed_study(name="other")
    (bench.folder / "other.yaml").write_text(json.dumps(other))  # JSON is YAML
    other_study = vap.study(bench.folder / "other.yaml", data=bench.data_folder.root)
    other_study.run(only="knn")
    query = "SELECT DISTINCT study FROM clips JOIN predictions USING (study, clip) ORDER BY study"
    assert study.sql(query)["study"] == ["bench"]
    assert other_study.sql(query)["study"] == ["other"]
    assert vap.sql(query, data=bench.data_folder.root)["study"] == ["bench", "other"]
    assert study.sql("SELECT ? AS x", [7])["x"] == [7]
    copy = f"COPY clips TO '{bench.folder / 'clips.parquet'}'"
    for query_results in (study.sql, lambda sql: vap.sql(sql, data=bench.data_folder.root)):
        with pytest.raises(vap.VlmAudioError, match="only reads the data folder"):
            query_results(copy)
    study.sql(copy, allow_files=True)
    assert (bench.folder / "clips.parquet").is_file()


def test_errors_are_those_of_the_command(bench, study, tmp_path):
    data = bench.data_folder.root
    for arguments, call in (
        (("run", "demoo"), lambda: vap.study("demoo", data=data)),
        (("run", bench.folder / "bench.yaml", "--only", "knnn"), lambda: study.run(only="knnn")),
        (("run", bench.folder / "bench.yaml", "--fold", 9), lambda: study.run(fold=9)),
        (("sql", "SELEC 1"), lambda: vap.sql("SELEC 1", data=data)),
        (("leaderboard", "bench"), study.leaderboard),
        (("show", "x"), lambda: vap.show("x", data=data)),
        (("export", "bench"), lambda: study.export(tmp_path / "out")),
    ):
        result = vlm_audio(*arguments, data=data)
        with pytest.raises(vap.VlmAudioError) as error:
            call()
        assert result.err == f"error: {error.value}\n", arguments


def test_failed_steps_raise_what_the_command_prints(bench, study):
    bench.record("1-low-0", "low", seed=0)
    (bench.audio / "1-low-0.wav").write_bytes(b"RIFF")
    with pytest.raises(vap.StepsFailed) as error:
        study.run()
    assert "failed bench/clips" in str(error.value) and "1-low-0" in str(error.value)
    assert error.value.summary.failed
    assert vlm_audio("run", bench.folder / "bench.yaml", data=bench.data_folder.root).err.startswith(str(error.value))


def test_a_study_that_was_run_is_found_by_its_name(bench, study):
    study.run(only="embeddings/bands", fold=1)
    by_name = vap.study("bench", data=bench.data_folder.root)
    assert by_name.table("embeddings").to_arrow() == study.table("embeddings").to_arrow()
    assert by_name.run(only="embeddings/bands", fold=1).steps == 0
    assert vlm_audio("plan", "bench", data=bench.data_folder.root).code == 0
    (bench.folder / "bench.yaml").unlink()
    without_file = vap.study("bench", data=bench.data_folder.root)
    assert len(without_file.table("embeddings")) == 4
    with pytest.raises(BadStudy, match=r"was run from .*, which no longer exists"):
        without_file.run()


def test_a_changed_file_counts_at_once(done, finished):
    bench, study = done, finished
    study_file = bench.changed_study()
    del study_file["classifiers"]["panel"]
    bench.write(study_file)
    with pytest.warns(UserWarning, match="was run from"):  # the results were copied from another folder
        study.run()
    assert {"probe", "knn"} <= (names := set(study.leaderboard()["classifier"])) and "panel" not in names


def test_another_file_of_the_same_name_warns(done):
    bench = done
    (bench.folder / "copy.yaml").write_text((bench.folder / "bench.yaml").read_text())
    with pytest.warns(UserWarning, match=r"was run from .*bench.yaml before"):
        vap.study(bench.folder / "copy.yaml", data=bench.data_folder.root).run()


def test_a_limited_study_has_its_own_results(bench):
    limited = vap.study(bench.folder / "bench.yaml", data=bench.data_folder.root, limit=2)
    limited.run(only=["knn"])
    assert limited.name == "bench_limit2" and len(limited.predictions("knn")) == 6
    with pytest.raises(vap.VlmAudioError, match="limit must be 1 or more, got 0"):
        vap.study("demo", limit=0)


def test_files_are_written(finished, tmp_path):
    study = finished
    files = study.export(tmp_path / "export")
    assert {"leaderboard.csv", "provenance.json"} <= {file.name for file in files}
    images = study.render("plain", tmp_path / "images", clips=2)
    assert images[0].name == "contact_sheet.png" and len(images) == 3
    with pytest.raises(vap.VlmAudioError, match="neither a rendering of the study nor a preset"):
        study.render("plan", tmp_path / "images")
    with pytest.raises(vap.VlmAudioError, match="has no images"):
        study.annotation_sheet(out=tmp_path / "sheet.html")


def test_files_with_images_are_written(sounds, tmp_path):
    study = vap.study(sounds.study, data=sounds.data)
    assert study.annotation_sheet(fold=2, rendering="demo", out=tmp_path / "sheet.html").is_file()
    assert study.fiftyone(export=tmp_path / "fiftyone").is_dir()


def test_the_models_of_a_study_are_fetched(sounds):
    """Those of this package are on this machine."""
    models = vap.study(sounds.study, data=sounds.data).fetch()
    assert {"clap", "aimv2", "janus"} <= set(models) and models["clap"].startswith("demo-clap, revision ")


def test_missing_models_are_all_reported(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    study_file = bench.changed_study("encoders", a={"kind": "clap", "model": str(tmp_path / "a")})
    study_file["encoders"]["b"] = {"kind": "clap", "model": str(tmp_path / "b")}
    bench.write(study_file)
    with pytest.raises(NotAvailable, match=r"(?s)weights of .*/a missing.*weights of .*/b missing"):
        vap.study(bench.folder / "bench.yaml", data=bench.data_folder.root).fetch()


@pytest.mark.slow
def test_the_report_is_written_and_opened(bench, study, tmp_path, monkeypatch):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    study.run()
    page = vap.open_report(bench.folder / "bench.yaml", data=bench.data_folder.root)
    assert page.read_text().startswith("<!doctype html>")
    assert opened.read_text().strip() == page.absolute().as_uri()
    single = study.report(single_file=tmp_path / "one.html")
    assert single.stat().st_size > 10_000


@pytest.mark.slow
def test_runs_are_visible_in_dagster(bench, study, dagster_executor):
    from vlm_audio_pipeline.dagster_app.instance import open_instance

    assert study.run().steps == STEPS
    assert open_instance(bench.data_folder).get_runs_count() > 0
    assert not study.refresh().todo


# ------------------------------------------------------------------------------------------------ of the data folder


def test_built_in_studies_are_listed():
    table = vap.list_studies()
    assert table["name"] == list(built_in_studies()) and all(table["description"])


def test_a_first_study_is_written(bench):
    path = vap.init(bench.folder / "clips.csv", bench.folder / "first.yaml")
    assert vap.study(path, data=bench.data_folder.root).name
    with pytest.raises(BadStudy, match="exists already"):
        vap.init(str(bench.folder / "clips.csv"), path)


def test_the_schema_is_that_of_the_command():
    assert vap.schema() == json.loads(vlm_audio("schema").out)


def test_doctor_checks_the_machine(tmp_path):
    checks = vap.doctor(data=tmp_path)
    assert set(checks["state"]) <= {"ok", "warn", "bad"} and any("Python" in text for text in checks["text"])


def test_prune_lists_first_and_deletes_only_on_request(done, finished):
    bench, study = done, finished
    rows = len(study.leaderboard())
    unused = bench.data_folder.partition_file("clips", "bench", fold=9)
    unused.parent.mkdir(parents=True)
    unused.write_bytes(b"x" * 1000)
    listed = vap.prune(days=0, data=bench.data_folder.root)
    (row,) = [row for row in listed if row["description"].startswith("partition files that no study")]
    assert (row["count"], row["size_bytes"]) == (1, 1000) and unused.exists()
    vap.prune(days=0, delete=True, data=bench.data_folder.root)
    assert not unused.exists()
    assert len(study.leaderboard()) == rows


def test_a_model_is_asked_again_on_request(bench):
    study_file = bench.changed_study(
        classifiers={"scripted": {"kind": "language_model", "backend": "scripted", "model": "m", "rendering": "plain"}},
        renderings={"plain": {"preset": "plain", "size": 32, "rate": 8000, "n_fft": 256}},
    )
    study = vap.study(bench.write(study_file), data=bench.data_folder.root)
    study.run(only="responses/*", fold=1)
    assert study.run(only="responses/*", fold=1).steps == 0
    assert study.run(only="responses/*", fold=1, again="scripted").steps == 1
    with pytest.raises(vap.VlmAudioError, match="--again must name a step that asks a language model, got 'clips'"):
        study.run(again="clips")
