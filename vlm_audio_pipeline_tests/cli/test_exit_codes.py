"""What a command says, and the code it ends with, when something is wrong."""

import signal

import pytest

from vlm_audio_pipeline_tests.cli.program import STEPS, call, refused, vlm_audio


def test_a_failed_step_gives_1_and_is_named_once(bench):
    with (bench.folder / "readings.csv").open("a") as file:
        file.write("2-low-0,ann,loud\n")
    said = call(bench, "run", "--only", "people")
    assert said.code == 1
    assert said.err.count("bench/predictions/people") == 1
    assert "failed bench/predictions/people (folds 1,2,3): " in said.err
    assert "'loud'" in said.err and "line 22" in said.err
    assert "Traceback" not in said.err


def test_a_defect_of_ours_keeps_its_traceback(bench, monkeypatch):
    def broken(*arguments):
        raise KeyError("a defect")

    monkeypatch.setattr("vlm_audio_pipeline.datasets.inspection.inspect", broken)
    said = call(bench, "run", "--fold", "1", "--only", "clips")
    assert said.code == 1
    assert "failed bench/clips (fold 1): KeyError: 'a defect'" in said.err
    assert "in broken" in said.err  # where it happened


def test_ctrl_c_gives_130_and_says_that_nothing_is_lost(bench, monkeypatch):
    from vlm_audio_pipeline.datasets import inspection

    inspect, pressed = inspection.inspect, []

    def pressing(*arguments):
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        return inspect(*arguments)

    monkeypatch.setattr(inspection, "inspect", pressing)
    said = call(bench, "run")
    assert said.code == 130
    assert said.err == "stopped; what was finished is kept, and the same command goes on from there\n"
    assert call(bench, "run").last.startswith(f"{STEPS} steps, ")


def test_ctrl_c_between_two_steps_is_not_forgotten(bench, monkeypatch):
    """Dagster keeps the signal to itself between steps, and forgets it when no step follows."""
    from vlm_audio_pipeline.dagster_app import assets

    def pressing(*arguments):
        signal.raise_signal(signal.SIGINT)
        return {}

    monkeypatch.setattr(assets, "preview", pressing)
    said = call(bench, "run", "--only", "clips")
    assert said.code == 130
    assert said.err.startswith("stopped")


@pytest.mark.parametrize("command", ["run", "plan", "fetch", "refresh"])
def test_a_wrong_study_file_is_named_with_its_key(bench, command):
    bench.write(bench.changed("classifiers", "knn", encoder="band"))
    refused(call(bench, command), "bench.yaml", "classifiers.knn", "did you mean 'bands'?")
    assert not bench.layout.root.exists()


def test_a_study_file_that_is_no_yaml(bench):
    (bench.folder / "bench.yaml").write_text("name: [bench\n")
    refused(call(bench, "run"), "bench.yaml")


@pytest.mark.parametrize("command", ["run", "fetch"])
def test_a_data_folder_that_cannot_be_made_is_said(bench, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    said = vlm_audio(command, bench.write(), data=tmp_path / "file" / "data")
    assert said.code == 2 and "the data folder must be one that can be written to" in said.err


WRITES = {
    "renderings": lambda bench, place: vlm_audio("renderings", "--out", place),
    "report": lambda bench, place: call(bench, "report", "--single-file", place),
    "export": lambda bench, place: vlm_audio("export", "bench", "--out", place, data=bench.layout.root),
    "render": lambda bench, place: call(bench, "render", "spectrogram", "--out", place),
    "init": lambda bench, place: vlm_audio("init", bench.folder / "clips.csv", "--out", place),
}


@pytest.mark.parametrize("command", WRITES)
def test_a_place_that_cannot_be_written_is_named_without_a_traceback(done, tmp_path, command):
    (tmp_path / "file").write_text("in the way")
    place = tmp_path / "file" / "out.html"
    done.study["renderings"] = {"spectrogram": {"size": 24}}
    done.write()
    refused(WRITES[command](done, place), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_home_that_nobody_has_is_told_and_nothing_is_made(bench, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(vlm_audio("run", "~nosuchuser/study.yaml", data=bench.layout.root), "got '~nosuchuser/study.yaml'")
    refused(vlm_audio("plan", bench.write(), data="~nosuchuser/data"), "got '~nosuchuser/data'")
    bench.write(bench.changed("dataset", path="~nosuchuser/clips.csv"))
    refused(call(bench, "plan"), "bench.yaml", "dataset.path", "got '~nosuchuser/clips.csv'")
    monkeypatch.setenv("ESC10_DIR", "~nosuchuser/esc10")
    refused(vlm_audio("plan", "baselines", data=bench.layout.root), "got '~nosuchuser/esc10'")
    assert not list(tmp_path.glob("~*"))


def test_studies_that_cannot_be_shown_together_are_refused(bench):
    first = bench.write()
    second = bench.folder / "copy.yaml"
    second.write_text(first.read_text())
    refused(vlm_audio("ui", first, second, data=bench.layout.root), f"{second}: name: must tell this study", "'bench'")
    comma = first.rename(bench.folder / "mine, too.yaml")
    refused(vlm_audio("ui", comma, data=bench.layout.root), "must be without commas", "mine, too.yaml")
