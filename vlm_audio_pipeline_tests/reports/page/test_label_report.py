"""The page of a multi-label study: its statements agree with the tables and with each other."""

import re
from types import SimpleNamespace

import pytest

from vlm_audio_pipeline.reports.page.label_events import min_overlap, overlap_rule, recording_ends
from vlm_audio_pipeline.reports.page.label_recordings import equal_scores_cmap
from vlm_audio_pipeline.reports.page.label_stage import label_report_stage
from vlm_audio_pipeline.reports.page.templates import fill_template
from vlm_audio_pipeline.storage.data_folder import DataFolder


def contrast(against):
    return {
        **dict.fromkeys(("classifier", "scoring", "measure", "verdict", "statement"), "a"),
        "control": "none",
        "against": against,
        "against_control": "none",
        "against_scoring": None,
        "subset": "all",
        "p_holm": 0.01,
        "p_equivalence_holm": None,
    }


def board_row(**values):
    measures = ("cmap", "cmap_low", "cmap_high", "auroc_macro", "f1_macro", "lwlrap", "exact_match")
    return {
        **dict.fromkeys(measures, 0.5),
        "classifier": "a",
        "kind": "probe",
        "scoring": "score",
        "control": "none",
        "model": None,
        "note": "a note",
        "clips": 3,
        "classes": 2,
        "rank": 1,
        "partial": False,
        "recordings": 3,
        "pooling": "max",
        **values,
    }


def page_text(**values):
    """Return the page of a small study, without its scripts, with one space between words."""
    results = SimpleNamespace(spec={"description": ""}, record={"limit": None}, clips=[1, 2, 3])
    leakage = {"severity": "pass", "kind": "a", "finding": "nothing", "details": []}
    segment = {
        "start_s": 0.0,
        "end_s": 5.0,
        "source": "r",
        "clip": "c",
        "label": "owl",
        "wrong": 1,
        "fold": 1,
        "number": 0,
        "decisions": [],
    }
    page = fill_template(
        "label_report.html",
        (),
        core="{}",
        study="field",
        **{
            "results": results,
            "is_demonstration": False,
            "label_counts": [],
            "inputs": {"a": ""},
            "board": [board_row()],
            "not_run": [],
            "contrasts": [contrast("chance")],
            "tie_orders": 10,
            "chance_drawings": 2000,
            "findings": [],
            "has_language_model": False,
            "has_blank_scores": False,
            "recordings": [],
            "recordings_constant": None,
            "overlap_rule": overlap_rule(0.5),
            "leakage": [leakage],
            "leakage_titles": {},
            "severity_words": {},
            "ranked": [],
            "classes": [{"label": "owl", "positives": 1, "values": []}],
            "segments": [segment],
            "max_segments": 40,
            "events": [1],
            "media": SimpleNamespace(notes=[]),
            "sources": 3,
            "folds": 2,
            "kind": "folder",
            **values,
        },
    )
    return re.sub(r"\s+", " ", page)


def test_the_menu_has_the_sections_in_their_order():
    page = page_text(recordings=[board_row()])
    links = re.findall(r'<a href="#([a-z-]+)">', page.partition("<section")[0])
    sections = re.findall(r'<section id="([a-z-]+)"', page)
    assert [name for name in links if name in sections] == sections
    assert (sections[2], sections[-1]) == ("recordings", "leakage")


def test_comparisons_say_where_each_p_value_comes_from_and_why_a_value_differs():
    page = page_text()
    assert "against chance, the labels of whole recordings are drawn again (2,000 times)" in page
    assert "puts equal scores in random order (mean of 10 orders)" in page


def test_the_row_constant_is_that_of_equal_scores_and_other_levels_are_named():
    page = page_text()
    assert "it shows what equal scores reach." in page
    assert "what a classifier reaches that does not use the clip" not in page
    assert "The chance level in Comparisons comes from" in page
    assert "With blank images" not in page.partition('id="contrasts"')[0]
    assert "With blank images, a row can have other values" in page_text(has_blank_scores=True)
    assert "The chance level in" not in page_text(contrasts=[contrast("b")])


def test_a_study_without_a_language_model_says_that_it_cannot_answer_the_question():
    sentence = "cannot answer whether a vision-language model can hear what it sees"
    assert sentence in page_text()
    assert sentence not in page_text(has_language_model=True)


def test_events_and_clips_state_which_segments_have_a_class():
    rule = "lasts at least 0.5 s in the segment (min_overlap_s), or is in it as a whole"
    page = page_text()
    assert [rule in page.partition(f'id="{name}"')[2].partition("</section>")[0] for name in ("events", "clips")] == [
        True,
        True,
    ]
    assert "min_overlap_s" not in page_text(overlap_rule="")
    assert "however short" in overlap_rule(0)
    assert overlap_rule(None) == ""


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ({"min_overlap_s": 0.5}, 0.5),
        ({"segment": {"seconds": 2, "min_overlap_s": 0.0}}, 0.0),
        ({"segment": None}, None),
        ({}, None),
    ],
)
def test_the_shortest_overlap_is_that_of_the_dataset(dataset, expected):
    assert min_overlap(SimpleNamespace(spec={"dataset": dataset})) == expected


def test_recordings_end_with_their_last_clip():
    clips = [
        {"file": "b", "start_s": 5.0, "duration_s": 5.0},
        {"file": "b", "start_s": 0.0, "duration_s": 5.0},
        {"file": "a", "start_s": None, "duration_s": 2.0},
    ]
    assert recording_ends(SimpleNamespace(clips=clips)) == [2.0, 10.0]


def test_whole_recordings_are_a_table_with_what_equal_scores_reach():
    rows = [
        board_row(cmap=0.8584, recordings=60),
        board_row(classifier="b", classes=0, note="not finished: 3 of 720 clips"),
    ]
    page = (
        page_text(recordings=rows, recordings_constant=0.6278)
        .partition('id="recordings"')[2]
        .partition("</section>")[0]
    )
    assert "equal scores for all recordings already have cmAP 0.628" in page
    assert ("With “max”" in page, "With “mean”" in page, "With “any”" in page) == (True, False, False)
    assert "<b>0.858</b>" in page
    assert "not finished: 3 of 720 clips" in page
    assert page.count('<th scope="row">') == 1  # what is not finished has no numbers
    assert 'id="recordings"' not in page_text()


def test_the_page_is_written_after_the_results_of_whole_recordings(tmp_path):
    stage = label_report_stage(DataFolder(tmp_path), ["recordings/a", "embeddings/b"])
    assert [(source.asset, source.name) for source in stage.inputs] == [("recordings", "a")]


def test_equal_scores_for_recordings_have_the_mean_share_of_recordings_with_a_class():
    import duckdb

    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE clips AS SELECT * FROM (VALUES ('s', 'a1', 'a', ''), ('s', 'a2', 'a', ''), ('s', 'b1', 'b', ''), ('s', 'c1', 'c', ''), ('t', 'd1', 'd', '')) t(study, clip, source, label)"
    )
    connection.execute(
        "CREATE TABLE clip_labels AS SELECT * FROM (VALUES ('s', 'a1', 'owl'), ('s', 'a2', 'owl'), ('s', 'b1', 'owl'), ('s', 'c1', 'fox')) t(study, clip, label)"
    )
    results = SimpleNamespace(query=lambda sql: connection.sql(sql, params=["s"]).to_arrow_table().to_pylist())
    # 2 of 3 recordings have owl, 1 of 3 fox; the mean is 1 / 2
    assert equal_scores_cmap(results) == pytest.approx(0.5)
