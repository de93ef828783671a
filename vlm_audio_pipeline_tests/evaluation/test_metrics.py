import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.leaderboard import LeaderboardEntry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import confusion_table, metrics_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, predictions_table


def numbers(table, subset="all"):
    rows = TABLES["metrics"].conform(table, study="s", classifier="p").to_pylist()
    return {(r["metric"], r["label"]): r for r in rows if r["subset"] == subset}


# By hand: class a is correct twice and predicted as b once; b is correct once; c is unparseable, then refused.
SIX = [
    (1, "a", "a", None),
    (1, "a", "a", None),
    (1, "a", "b", None),
    (2, "b", "b", None),
    (2, "c", "unparseable", None),
    (2, "c", "refused", None),
]


def test_metrics_by_hand():
    values = numbers(metrics_table(predictions_table(SIX), CLASSES, ()))
    expected = {
        ("accuracy", ""): (3 / 6, 6),
        ("accuracy_answered", ""): (3 / 4, 4),
        ("accuracy_fold_mean", ""): ((2 / 3 + 1 / 3) / 2, 6),
        ("answered_share", ""): (4 / 6, 6),
        ("unparseable_share", ""): (1 / 6, 6),
        ("truncated_share", ""): (0.0, 6),
        ("refused_share", ""): (1 / 6, 6),
        ("error_share", ""): (0.0, 6),
        ("macro_precision", ""): ((1 + 1 / 2 + 0) / 3, 6),  # c occurs and is never predicted: 0
        # one source for all six, so n = 1 at worst. Wilson: (0.5 +- 1.96 sqrt(0.25 + 0.96)) / (1 + 3.84), less 1.92 / 4.84
        ("accuracy_low", ""): ((0.5 + 1.92073 - 1.959964 * (0.25 + 0.960365) ** 0.5) / 4.841459, 6),
        ("accuracy_high", ""): ((0.5 + 1.92073 + 1.959964 * (0.25 + 0.960365) ** 0.5) / 4.841459, 6),
        ("precision", "a"): (2 / 2, 2),
        ("recall", "a"): (2 / 3, 3),
        ("f1", "a"): (4 / 5, 3),  # 2 TP / (2 TP + FP + FN) = 4 / (4 + 0 + 1)
        ("precision", "b"): (1 / 2, 2),
        ("recall", "b"): (1 / 1, 1),
        ("f1", "b"): (2 / 3, 2),  # 2 / (2 + 1 + 0)
        ("recall", "c"): (0.0, 2),
        ("f1", "c"): (0.0, 2),
        ("macro_f1", ""): ((4 / 5 + 2 / 3 + 0) / 3, 6),  # d does not occur
        ("balanced_accuracy", ""): ((2 / 3 + 1 + 0) / 3, 6),
        # a, a, b, b: one bit of two bits for four classes
        ("label_entropy", ""): (1 / 2, 4),
        ("top_label_share", ""): (2 / 4, 4),
    }
    for key, (value, denominator) in expected.items():
        assert values[key]["value"] == pytest.approx(value, rel=1e-5), key
        assert (values[key]["predictions"], values[key]["reason"]) == (denominator, None), key
    undefined = {
        ("precision", "c"): "never predicted",
        ("precision", "d"): "never predicted",
        ("recall", "d"): "no clips of this class",
        ("f1", "d"): "no clips of this class, and never predicted",
        ("top3", ""): "no scores",
        ("log_loss", ""): "no scores",
        ("brier", ""): "no scores",
        ("ece", ""): "no confidence",
        **{(f"{name}_temperature", ""): "no scores" for name in ("log_loss", "brier", "ece")},
        ("temperature", ""): "no scores",
        ("trial_sd", ""): "one trial",
        ("trial_kappa", ""): "one trial",
        ("scorings_agree", ""): "only one scoring was run",
        ("follow_rate", ""): "the input shows the clip's own class, or no class",
        ("accuracy_before_calibration", ""): "no contextual calibration",
        ("median_seconds", ""): "no recorded time",
        ("tokens", ""): "no recorded number of tokens",
        ("usd", ""): "no recorded cost",
        ("usd_per_correct", ""): "no recorded cost",
    }
    for key, reason in undefined.items():
        assert (values[key]["value"], values[key]["reason"]) == (None, reason), key
    assert set(values) == set(expected) | set(undefined), "there are no other numbers"


