"""The answers of several studies side by side."""

from types import SimpleNamespace

from vlm_audio_pipeline.reports.page.compared_answers import compare_answers
from vlm_audio_pipeline.reports.page.compared_results import ComparedResults
from vlm_audio_pipeline.reports.page.compared_summary import descriptions
from vlm_audio_pipeline_tests.reports.page.example_study import verdict_rows

P_VALUES = [f"{reference}_p" for reference in ("chance", "blank", "time_shuffled", "audio", "pixels")]
NULL_ROW = {**dict.fromkeys((*P_VALUES, "accuracy", "audio_classifier", "caution")), "scoring": "", "reason": ""}


def side(name: str, verdicts: list, description: str = "") -> ComparedResults:
    rows = [NULL_ROW | row for row in verdicts]
    results = SimpleNamespace(rows=lambda table: rows, spec={"description": description}, study=name.partition("@")[0])
    return ComparedResults(name, results, {})


def test_each_model_and_scoring_has_the_row_of_each_study():
    answers = compare_answers(
        [side("first", verdict_rows()), side("other", verdict_rows()[:1]), side("first@2026-11-20", verdict_rows())]
    )
    assert list(answers.views) == ["first", "other"], "no answer of an earlier time is stored"
    models = {
        model: {study: row["answer"] for study, row in of_model.items()} for model, of_model in answers.models.items()
    }
    assert models == {
        ("image_model", "likelihood"): {"first": "it can", "other": "it can"},
        ("image_model", "generation"): {"first": "cannot be decided"},
    }
    assert list(answers.references) == ["blank", "chance", "audio"]
    assert compare_answers([side("without", []), side("models", [])]) is None


def test_a_description_is_shown_once_for_all_studies_that_have_it():
    sides = [side("a", [], "Text."), side("a@2026-11-20", [], "Text."), side("b", [], "Text."), side("c", [], "Other.")]
    assert descriptions([*sides, side("d", [])]) == [(["a", "b"], "Text."), (["c"], "Other.")]
