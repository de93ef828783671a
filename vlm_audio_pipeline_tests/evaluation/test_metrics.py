import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.leaderboard import Entry, leaderboard_table
from vlm_audio_pipeline.evaluation.metrics import confusion_table, metrics_table
from vlm_audio_pipeline.storage.schemas import TABLES

CLASSES = ("a", "b", "c", "d")


def predictions(rows, **constants) -> pa.Table:
    """Make `predictions` of (fold, label, predicted or outcome, scores or None), clips numbered in that order."""
    answered = [given in CLASSES for _, _, given, _ in rows]
    scores = [None if s is None else list(zip(CLASSES[::-1], s[::-1], strict=True)) for *_, s in rows]
    columns = {
        "fold": pa.array([r[0] for r in rows], pa.int64()),
        "label": pa.array([r[1] for r in rows], pa.string()),
        "predicted": pa.array([r[2] if a else None for r, a in zip(rows, answered, strict=True)], pa.string()),
        "outcome": pa.array(["answered" if a else r[2] for r, a in zip(rows, answered, strict=True)], pa.string()),
        "correct": pa.array([r[1] == r[2] for r in rows], pa.bool_()),
        "scores": pa.array(scores, pa.map_(pa.string(), pa.float64())),
        "clip": pa.array([f"clip {i}" for i in range(len(rows))], pa.string()),
        "source": pa.array(["s"] * len(rows), pa.string()),
    }
    given = {"kind": "probe", "scoring": "score", "control": "none", "trial": 0, **constants}
    columns |= {k: pa.repeat(pa.scalar(v), len(rows)) for k, v in given.items()}
    return TABLES["predictions"].conform(pa.table(columns), study="s", classifier="p")


def numbers(table, subset="all"):
    rows = TABLES["metrics"].conform(table, study="s", classifier="p").to_pylist()
    return {(r["metric"], r["label"]): r for r in rows if r["subset"] == subset}


# Six predictions, by hand: a is right twice and once called b; b is right once; c is unparseable, then refused.
SIX = [
    (1, "a", "a", None),
    (1, "a", "a", None),
    (1, "a", "b", None),
    (2, "b", "b", None),
    (2, "c", "unparseable", None),
    (2, "c", "refused", None),
]


def test_by_hand():
    got = numbers(metrics_table(predictions(SIX), CLASSES, ()))
    expected = {
        ("accuracy", ""): (3 / 6, 6),
        ("accuracy_answered", ""): (3 / 4, 4),
        ("accuracy_fold_mean", ""): ((2 / 3 + 1 / 3) / 2, 6),
        ("answered_share", ""): (4 / 6, 6),
        ("unparseable_share", ""): (1 / 6, 6),
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
    }
    for key, (value, over) in expected.items():
        assert got[key]["value"] == pytest.approx(value, rel=1e-5), key
        assert (got[key]["predictions"], got[key]["reason"]) == (over, None), key
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
        ("scorings_agree", ""): "asked in one way only",
        ("median_seconds", ""): "no time on record",
        ("tokens", ""): "no number of tokens on record",
        ("usd", ""): "no cost on record",
        ("usd_per_correct", ""): "no cost on record",
    }
    for key, reason in undefined.items():
        assert (got[key]["value"], got[key]["reason"]) == (None, reason), key
    assert set(got) == set(expected) | set(undefined), "nothing else is given"


def test_subsets():
    table = metrics_table(predictions(SIX), CLASSES, (1,))
    assert numbers(table, "fold 1")["accuracy", ""]["value"] == pytest.approx(2 / 3)
    assert numbers(table, "fold 2")["accuracy", ""]["value"] == pytest.approx(1 / 3)
    assert numbers(table, "without tuning folds") == {
        k: v | {"subset": "without tuning folds"} for k, v in numbers(table, "fold 2").items()
    }
    assert numbers(metrics_table(predictions(SIX), CLASSES, ()), "without tuning folds") == {}
    only_tuned = numbers(metrics_table(predictions(SIX), CLASSES, (1, 2)), "without tuning folds")
    different = {"accuracy_answered": "nothing was answered", "scorings_agree": "asked in one way only"}
    whole = {name for name, label in only_tuned if not label}
    for name in whole:
        row = only_tuned[name, ""]
        assert (row["value"], row["reason"], row["predictions"]) == (None, different.get(name, "no predictions"), 0), (
            name
        )


