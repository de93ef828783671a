"""What a command says, and the code it ends with, when something is wrong."""

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


def test_a_defect_keeps_its_traceback(bench, monkeypatch, dagster_executor):
    def broken(*arguments):
        raise KeyError("a defect")

    monkeypatch.setattr("vlm_audio_pipeline.datasets.inspection.inspect", broken)
    result = run_command(bench, "run", "--fold", "1", "--only", "clips")
    assert result.code == 1
    assert "failed bench/clips (fold 1): KeyError: 'a defect'" in result.err
    assert "in broken" in result.err  # where it happened


def test_ctrl_c_gives_130_and_says_that_nothing_is_lost(bench, monkeypatch):
    from vlm_audio_pipeline.datasets import inspection

    inspect, pressed = inspection.inspect, []

    def pressing(*arguments):
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return inspect(*arguments)

    monkeypatch.setattr(inspection, "inspect", pressing)
    result = run_command(bench, "run")
    assert result.code == 130
    assert result.err == "stopped; finished work is kept, and the same command continues from there\n"
    assert run_command(bench, "run").last.startswith(f"{STEPS} steps, ")


def test_ctrl_c_between_two_steps_is_not_forgotten(bench, monkeypatch, dagster_executor):
    """Dagster keeps the signal to itself between steps, and forgets it when no step follows."""
    from vlm_audio_pipeline.dagster_app import assets

    def pressing(*arguments):
        signal.raise_signal(signal.SIGINT)
        return {}

    monkeypatch.setattr(assets, "preview", pressing)
    result = run_command(bench, "run", "--only", "clips")
    assert result.code == 130
    assert result.err.startswith("stopped")


@pytest.mark.parametrize("command", ["run", "plan", "fetch", "refresh"])
def test_a_wrong_study_file_is_named_with_its_key(bench, command):
    bench.write(bench.changed("classifiers", "knn", encoder="band"))
    assert_refused(run_command(bench, command), "bench.yaml", "classifiers.knn", "did you mean 'bands'?")
    assert not bench.data_folder.root.exists()


def test_a_study_file_that_is_no_yaml(bench):
    (bench.folder / "bench.yaml").write_text("name: [bench\n")
    assert_refused(run_command(bench, "run"), "bench.yaml")


@pytest.mark.parametrize("command", ["run", "fetch"])
def test_a_data_folder_that_cannot_be_made_is_said(bench, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    result = vlm_audio(command, bench.write(), data=tmp_path / "file" / "data")
    assert result.code == 2 and "cannot create or write the data folder" in result.err


WRITES = {
    "renderings": lambda bench, place: vlm_audio("renderings", "--out", place),
    "report": lambda bench, place: run_command(bench, "report", "--single-file", place),
    "export": lambda bench, place: vlm_audio("export", "bench", "--out", place, data=bench.data_folder.root),
    "render": lambda bench, place: run_command(bench, "render", "spectrogram", "--out", place),
    "init": lambda bench, place: vlm_audio("init", bench.folder / "clips.csv", "--out", place),
}


@pytest.mark.parametrize("command", WRITES)
def test_a_place_that_cannot_be_written_is_named_without_a_traceback(done, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "out.html"
    done.study["renderings"] = {"spectrogram": {"size": 24}}
    done.write()
    assert_refused(WRITES[command](done, place), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_home_that_nobody_has_is_told_and_nothing_is_made(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert_refused(
        vlm_audio("run", "~nosuchuser/study.yaml", data=bench.data_folder.root), "path '~nosuchuser/study.yaml'"
    )
    assert_refused(vlm_audio("plan", bench.write(), data="~nosuchuser/data"), "path '~nosuchuser/data'")
    bench.write(bench.changed("dataset", path="~nosuchuser/clips.csv"))
    assert_refused(run_command(bench, "plan"), "bench.yaml", "dataset.path", "path '~nosuchuser/clips.csv'")
    monkeypatch.setenv("ESC10_DIR", "~nosuchuser/esc10")
    assert_refused(vlm_audio("plan", "baselines", data=bench.data_folder.root), "path '~nosuchuser/esc10'")
    assert not list(tmp_path.glob("~*"))


def test_studies_that_cannot_be_shown_together_are_refused(bench):
    first = bench.write()
    second = bench.folder / "copy.yaml"
    second.write_text(first.read_text())
    assert_refused(
        vlm_audio("ui", first, second, data=bench.data_folder.root),
        f"{second}: name: must differ from the name of",
        "'bench'",
    )
    comma = first.rename(bench.folder / "mine, too.yaml")
    assert_refused(vlm_audio("ui", comma, data=bench.data_folder.root), "must be without commas", "mine, too.yaml")
