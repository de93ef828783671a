"""Messages and exit codes of commands that fail."""

import re
import signal

import pytest

from vlm_audio_pipeline_tests.cli.program import STEPS, assert_refused, run_command, vlm_audio


def test_a_failed_step_gives_1_and_is_named_once(bench):
    with (bench.folder / "annotations.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    result = run_command(bench, "run", "--only", "panel")
    assert result.code == 1
    assert result.err.count("bench/predictions/panel") == 1
    assert "failed bench/predictions/panel (folds 1,2,3): " in result.err
    assert "'loud'" in result.err and "line 22" in result.err
    assert "Traceback" not in result.err


def test_an_unexpected_error_has_a_traceback(bench, monkeypatch, dagster_executor):
    def raise_key_error(*arguments):
        raise KeyError("a defect")

    monkeypatch.setattr("vlm_audio_pipeline.datasets.inspection.inspect", raise_key_error)
    result = run_command(bench, "run", "--fold", "1", "--only", "clips")
    assert result.code == 1
    assert "failed bench/clips (fold 1): KeyError: 'a defect'" in result.err
    assert "in raise_key_error" in result.err  # the function that raised the error


def test_ctrl_c_gives_130_and_a_message_that_finished_work_is_kept(bench, monkeypatch):
    from vlm_audio_pipeline.datasets import inspection

    inspect, interrupts = inspection.inspect, []

    def inspect_with_interrupt(*arguments):
        if not interrupts:
            interrupts.append(True)
            signal.raise_signal(signal.SIGINT)
        return inspect(*arguments)

    monkeypatch.setattr(inspection, "inspect", inspect_with_interrupt)
    result = run_command(bench, "run")
    assert result.code == 130
    assert result.err == "stopped; finished work is kept, and the same command continues from there\n"
    assert run_command(bench, "run").last.startswith(f"{STEPS} steps, ")


def test_ctrl_c_between_two_steps_stops_the_run(bench, monkeypatch, dagster_executor):
    """Dagster holds the signal back between steps, and loses it if no step follows."""
    from vlm_audio_pipeline.dagster_app import assets

    def inspect_with_interrupt(*arguments):
        signal.raise_signal(signal.SIGINT)
        return {}

    monkeypatch.setattr(assets, "preview", inspect_with_interrupt)
    result = run_command(bench, "run", "--only", "clips")
    assert result.code == 130
    *progress, last_line = result.err.splitlines()
    assert last_line.startswith("stopped")
    assert progress and all(re.fullmatch(r"\[\d+/\d+\] \S+: [\d.]+ s", line) for line in progress)


@pytest.mark.parametrize("command", ["run", "plan", "fetch", "refresh"])
def test_a_wrong_study_file_is_named_with_its_key(bench, command):
    bench.write(bench.changed_study("classifiers", "knn", encoder="band"))
    assert_refused(run_command(bench, command), "bench.yaml", "classifiers.knn", "did you mean 'bands'?")
    assert not bench.data_folder.root.exists()


def test_a_study_file_that_is_not_yaml_is_refused(bench):
    (bench.folder / "bench.yaml").write_text("name: [bench\n")
    assert_refused(run_command(bench, "run"), "bench.yaml")


@pytest.mark.parametrize("command", ["run", "fetch"])
def test_a_data_folder_that_cannot_be_created_is_reported(bench, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    result = vlm_audio(command, bench.write(), data=tmp_path / "file" / "data")
    assert result.code == 2 and "cannot create or write the data folder" in result.err


WRITES = {
    "renderings": lambda bench, output_path: vlm_audio("renderings", "--out", output_path),
    "report": lambda bench, output_path: run_command(bench, "report", "--single-file", output_path),
    "export": lambda bench, output_path: vlm_audio(
        "export", "bench", "--out", output_path, data=bench.data_folder.root
    ),
    "render": lambda bench, output_path: run_command(bench, "render", "spectrogram", "--out", output_path),
    "init": lambda bench, output_path: vlm_audio("init", bench.folder / "clips.csv", "--out", output_path),
}


@pytest.mark.parametrize("command", WRITES)
def test_an_output_path_that_cannot_be_written_is_reported_without_a_traceback(done, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    output_path = tmp_path / "file" / "out.html"
    done.study["renderings"] = {"spectrogram": {"size": 24}}
    done.write()
    assert_refused(WRITES[command](done, output_path), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_home_folder_of_an_unknown_user_is_an_error_and_creates_no_file(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert_refused(
        vlm_audio("run", "~nosuchuser/study.yaml", data=bench.data_folder.root), "path '~nosuchuser/study.yaml'"
    )
    assert_refused(vlm_audio("plan", bench.write(), data="~nosuchuser/data"), "path '~nosuchuser/data'")
    bench.write(bench.changed_study("dataset", path="~nosuchuser/clips.csv"))
    assert_refused(run_command(bench, "plan"), "bench.yaml", "dataset.path", "path '~nosuchuser/clips.csv'")
    monkeypatch.setenv("ESC10_DIR", "~nosuchuser/esc10")
    assert_refused(vlm_audio("plan", "baselines", data=bench.data_folder.root), "path '~nosuchuser/esc10'")
    assert not list(tmp_path.glob("~*"))


def test_studies_with_one_name_or_a_comma_in_the_path_are_refused_in_the_ui(bench):
    first = bench.write()
    second = bench.folder / "copy.yaml"
    second.write_text(first.read_text())
    assert_refused(
        vlm_audio("ui", first, second, data=bench.data_folder.root),
        f"{second}: name: 'bench' is also the name of",
    )
    comma = first.rename(bench.folder / "mine, too.yaml")
    assert_refused(vlm_audio("ui", comma, data=bench.data_folder.root), "whose path contains a comma", "mine, too.yaml")
