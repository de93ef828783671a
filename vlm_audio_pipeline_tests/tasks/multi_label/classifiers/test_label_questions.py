"""Yes and no for each class: the score by hand, independence of the classes in one pass, and thresholds of other folds."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_questions import yes_no_answers, yes_probabilities
from vlm_audio_pipeline.tasks.multi_label.classifiers.response_stages import fit_thresholds, predict_from_yes_no
from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints
from vlm_audio_pipeline_tests.classifiers.language_models.conftest import local
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips

__all__ = ["local"]  # a fixture


def test_the_score_is_the_share_of_yes_in_both_answers():
    # dog: e^-2 / (e^-2 + e^-3) = 1 / (1 + e^-1). rain: equal answers. wind: e^-1000 is 0 in floats, its share of e^-1001 is not
    found = yes_probabilities(
        {
            "dog: yes": -2.0,
            "dog: no": -3.0,
            "rain: yes": -7.5,
            "rain: no": -7.5,
            "wind: yes": -1001.0,
            "wind: no": -1000.0,
        },
        ("dog", "rain", "wind"),
    )
    assert found == pytest.approx([1 / (1 + math.exp(-1)), 0.5, 1 / (1 + math.e)], abs=1e-12)
    with pytest.raises(KeyError):
        yes_probabilities({"dog: yes": -1.0}, ("dog",))


def test_all_classes_of_a_clip_are_scored_in_one_pass_that_equals_separate_computation(local):
    names = dict(zip(checkpoints.LABELS, checkpoints.LABELS, strict=True))
    answers = tuple(yes_no_answers(names).values())
    requests = [
        replace(checkpoints.request(checkpoints.image(i)), labels=answers, scorings=frozenset({"likelihood"}))
        for i in range(3)
    ]

    def ask(backend):
        rows = {}
        backend.ask(requests, rows.__setitem__)
        return np.array([rows[i].log_probabilities for i in range(len(requests))])

    packed, separate = local(), local(share=False)
    passes = []
    logits = packed._forward.logits
    packed._forward.logits = lambda *args, **kwargs: passes.append(1) or logits(*args, **kwargs)
    found, expected = ask(packed), ask(separate)
    assert packed.sharing_disabled_reason is None
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(passes) <= len(requests) + 1  # a pass for each clip, and one that checks the first
    yes = [yes_probabilities(dict(zip(yes_no_answers(names), row, strict=True)), tuple(names)) for row in found]
    assert np.ptp(yes, axis=0).min() > 0  # they depend on the image


def response_rows(clips, log_odds, outcomes=None):
    """Return `responses` of clips whose log-probabilities of yes and no differ by `log_odds`, (clips, classes)."""
    classes = ("b", "a", "c")
    rows = [
        {
            "fold": fold,
            "scoring": "likelihood",
            "control": "none",
            "trial": 0,
            "clip": clip,
            "model": "m",
            "revision": None,
            "outcome": "answered" if outcomes is None else outcomes[i],
            "log_probabilities": [
                pair
                for k, c in enumerate(classes)
                for pair in ((f"{c}: yes", log_odds[i][k] - 5.0), (f"{c}: no", -5.0))
            ],
        }
        for i, (clip, fold) in enumerate(zip(clips["clip"].to_pylist(), clips["fold"].to_pylist(), strict=True))
    ]
    names = ("fold", "scoring", "control", "trial", "clip", "model", "revision", "outcome", "log_probabilities")
    return pa.Table.from_pylist(rows, pa.schema([TABLES["responses"].arrow.field(name) for name in names]))


def test_a_threshold_separates_the_answered_clips_of_other_folds():
    data, truth, _ = labelled_clips(n_folds=2, per_fold=20)
    clips = clips_table(data.clips)
    others = clips.slice(20)
    # log odds 2 with the class, 0 without it: P(yes) is 1 / (1 + e^-2) and 1/2; the threshold is halfway
    responses = response_rows(others, 2.0 * truth[20:])
    found = fit_thresholds(responses, clips, truth, data.classes, "asking", 1)
    assert found == pytest.approx([(1 / (1 + math.exp(-2)) + 0.5) / 2] * 3)
    with pytest.raises(VlmAudioError, match="classifier 'asking' needs training clips with and without every class"):
        fit_thresholds(response_rows(others, truth[20:], ["error"] * 20), clips, truth, data.classes, "asking", 1)


def test_rows_have_scores_and_outcomes_without_an_answer_have_none():
    data, truth, _ = labelled_clips(n_folds=2, per_fold=4)
    clips = clips_table(data.clips).slice(0, 2)
    responses = response_rows(clips, [[0.0, 1.0, -1.0]] * 2, ["answered", "error"])
    rows = predict_from_yes_no(responses, clips, truth[:2], data.classes, np.array([0.5, 0.8, 0.2])).to_pylist()
    assert [(r["label"], r["predicted"]) for r in rows[:3]] == [("b", True), ("a", False), ("c", True)]
    assert [r["score"] for r in rows[:3]] == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    assert {(r["score"], r["threshold"], r["predicted"], r["outcome"]) for r in rows[3:]} == {
        (None, None, None, "error")
    }


STUDY = """
name: asking
task: multi_label
dataset: {kind: soundscape, recordings: 24, duration_s: 5, events_per_minute: 60, n_folds: 2}
renderings: {plain: {preset: plain, width: 64, height: 64}}
classifiers:
  asking: {kind: language_model, model: script, backend: scripted, rendering: plain, question: yes_no, controls: [blank]}
  shown: {kind: language_model, model: script, backend: scripted, rendering: plain, question: yes_no, shots: 1}
