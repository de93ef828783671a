"""The sentences about controls: their test against the original, and one answer for all clips."""

import pytest

from vlm_audio_pipeline.reports.page.controls import control_groups
from vlm_audio_pipeline.reports.page.runs import PageRun
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline.storage.data_folder import DataFolder


class FourClips(StudyResults):
    """Four clips of two classes in two folds."""

    clips = [{"clip": f"c{i}", "label": "ab"[i % 2], "fold": 1 + i // 2} for i in range(4)]  # type: ignore[assignment]  # noqa: RUF012
    classes = ("a", "b")  # type: ignore[assignment]


@pytest.fixture
def study(tmp_path):
    return FourClips(DataFolder(tmp_path), "s", {}, None, "")


def run(control, votes, accuracy=0.5):
    row = {"accuracy": accuracy, "control": control}
    return PageRun("vlm", "language_model", "likelihood", control, (1, 2), None, False, row, dict(enumerate(votes)))


def sentences(study, blank, *, contrasts=(), verdicts=(), original=True):
    runs = [*([run("none", [0, 1, 0, 1], 1.0)] if original else []), blank]
    (group,) = control_groups(study, runs, contrasts, verdicts)
    (control,) = group["controls"]
    assert control["words"] == "blank images"
    return control["sentences"]


def verdict(p):
    row = {"classifier": "vlm", "scoring": "likelihood", "accuracy": 1.0, "blank_accuracy": 0.5, "blank_p": p}
    others = dict.fromkeys(("time_shuffled_p", "audio_p", "pixels_p"))
    return {**row, **others, "chance_p": 0.001, "chance_accuracy": 0.5}


def test_without_a_test_the_reason_is_given(study):
    assert sentences(study, run("blank", [0, 1, 1, 0])) == [
        "No test of the original against blank images: the study declares no such comparison."
    ]
    assert sentences(study, run("blank", [0, 1, 1, 0]), original=False) == [
        "No test of the original against blank images: there is no result for the original."
    ]


def test_the_test_of_the_answer_is_repeated(study):
    assert sentences(study, run("blank", [0, 1, 1, 0]), verdicts=[verdict(0.0004)]) == [
        "With the original images it is more accurate than with blank images (p < 0.001, corrected for 2 tests of the section Answer)."
    ]  # of one model: against chance and blank images
    single = [verdict(0.0004) | {"chance_p": None}]
    assert (
        "(p < 0.001, tested for the section Answer)" in sentences(study, run("blank", [0, 1, 1, 0]), verdicts=single)[0]
    )
    (undecided,) = sentences(study, run("blank", [0, 1, 1, 0]), verdicts=[verdict(0.3)])
    assert undecided.startswith("No difference between the original images and blank images is shown (p = 0.300")


def test_a_declared_contrast_comes_first(study):
    contrast = {"classifier": "vlm", "against": "vlm", "scoring": "likelihood", "control": "none"}
    contrast |= {
        "against_control": "blank",
        "verdict": "better",
        "p_holm": 0.02,
        "holm_over": 4,
        "statement": "vlm is better.",
    }

    def declared(**changes):
        return sentences(study, run("blank", [0, 1, 1, 0]), contrasts=[contrast | changes], verdicts=[verdict(0.3)])

    end = "accurate than with blank images (p = 0.020, corrected for 4 tests of the section Comparisons)."
    assert declared() == [f"With the original images it is more {end}"]
    assert declared(verdict="worse") == [f"With the original images it is less {end}"]
    assert declared(control="blank", against_control="none") == [f"With the original images it is less {end}"]
    assert declared(verdict="cannot tell apart", p_holm=0.2) == [
        "No difference between the original images and blank images is shown (p = 0.200, corrected for 4 tests of the section Comparisons)."
    ]
    assert declared(verdict="equivalent") == ["vlm is better."]


@pytest.mark.parametrize(
    ("votes", "sentence"),
    [
        (
            [1, 1, 1, 1],
            "With blank images, all clips get the answer b, so 50.0\xa0% is the share of clips of this class.",
        ),
        (
            [1, 1, 0, 0],
            "With blank images, all clips of a fold get the same answer, so 50.0\xa0% is the share of clips of one class in each fold.",
        ),
        ([1, 0, 1, 1], None),
        ([-1, -1, -1, -1], None),  # no label
    ],
)
def test_one_answer_for_all_clips_explains_the_accuracy(study, votes, sentence):
    assert sentences(study, run("blank", votes))[1:] == ([] if sentence is None else [sentence])
