"""Conformance of every declared measure, and a test that adds one."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from vlm_audio_pipeline.cli.tables import leaderboard_table as terminal_table
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.leaderboard import LeaderboardEntry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import metrics_table
from vlm_audio_pipeline.evaluation.temperature_scaling import apply_temperature
from vlm_audio_pipeline.measures.declarations import MEASURES, RANKING_MEASURE, index_by_name
from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, WITHOUT_TUNING, Number, share
from vlm_audio_pipeline.reports.export import leaderboard_tex, write_csv
from vlm_audio_pipeline.reports.figures import measure_charts
from vlm_audio_pipeline.reports.page.report import write_report
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.summary_tables import leaderboard_schema
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, prediction_arrays, predictions_table
from vlm_audio_pipeline_tests.reports.page.example_study import write_example_study

# Two folds; the scores of a prediction are those of classes a, b, c, d. Outcomes: 6 answered, 1 unparseable, 1 refused.
ROWS = [
    (1, "a", "a", [0.7, 0.1, 0.1, 0.1]),
    (1, "b", "a", [0.5, 0.3, 0.1, 0.1]),
    (1, "b", "b", [0.2, 0.6, 0.1, 0.1]),
    (1, "c", "unparseable", None),
    (2, "a", "a", [0.4, 0.3, 0.2, 0.1]),
    (2, "c", "c", [0.1, 0.2, 0.6, 0.1]),
    (2, "d", "a", [0.4, 0.3, 0.2, 0.1]),
    (2, "d", "refused", None),
]
RECORDS = {"tokens": 100, "seconds": 2.0, "usd": 0.03}
TRUE, PREDICTED = [r[1] for r in ROWS], [r[2] for r in ROWS]
SCORED = [(label, predicted, scores) for _, label, predicted, scores in ROWS if scores]


def arrays():
    table = predictions_table(ROWS, **RECORDS)
    confidence = [max(scores) if scores else np.nan for *_, scores in ROWS]
    raw = replace(prediction_arrays(table), confidence=np.array(confidence))
    raw = replace(raw, source=np.array([f"s{i}" for i in range(len(ROWS))]))
    swapped = [(fold, label, "b", None) for fold, label, _, _ in ROWS]
    return replace(apply_temperature(raw), other_scoring=prediction_arrays(predictions_table(swapped)))


def scores_and_labels(temperature_of_fold=None):
    """Return (scores (n, 4), true class indices), scaled by hand: p^(1/T), normalised."""
    scores = []
    for fold, _, _, values in ROWS:
        if values is not None:
            power = 1 / temperature_of_fold[fold] if temperature_of_fold else 1
            scaled = np.array(values) ** power
            scores.append(scaled / scaled.sum())
    return np.array(scores), [CLASSES.index(label) for label, _, _ in SCORED]


def ece_by_hand(scores, labels):
    confidence, bins = scores.max(axis=1), {}
    for c, s, label in zip(confidence, scores, labels, strict=True):
        bins.setdefault(int(np.ceil(round(c, 9) * 10)), []).append((s.argmax() == label, c))
    return sum(abs(sum(hit - c for hit, c in pairs)) for pairs in bins.values()) / len(labels)


def wilson_by_hand():
    """Return Wilson's interval of 4 of 8 clips of their own sources: v = 8/7 * 8 * (1/2)^2 / 8^2 = 0.25 / 7, so n = 7.

    At a share of 1/2 it is 1/2 -+ z / (2 sqrt(n + z^2)).
    """
    half = 1.959964 / (2 * (7 + 1.959964**2) ** 0.5)
    return 0.5 - half, 0.5 + half


def expected_values():
    """Return measure (or measure, label) -> expected value, from scikit-learn or arithmetic."""
    from scipy.stats import entropy as scipy_entropy
    from sklearn import metrics as sk

    macro = {"labels": list(CLASSES), "average": "macro", "zero_division": 0}
    each = {**macro, "average": None}
    scores, labels = scores_and_labels()
    temperatures = arrays().temperatures
    scaled, _ = scores_and_labels(temperatures)
    low, high = wilson_by_hand()
    values = {
        "accuracy": sk.accuracy_score(TRUE, PREDICTED),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_answered": 4 / 6,
        "accuracy_fold_mean": (2 / 4 + 2 / 4) / 2,
        "accuracy_without_tuning_folds": 2 / 4,  # fold 2
        "macro_f1": sk.f1_score(TRUE, PREDICTED, **macro),
        "macro_precision": sk.precision_score(TRUE, PREDICTED, **macro),
        "balanced_accuracy": sk.recall_score(TRUE, PREDICTED, **macro),
        "top3": 5 / 8,  # d is among four with the lowest score; two have no scores
        "answered_share": 6 / 8,
        "unparseable_share": 1 / 8,
        "truncated_share": 0.0,
        "refused_share": 1 / 8,
        "error_share": 0.0,
        "trial_sd": None,  # one trial; see test_agreement
        "trial_kappa": None,
        "scorings_agree": 1 / 8,  # the other scoring always predicts b
        "label_entropy": scipy_entropy([4, 1, 1]) / np.log(4),  # a, b and c of four classes
        "top_label_share": 4 / 6,
        "follow_rate": None,  # no changed input; see test_answers
        "accuracy_before_calibration": None,  # see test_answers
        "log_loss": sk.log_loss(labels, scores, labels=range(4)),
        "brier": sk.brier_score_loss(labels, scores, labels=range(4), scale_by_half=False),
        "ece": ece_by_hand(scores, labels),
        "log_loss_temperature": sk.log_loss(labels, scaled, labels=range(4)),
        "brier_temperature": sk.brier_score_loss(labels, scaled, labels=range(4), scale_by_half=False),
        "ece_temperature": ece_by_hand(scaled, labels),
        "temperature": None,  # each fold has its own; see test_metrics
        "median_seconds": 2.0,
        "tokens": 800.0,
        "usd": 0.24,
        "usd_per_correct": 0.24 / 4,
    }
    for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        values |= {(name, c): v for c, v in zip(CLASSES, function(TRUE, PREDICTED, **each), strict=True)}
    values["precision", "d"] = None  # never predicted
    return values


def test_every_measure_equals_an_independent_value():
    values, predictions = {}, arrays()
    for measure in MEASURES.values():
        subset = predictions.select(predictions.fold == 2) if measure.subset == WITHOUT_TUNING else predictions
        if measure.per_class:
            values |= {(measure.name, label): measure.formula(subset, label) for label in CLASSES}
        else:
            values[measure.name] = measure.formula(subset)
    expected = expected_values()
    assert set(values) == set(expected), "a new measure needs an independent value here"
    for key, number in values.items():
        if expected[key] is None:
            assert number.value is None, key
            assert number.reason, key
        else:
            approximate = expected[key] if hasattr(expected[key], "abs") else pytest.approx(expected[key])
            assert number.value == approximate, key


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_documented_and_undefined_without_predictions(name):
    measure = MEASURES[name]
    assert measure.doc and measure.unit in measure.documentation and measure.subset in (ALL_CLIPS, WITHOUT_TUNING)
    empty = prediction_arrays(predictions_table([]))
    number = measure.formula(empty, "a") if measure.per_class else measure.formula(empty)
    assert number.value is None and number.reason and number.included.shape == (0,)
    column = next((c for c in TABLES["leaderboard"].columns if c.name == name), None)
    assert (column is not None) == measure.leaderboard
    assert column is None or (column.nullable and column.in_data_version == measure.in_data_version)


def test_the_ranking_measure_is_shown_in_all_outputs():
    assert set(MEASURES[RANKING_MEASURE].displays) == {"terminal", "page", "export", "plot"}


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        ((MEASURES["ece"], MEASURES["ece"]), "measure 'ece' is declared twice"),
        (
            (replace(MEASURES["ece"], displays=("terminal",)),),
            r"'ece' has displays \('terminal',\), which need leaderboard=True",
        ),
    ],
)
def test_a_wrong_declaration_is_refused(measures, message):
    with pytest.raises(ValueError, match=message):
        index_by_name(measures)


@pytest.fixture
def error_rate(monkeypatch):
    """Declare a new measure; nothing else in the program names it."""

    def formula(predictions) -> Number:
        return share(~predictions.correct, predictions.all_rows, "no predictions")

    measure = Measure(
        name="error_rate",
        formula=formula,
        doc="wrong / predictions",
        order="lower",
        leaderboard=True,
        displays=("terminal", "page", "page_details", "export", "plot"),
        decimals=2,
    )
    monkeypatch.setitem(MEASURES, "error_rate", measure)
    monkeypatch.setitem(TABLES, "leaderboard", leaderboard_schema())


@pytest.mark.usefixtures("error_rate")
def test_a_new_measure_is_in_every_table_by_its_declaration_alone():
    predictions = predictions_table(
        [(1, "a", "a", None), (1, "b", "a", None), (1, "c", "c", None), (1, "d", "d", None)]
    )
    clips = [Clip(f"clip {i}", "a", 1, f"source {i}", "f") for i in range(4)]
    table = leaderboard_table(
        [LeaderboardEntry("p", "probe", predictions, (1,))],
        clips=clips,
        rejected_clips=0,
        classes=CLASSES,
        tuning_folds=(),
        limited=False,
    )
    board = TABLES["leaderboard"].conform(table, study="s")
    row = next(r for r in board.to_pylist() if r["classifier"] == "p")
    assert row["error_rate"] == 1 / 4
    assert board.schema.field("error_rate").metadata[b"doc"] == b"wrong / predictions (share of 1; lower is better)"

    metrics = metrics_table(predictions, CLASSES, ()).to_pylist()
    assert [r["value"] for r in metrics if (r["metric"], r["subset"]) == ("error_rate", "all")] == [1 / 4]

    text = io.StringIO()
    Console(file=text, width=200).print(terminal_table([row], "s"))
    heading, line = text.getvalue().splitlines()[1:3]
    assert "error rate" in heading and " 0.25 " in line

    tex = leaderboard_tex(board, "s")
    assert r"\begin{tabular}{rllrrrrrr}" in tex and "Macro $F_1$ & Error rate & Training clips" in tex
    assert " & 0.25 & " in tex
    file = io.BytesIO()
    write_csv(board, file)
    assert b'"error_rate"' in file.getvalue().splitlines()[0]

    assert set(measure_charts(board)) == {"accuracy", "error_rate"}


@pytest.mark.usefixtures("error_rate")
def test_a_new_measure_is_on_the_report_page_by_its_declaration_alone(tmp_path):
    study = write_example_study(tmp_path / "study")
    page = write_report(study.data_folder, study.study, tmp_path / "report").read_text()
    heading = 'title="wrong / predictions (share of 1; lower is better)"><button type="button" class="sort">error rate</button>'
    assert heading in page