def test_repeated_clips_are_counted_once_as_clips_and_each_time_as_predictions():
    trials = [predictions(SIX, trial=t) for t in range(3)]
    row = numbers(metrics_table(pa.concat_tables(trials), CLASSES, ()))["accuracy", ""]
    assert (row["predictions"], row["clips"], row["value"]) == (18, 6, 0.5)


def test_both_ways_to_ask_a_language_model_are_held_against_each_other():
    asked = [(1, "a", "a", None), (1, "a", "b", None), (2, "b", "b", None), (2, "b", "c", None)]
    said = [(1, "a", "a", None), (1, "a", "unparseable", None), (2, "b", "a", None)]
    table = pa.concat_tables([predictions(asked, scoring="likelihood"), predictions(said, scoring="generation")])
    rows = metrics_table(table, CLASSES, ()).to_pylist()
    got = {(r["scoring"], r["subset"]): r for r in rows if r["metric"] == "scorings_agree"}
    # of the three clips both were asked about, one has the same label twice; what was not parsed agrees with nothing
    for scoring in ("likelihood", "generation"):
        row = got[scoring, "all"]
        assert (row["value"], row["predictions"], row["reason"]) == (pytest.approx(1 / 3), 3, None)
        assert [got[scoring, f"fold {f}"]["value"] for f in (1, 2)] == [0.5, 0.0]


def test_the_temperature_of_a_fold_stands_in_its_own_subset():
    rng = np.random.default_rng(5)
    drawn = rng.dirichlet(np.ones(4), 60)
    true = [CLASSES[rng.choice(4, p=p)] for p in drawn]
    rows = [
        (1 + i % 3, t, CLASSES[p.argmax()], (p**2 / (p**2).sum()).tolist())
        for i, (t, p) in enumerate(zip(true, drawn, strict=True))
    ]
    table = metrics_table(predictions(rows), CLASSES, (1,))
    each = [numbers(table, f"fold {f}")["temperature", ""] for f in (1, 2, 3)]
    assert all(0.5 < row["value"] < 8 for row in each), "scores were squared: about 2 mends them"
    for subset in ("all", "without tuning folds"):
        row = numbers(table, subset)["temperature", ""]
        assert (row["value"], row["reason"]) == (None, "each fold has its own")
    whole = numbers(table)
    assert whole["log_loss_temperature", ""]["value"] < whole["log_loss", ""]["value"]
    alone = numbers(metrics_table(predictions([r for r in rows if r[0] == 1]), CLASSES, ()))
    for name in ("temperature", "ece_temperature", "brier_temperature"):
        assert alone[name, ""]["value"] is None
        assert alone[name, ""]["reason"].startswith("no temperature: there are no other folds"), name


def test_scorings_and_controls_are_apart():
    blank = predictions([(1, "a", "b", None)], control="blank", scoring="generation")
    rows = metrics_table(pa.concat_tables([predictions(SIX), blank]), CLASSES, ()).to_pylist()
    got = {(r["scoring"], r["control"]): r["value"] for r in rows if (r["metric"], r["subset"]) == ("accuracy", "all")}
    assert got == {("score", "none"): 0.5, ("generation", "blank"): 0.0}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from([*CLASSES, "unparseable"])), min_size=1, max_size=40)
)
def test_equal_to_scikit_learn(pairs):
    got = numbers(metrics_table(predictions([(1, t, p, None) for t, p in pairs]), CLASSES, ()))
    true, called = map(list, zip(*pairs, strict=True))
    present = sorted(set(true))
    options = {"labels": list(CLASSES), "average": None, "zero_division": np.nan}
    theirs = {
        "precision": sk.precision_score(true, called, **options),
        "recall": sk.recall_score(true, called, **options),
        "f1": sk.f1_score(true, called, **options),
    }
    for name, values in theirs.items():
        ours = [got[name, c]["value"] for c in CLASSES]
        assert [np.nan if v is None else v for v in ours] == pytest.approx(list(values), nan_ok=True), name
        assert [got[name, c]["reason"] is None for c in CLASSES] == [v is not None for v in ours]
    macro = {"labels": present, "average": "macro", "zero_division": 0}
    assert got["accuracy", ""]["value"] == pytest.approx(sk.accuracy_score(true, called))
    assert got["macro_f1", ""]["value"] == pytest.approx(sk.f1_score(true, called, **macro))
    assert got["macro_precision", ""]["value"] == pytest.approx(sk.precision_score(true, called, **macro))
    assert got["balanced_accuracy", ""]["value"] == pytest.approx(sk.recall_score(true, called, **macro))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_top3_is_scikit_learns_where_nothing_ties(seed, n):
    rng = np.random.default_rng(seed)
    scores, true = rng.random((n, 4)), rng.integers(0, 4, n)
    rows = [(1, CLASSES[t], CLASSES[s.argmax()], s.tolist()) for t, s in zip(true, scores, strict=True)]
    got = numbers(metrics_table(predictions(rows), CLASSES, ()))["top3", ""]["value"]
    assert got == pytest.approx(sk.top_k_accuracy_score(true, scores, k=3, labels=range(4)))