def test_metrics_of_folds_and_without_tuning_folds():
    table = metrics_table(predictions_table(SIX), CLASSES, (1,))
    assert numbers(table, "fold 1")["accuracy", ""]["value"] == pytest.approx(2 / 3)
    assert numbers(table, "fold 2")["accuracy", ""]["value"] == pytest.approx(1 / 3)
    assert numbers(table, "without tuning folds") == {
        k: v | {"subset": "without tuning folds"} for k, v in numbers(table, "fold 2").items()
    }
    assert numbers(metrics_table(predictions_table(SIX), CLASSES, ()), "without tuning folds") == {}
    only_tuned = numbers(metrics_table(predictions_table(SIX), CLASSES, (1, 2)), "without tuning folds")
    other_reasons = {"accuracy_answered": "no prediction was answered", "scorings_agree": "only one scoring was run"}
    names = {name for name, label in only_tuned if not label}
    for name in names:
        row = only_tuned[name, ""]
        assert (row["value"], row["reason"], row["predictions"]) == (
            None,
            other_reasons.get(name, "no predictions"),
            0,
        ), name


def test_repeated_predictions_count_as_predictions_but_not_as_clips():
    trials = [predictions_table(SIX, trial=t) for t in range(3)]
    row = numbers(metrics_table(pa.concat_tables(trials), CLASSES, ()))["accuracy", ""]
    assert (row["predictions"], row["clips"], row["value"]) == (18, 6, 0.5)


def test_agreement_of_both_scorings_of_a_language_model():
    by_likelihood = [(1, "a", "a", None), (1, "a", "b", None), (2, "b", "b", None), (2, "b", "c", None)]
    by_generation = [(1, "a", "a", None), (1, "a", "unparseable", None), (2, "b", "a", None)]
    table = pa.concat_tables(
        [predictions_table(by_likelihood, scoring="likelihood"), predictions_table(by_generation, scoring="generation")]
    )
    rows = metrics_table(table, CLASSES, ()).to_pylist()
    values = {(r["scoring"], r["subset"]): r for r in rows if r["metric"] == "scorings_agree"}
    # of the three clips under both scorings, one has the same label twice; an unparseable response agrees with nothing
    for scoring in ("likelihood", "generation"):
        row = values[scoring, "all"]
        assert (row["value"], row["predictions"], row["reason"]) == (pytest.approx(1 / 3), 3, None)
        assert [values[scoring, f"fold {f}"]["value"] for f in (1, 2)] == [0.5, 0.0]


def test_agreement_of_scorings_is_undefined_if_another_model_answered_the_other_scoring():
    table = pa.concat_tables(
        predictions_table(SIX, scoring=scoring, revision=revision)
        for scoring, revision in (("likelihood", "gpt-4o-2024-08-06"), ("generation", "gpt-4o-2024-11-20"))
    )
    rows = [r for r in metrics_table(table, CLASSES, (), ()).to_pylist() if r["subset"] == "all"]
    agreement = [r for r in rows if r["metric"] == "scorings_agree"]
    assert [r["value"] for r in agreement] == [None, None]
    assert all("must be of one" in r["reason"] for r in agreement)
    assert [r["value"] for r in rows if r["metric"] == "accuracy"] == [3 / 6, 3 / 6]  # each scoring is of one model


