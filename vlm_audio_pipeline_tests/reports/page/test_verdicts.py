import pytest

from vlm_audio_pipeline.reports.page.verdicts import count_corrected_tests, verdict_view
from vlm_audio_pipeline.reports.page.wording import use_non_breaking_spaces


def verdict(classifier, answer, scoring="likelihood", position=0, **numbers):
    columns = dict.fromkeys(f"{name}_p" for name in ("chance", "blank", "time_shuffled", "audio", "pixels"))
    row = {"classifier": classifier, "answer": answer, "scoring": scoring, "position": position, "statement": ""}
    return columns | row | {"accuracy": 0.5, "reason": None} | numbers


@pytest.mark.parametrize(
    ("answers", "question", "sentences"),
    [
        (["it can"], "Can m0 hear what it sees?", ["It can."]),
        (["it cannot"], "Can m0 hear what it sees?", ["It cannot."]),
        (["cannot be decided"], "Can m0 hear what it sees?", ["This cannot be decided."]),
        (["it can", "it cannot"], "Can vision-language models hear what they see?", ["m0: it can.", "m1: it cannot."]),
        (
            ["it cannot", "it can", "cannot be decided", "it can"],
            "Can vision-language models hear what they see?",
            ["2 of 4 models: it can.", "1 of 4 models: cannot be decided.", "1 of 4 models: it cannot."],
        ),
    ],
)
def test_the_heading_names_a_few_models_and_counts_many(answers, question, sentences):
    rows = [verdict(f"m{i}", answer, position=i) for i, answer in enumerate(answers)]
    view = verdict_view(rows[::-1])
    assert (view.question, [a.sentence for a in view.answers]) == (question, sentences)
    if len(answers) < 4:
        assert [a.answer for a in view.answers] == answers


def test_scorings_that_differ_are_named():
    rows = [verdict("m", "it can"), verdict("m", "it cannot", "generation", 1), verdict("m", "it can", "score", 2)]
    (answer,) = verdict_view(rows).answers
    assert answer.sentence == "It can (by likelihood and score), it cannot (by generation)." and answer.answer == ""
    assert [row["scoring"] for row in verdict_view(rows).statements] == ["likelihood", "generation"]


def test_a_cell_says_how_the_model_compares():
    numbers = {"accuracy": 0.5, "chance_accuracy": 0.1, "chance_p": 0.01, "audio_accuracy": 0.9, "audio_p": 0.0001}
    numbers |= {"blank_accuracy": 0.4, "blank_p": 0.05, "audio_classifier": "clap"}
    view = verdict_view([verdict("m", "it can", **numbers)])
    assert list(view.columns) == ["blank", "chance", "audio"]  # only those that were compared
    cells = view.rows[0]["cells"]
    assert {name: cell.finding for name, cell in cells.items()} == {
        "blank": "no difference shown",
        "chance": "model better",
        "audio": "model worse",
    }
    assert (cells["audio"].classifier, cells["audio"].p, cells["chance"].classifier) == (
        "clap",
        "p\xa0<\xa00.001",
        None,
    )


def test_the_correction_counts_the_tests_of_each_family():
    # two models against chance and blank images: 4 tests; one of them against its audio baseline: 1 test
    accuracies = {"chance_accuracy": 0.1, "blank_accuracy": 0.1, "audio_accuracy": 0.9}
    rows = [
        verdict("m", "it can", chance_p=0.01, blank_p=0.01, audio_p=0.5, **accuracies),
        verdict("n", "it can", chance_p=1.0, blank_p=1.0, **accuracies),
    ]
    assert [count_corrected_tests(rows, name) for name in ("chance", "blank", "time_shuffled", "audio")] == [4, 4, 1, 1]
    view = verdict_view(rows)
    assert view.correction == (
        "The p-values are corrected for the number of tests (Holm): those of the chance level and of blank images for 4 tests, "
        "all others for 1 test."
    )
    assert verdict_view([verdict("m", "it can", chance_p=0.01, **accuracies)]).correction.endswith(
        "blank images for 1 test."
    )


def test_models_without_a_complete_run_are_grouped_by_the_reason():
    absent = {"accuracy": None, "reason": "not run: no key"}
    rows = [verdict(name, "cannot be decided", "", i, **absent) for i, name in enumerate("ab")]
    rows += [
        verdict("m", "it can", position=2),
        verdict("c", "cannot be decided", position=3, accuracy=None, reason="x"),
    ]
    view = verdict_view(rows)
    assert [row["classifier"] for row in view.statements] == [row["classifier"] for row in view.rows] == ["m"]
    assert [(group.names, group.reason) for group in view.without_run] == [(["a", "b"], "no key"), (["c"], "x")]


def test_a_study_without_verdicts_has_no_view():
    assert verdict_view([]) is None


def test_numbers_stay_on_one_line():
    assert (
        use_non_breaking_spaces("(10.0 %, p < 0.001) and 3.6 points")
        == "(10.0\xa0%, p\xa0<\xa00.001) and 3.6\xa0points"
    )