def test_top3_with_ties_with_failures_and_with_few_classes():
    rows = [
        (1, "d", "a", [1.0, 0.0, 0.0, 0.0]),  # two of the three tied classes fill the two places left: 2 / 3
        (1, "b", "a", [0.25, 0.25, 0.25, 0.25]),  # three of four: 3 / 4
        (1, "a", "error", None),  # no scores: a miss
    ]
    got = numbers(metrics_table(predictions(rows), CLASSES, ()))["top3", ""]
    assert (got["value"], got["predictions"]) == (pytest.approx((2 / 3 + 3 / 4 + 0) / 3), 3)
    few = numbers(metrics_table(predictions(rows[1:]), ("a", "b", "c"), ()))["top3", ""]
    assert (few["value"], few["reason"]) == (None, "three classes or fewer")


def test_confusion():
    table = TABLES["confusion"].conform(confusion_table(predictions(SIX), CLASSES), study="s", classifier="p")
    counts = {(r["label"], r["predicted"]): r["count"] for r in table.to_pylist()}
    true, called = [r[1] for r in SIX[:4]], [r[2] for r in SIX[:4]]
    matrix = sk.confusion_matrix(true, called, labels=CLASSES)
    assert {k: v for k, v in counts.items() if k[1] in CLASSES} == {
        (t, p): matrix[i, j] for i, t in enumerate(CLASSES) for j, p in enumerate(CLASSES)
    }
    assert counts["c", "(unparseable)"] == counts["c", "(refused)"] == 1
    assert sum(counts.values()) == 6


def test_no_predictions_give_empty_tables():
    empty = TABLES["predictions"].empty()
    for name, table in (("metrics", metrics_table(empty, CLASSES, ())), ("confusion", confusion_table(empty, CLASSES))):
        assert TABLES[name].conform(table, study="s", classifier="p").num_rows == 0


def board(table, classes):
    clips = [Clip(f"clip {i}", "a", 1, "s", "f") for i in range(2)]
    options = {"clips": clips, "rejected_clips": 0, "tuning_folds": (), "limited": False}
    return leaderboard_table([Entry("p", "probe", table, (1,))], classes=classes, **options)


@pytest.mark.parametrize(
    "count", [lambda t, c: metrics_table(t, c, ()), confusion_table, board], ids=["metrics", "confusion", "leaderboard"]
)
@pytest.mark.parametrize(
    ("rows", "unknown"),
    [
        ([(1, "a", "b", [0.1, 0.2, 0.3, 0.4]), (1, "d", "c", [0.1, 0.2, 0.3, 0.4])], "c, d"),
        ([(1, "a", "c", None), (1, "b", "refused", None)], "c"),
    ],
    ids=["true", "predicted"],
)
def test_labels_that_are_no_classes_of_the_study_are_refused(count, rows, unknown):
    with pytest.raises(VlmAudioError) as caught:
        count(predictions(rows), ("a", "b"))
    assert str(caught.value) == (
        f"labels of predictions must be classes of the study (a, b), got {unknown}; run the study again"
    )