def test_a_temperature_is_defined_for_a_single_fold():
    rng = np.random.default_rng(5)
    probabilities = rng.dirichlet(np.ones(4), 60)
    true = [CLASSES[rng.choice(4, p=p)] for p in probabilities]
    rows = [
        (1 + i % 3, t, CLASSES[p.argmax()], (p**2 / (p**2).sum()).tolist())
        for i, (t, p) in enumerate(zip(true, probabilities, strict=True))
    ]
    table = metrics_table(predictions_table(rows), CLASSES, (1,))
    by_fold = [numbers(table, f"fold {f}")["temperature", ""] for f in (1, 2, 3)]
    assert all(0.5 < row["value"] < 8 for row in by_fold), "scores were squared: a temperature of about 2 undoes that"
    for subset in ("all", "without tuning folds"):
        row = numbers(table, subset)["temperature", ""]
        assert (row["value"], row["reason"]) == (None, "each fold has its own")
    names = numbers(table)
    assert names["log_loss_temperature", ""]["value"] < names["log_loss", ""]["value"]
    one_fold = numbers(metrics_table(predictions_table([r for r in rows if r[0] == 1]), CLASSES, ()))
    for name in ("temperature", "ece_temperature", "brier_temperature"):
        assert one_fold[name, ""]["value"] is None
        assert one_fold[name, ""]["reason"].startswith("no temperature: there are no other folds"), name


def test_scorings_and_controls_are_separate():
    blank = predictions_table([(1, "a", "b", None)], control="blank", scoring="generation")
    rows = metrics_table(pa.concat_tables([predictions_table(SIX), blank]), CLASSES, ()).to_pylist()
    values = {
        (r["scoring"], r["control"]): r["value"] for r in rows if (r["metric"], r["subset"]) == ("accuracy", "all")
    }
    assert values == {("score", "none"): 0.5, ("generation", "blank"): 0.0}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, "unparseable"])), min_size=1, max_size=40)
)
def test_metrics_equal_scikit_learn(pairs):
    from sklearn import metrics as sk

    values = numbers(metrics_table(predictions_table([(1, t, p, None) for t, p in pairs]), CLASSES, ()))
    true, predicted = map(list, zip(*pairs, strict=True))
    present = sorted(set(true))
    options = {"labels": list(CLASSES), "average": None, "zero_division": np.nan}
    by_scikit_learn = {
        "precision": sk.precision_score(true, predicted, **options),
        "recall": sk.recall_score(true, predicted, **options),
        "f1": sk.f1_score(true, predicted, **options),
    }
    for name, expected in by_scikit_learn.items():
        own = [values[name, c]["value"] for c in CLASSES]
        assert [np.nan if v is None else v for v in own] == pytest.approx(list(expected), nan_ok=True), name
        assert [values[name, c]["reason"] is None for c in CLASSES] == [v is not None for v in own]
    macro = {"labels": present, "average": "macro", "zero_division": 0}
    assert values["accuracy", ""]["value"] == pytest.approx(sk.accuracy_score(true, predicted))
    assert values["macro_f1", ""]["value"] == pytest.approx(sk.f1_score(true, predicted, **macro))
    assert values["macro_precision", ""]["value"] == pytest.approx(sk.precision_score(true, predicted, **macro))
    assert values["balanced_accuracy", ""]["value"] == pytest.approx(sk.recall_score(true, predicted, **macro))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_top3_equals_scikit_learn_without_ties(seed, n):
    from sklearn import metrics as sk

    rng = np.random.default_rng(seed)
    scores, true = rng.random((n, 4)), rng.integers(0, 4, n)
    rows = [(1, CLASSES[t], CLASSES[s.argmax()], s.tolist()) for t, s in zip(true, scores, strict=True)]
    values = numbers(metrics_table(predictions_table(rows), CLASSES, ()))["top3", ""]["value"]
    assert values == pytest.approx(sk.top_k_accuracy_score(true, scores, k=3, labels=range(4)))


def test_top3_with_ties_with_failures_and_with_few_classes():
    rows = [
        (1, "d", "a", [1.0, 0.0, 0.0, 0.0]),  # two of the three tied classes fill the two places left: 2 / 3
        (1, "b", "a", [0.25, 0.25, 0.25, 0.25]),  # three of four: 3 / 4
        (1, "a", "refused", None),  # no scores: a miss
        (1, "a", "error", None),  # a failed request is no prediction
    ]
    values = numbers(metrics_table(predictions_table(rows), CLASSES, ()))["top3", ""]
    assert (values["value"], values["predictions"]) == (pytest.approx((2 / 3 + 3 / 4 + 0) / 3), 3)
    three_classes = numbers(metrics_table(predictions_table(rows[1:]), ("a", "b", "c"), ()))["top3", ""]
    assert (three_classes["value"], three_classes["reason"]) == (None, "three classes or fewer")


