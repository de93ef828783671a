"""The section of changed audio: one plot for each kind of change, the original last."""

import pytest

from vlm_audio_pipeline.datasets.perturbation import Perturb
from vlm_audio_pipeline.reports.page.changed_audio import changed_audio, perturbations
from vlm_audio_pipeline.reports.page.controls import control_groups
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder

PERTURB = {"noise": "white", "snr_db": [20, -5], "low_pass_hz": [4000]}


def run(classifier, control, accuracy):
    row = {"accuracy": accuracy, "control": control, "accuracy_low": None, "accuracy_high": None}
    return PageRun(classifier, "probe", "score", control, (1,), None, False, row)


RUNS = [
    run("probe", "none", 0.9),
    run("knn", "none", 0.8),
    run("probe", "blank", 0.1),
    run("probe", "white_noise_20db", 0.7),
    run("probe", "white_noise_minus_5db", 0.2),
    run("probe", "low_pass_4000hz", 0.6),
]


@pytest.fixture
def results(tmp_path):
    spec = {"classifiers": {"probe": {"kind": "probe", "perturb": PERTURB}, "knn": {"kind": "knn", "perturb": None}}}
    return StudyResults(DataFolder(tmp_path), "s", {"study": spec}, None, "")


def test_each_kind_of_change_has_a_plot_with_ascending_values_and_the_original(results):
    changes = perturbations(results)
    assert {name: list(of_name) for name, of_name in changes.items()} == {
        "probe": [change.name for change in Perturb(**PERTURB).perturbations]
    }
    noise, low_pass = changed_audio(RUNS, changes, 0.5)
    assert (noise["title"], noise["columns"]) == ("white noise", ["-5 dB", "20 dB", "original"])
    assert (low_pass["title"], low_pass["columns"]) == ("low-pass", ["4000 Hz", "original"])
    (line,) = noise["lines"]
    assert [(point["run"], point["row"]["accuracy"]) for point in line["points"]] == [(4, 0.2), (3, 0.7), (0, 0.9)]
    # three columns: their centres are 1/6, 3/6 and 5/6 of the width; the only line is in the middle of each
    assert [point["x"] for point in line["points"]] == pytest.approx([1 / 6, 3 / 6, 5 / 6])


def test_a_condition_without_a_result_is_a_gap(results):
    (noise,) = changed_audio(
        RUNS[:4], {"probe": {c.name: c for c in Perturb(noise="white", snr_db=[0, 20]).perturbations}}, None
    )
    assert [point is None for point in noise["lines"][0]["points"]] == [True, False, False]
    assert changed_audio(RUNS, {}, 0.5) == []


def test_a_changed_audio_is_no_control(results):
    class NoClips(StudyResults):
        clips = []  # type: ignore[assignment]  # noqa: RUF012
        classes = ("a", "b")  # type: ignore[assignment]

    study = NoClips(results.data_folder, "s", results.record, None, "")
    (group,) = control_groups(study, RUNS, [], [], perturbations(results))
    assert [control["words"] for control in group["controls"]] == ["blank images"]