contrasts: [{classifier: asking, against: [chance, asking@blank, shown]}]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "yes_no, controls",
            "yes_no, folds: [1], controls",
            "threshold: is chosen on other folds and needs two or more folds",
        ),
        (
            "backend: scripted, rendering: plain, question: yes_no, controls",
            "backend: openai, rendering: plain, question: yes_no, controls",
            "question yes_no needs likelihood, which this endpoint does not return",
        ),
    ],
)
def test_what_yes_and_no_need(tmp_path, data_folder, old, new, message):
    with pytest.raises(BadStudy, match=message):
        Graph(parse_study(STUDY.replace(old, new), tmp_path / "asking.yaml"), data_folder)


@pytest.mark.slow
def test_a_study_with_yes_and_no_is_ranked_and_compared(tmp_path, data_folder):
    graph = Graph(parse_study(STUDY, tmp_path / "asking.yaml"), data_folder)
    assert not run_study(graph).failed
    board = query(data_folder, "SELECT * FROM multi_label_leaderboard").to_pylist()
    rows = {(r["classifier"], r["control"]): r for r in board}
    assert all(
        rows[name, "none"]["rank"] is not None and rows[name, "none"]["cmap"] > 0 for name in ("asking", "shown")
    )
    assert (rows["asking", "none"]["scoring"], rows["asking", "blank"]["rank"]) == ("likelihood", None)
    # The probability of yes from SQL alone, of the stored responses.
    [difference] = query(
        data_folder,
        "SELECT max(abs(p.score - 1 / (1 + exp(r.log_probabilities[p.label || ': no'] - r.log_probabilities[p.label || ': yes'])))) AS d "
        "FROM multi_label_predictions p JOIN responses r USING (study, classifier, scoring, control, trial, clip)",
    )["d"].to_pylist()
    assert difference < 1e-9
    assert rows["asking", "none"]["training_clips"] == 0 < rows["shown", "none"]["training_clips"] <= 24
    verdicts = query(data_folder, "SELECT verdict, statement FROM multi_label_contrasts ORDER BY position").to_pylist()
    assert [v["verdict"] for v in verdicts] == ["cannot tell apart"] * 3  # the script knows nothing
    shown = query(data_folder, "SELECT * FROM examples ORDER BY fold, position").to_pylist()
    assert len(shown) == 2 * 2 * 12  # two folds, yes and no for twelve classes
    truth = {(r["clip"], r["label"]) for r in query(data_folder, "SELECT * FROM clip_labels").to_pylist()}
    folds = {r["clip"]: r["fold"] for r in query(data_folder, "SELECT clip, fold FROM clips").to_pylist()}
    for row in shown:
        label, answer = row["example_label"].split(": ")
        assert ((row["clip"], label) in truth) == (answer == "yes")
        assert folds[row["clip"]] != row["fold"]