def test_failed_requests_are_in_no_accuracy_but_in_their_share():
    rows = [(1, "a", "a", None), (1, "b", "a", None), (1, "b", "error", None), (1, "c", "refused", None)]
    values = numbers(metrics_table(predictions_table(rows), CLASSES, ()))
    found = {name: (values[name, ""]["value"], values[name, ""]["predictions"]) for name in ("accuracy", "error_share")}
    assert found == {"accuracy": (pytest.approx(1 / 3), 3), "error_share": (1 / 4, 4)}
    assert (values["recall", "b"]["value"], values["recall", "b"]["predictions"]) == (0, 1)
    nothing = numbers(metrics_table(predictions_table([(1, "a", "error", None)]), CLASSES, ()))["accuracy", ""]
    assert (nothing["value"], nothing["reason"]) == (None, "no predictions")


def test_the_confusion_matrix_equals_scikit_learn():
    from sklearn import metrics as sk

    table = TABLES["confusion"].conform(confusion_table(predictions_table(SIX), CLASSES), study="s", classifier="p")
    counts = {(r["label"], r["predicted"]): r["count"] for r in table.to_pylist()}
    true, predicted = [r[1] for r in SIX[:4]], [r[2] for r in SIX[:4]]
    matrix = sk.confusion_matrix(true, predicted, labels=CLASSES)
    assert {k: v for k, v in counts.items() if k[1] in CLASSES} == {
        (t, p): matrix[i, j] for i, t in enumerate(CLASSES) for j, p in enumerate(CLASSES)
    }
    assert counts["c", "(unparseable)"] == counts["c", "(refused)"] == 1
    assert sum(counts.values()) == 6


def test_no_predictions_give_empty_tables():
    empty = TABLES["predictions"].empty_table()
    for name, table in (("metrics", metrics_table(empty, CLASSES, ())), ("confusion", confusion_table(empty, CLASSES))):
        assert TABLES[name].conform(table, study="s", classifier="p").num_rows == 0


def board(table, classes):
    clips = [Clip(f"clip {i}", "a", 1, "s", "f") for i in range(2)]
    options = {"clips": clips, "rejected_clips": 0, "tuning_folds": (), "limited": False}
    return leaderboard_table([LeaderboardEntry("p", "probe", table, (1,))], classes=classes, **options)


@pytest.mark.parametrize(
    "compute",
    [lambda t, c: metrics_table(t, c, ()), confusion_table, board],
    ids=["metrics", "confusion", "leaderboard"],
)
@pytest.mark.parametrize(
    ("rows", "unknown"),
    [
        ([(1, "a", "b", [0.1, 0.2, 0.3, 0.4]), (1, "d", "c", [0.1, 0.2, 0.3, 0.4])], "c, d"),
        ([(1, "a", "c", None), (1, "b", "refused", None)], "c"),
    ],
    ids=["true", "predicted"],
)
def test_labels_that_are_not_classes_of_the_study_are_refused(compute, rows, unknown):
    with pytest.raises(VlmAudioError) as caught:
        compute(predictions_table(rows), ("a", "b"))
    assert str(caught.value) == (
        f"labels of predictions must be classes of the study (a, b), got {unknown}; run the study again"
    )


@pytest.mark.parametrize("name", ["error", "refused", "unparseable", "truncated"])
def test_a_class_that_is_called_like_an_outcome_is_not_mixed_with_it(name):
    """Two clips of the class, of which one is predicted as this class and one ended with the outcome of this name."""
    rows = predictions_table(SIX).slice(0, 2)
    values = {"label": [name, name], "predicted": [name, None], "outcome": ["answered", name], "correct": [True, False]}
    for column, cells in values.items():
        index = rows.schema.get_field_index(column)
        rows = rows.set_column(index, column, pa.array(cells, rows.schema.field(column).type))
    counts = {
        (row["label"], row["predicted"]): row["count"] for row in confusion_table(rows, (name, "dog")).to_pylist()
    }
    assert counts[name, name] == 1
    assert counts[name, f"({name})"] == 1
