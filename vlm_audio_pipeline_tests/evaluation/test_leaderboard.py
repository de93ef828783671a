import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.leaderboard import Entry, leaderboard_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.evaluation.test_metrics import CLASSES, predictions


def rows(right, wrong, fold=1):
    return [(fold, "a", "a", None)] * right + [(fold, "a", "b", None)] * wrong


LISTED = [Clip(f"clip {i}", "a", 1, f"source {i}", "f") for i in range(4)]


def all_rows(*entries, **given):
    options = {"clips": LISTED, "rejected_clips": 0, "classes": CLASSES, "tuning_folds": (), "limited": False, **given}
    table = leaderboard_table(entries, **options)
    conformed = TABLES["leaderboard"].conform(table, study="s")
    assert conformed.num_rows == table.num_rows
    return table.to_pylist()


def board(*entries, **given):
    return [row for row in all_rows(*entries, **given) if row["kind"] != "reference"]


def test_ranks_are_shared_by_equals_and_the_best_comes_first():
    entries = [
        Entry("worst", "knn", predictions(rows(1, 3)), (1,)),
        Entry("good", "probe", predictions(rows(3, 1)), (1,)),
        # 6 of 8 over two trials is as good as 3 of 4
        Entry("equal", "probe", pa.concat_tables([predictions(rows(3, 1), trial=t) for t in (0, 1)]), (1,)),
    ]
    got = board(*entries)
    assert [(r["rank"], r["classifier"]) for r in got] == [(1, "equal"), (1, "good"), (3, "worst")]
    assert (got[0]["trials"], got[0]["predictions"], got[0]["correct"], got[0]["clips"]) == (2, 8, 6, 4)
    assert got[1]["note"] == "3 of 4 predictions"


def test_what_is_not_comparable_is_not_ranked():
    entries = [
        Entry("few", "human", predictions(rows(2, 0), scoring="judgement", reader="reader 1"), (1,)),
        Entry("missing", "probe", predictions(rows(4, 0)), (1, 2), "weights of X missing"),
        Entry("control", "language_model", predictions(rows(4, 0), control="blank"), (1,)),
        Entry("ranked", "probe", predictions(rows(0, 4)), (1,)),
    ]
    got = {r["classifier"]: r for r in board(*entries)}
    assert {n: r["rank"] for n, r in got.items()} == {"few": None, "missing": None, "control": None, "ranked": 1}
    assert {n: r["partial"] for n, r in got.items()} == {
        "few": False,
        "missing": True,
        "control": False,
        "ranked": False,
    }
    assert got["few"]["note"] == "2 of 2 judgements, 2 of 4 clips"
    assert got["missing"]["note"] == "4 of 4 predictions, folds 1 of 1,2, the others not run: weights of X missing"
    limited = board(entries[3], limited=True)[0]
    assert (limited["rank"], limited["partial"], limited["note"]) == (None, True, "0 of 4 predictions, limited run")


def judgements(*times):
    """Give judgements, all right, of clips 0, 1, ...: so many of each."""
    return pa.concat_tables(
        [
            predictions(rows(sum(n > t for n in times), 0), scoring="judgement", trial=t, reader=f"reader {t}")
            for t in range(max(times))
        ]
    )


def test_clips_judged_more_often_than_others_leave_a_row_without_rank():
    got = board(
        Entry("listeners", "human", judgements(77, 2, 1, 1), (1,)),  # clip 0 alone is 77 of the 81
        Entry("panel", "human", judgements(3, 3, 3, 3), (1,)),
        Entry("once", "probe", predictions(rows(3, 1)), (1,)),
    )
    assert [(r["classifier"], r["rank"]) for r in got] == [("panel", 1), ("once", 2), ("listeners", None)]
    assert got[2]["note"] == "81 of 81 judgements, not ranked: clips were judged 1 to 77 times"
    assert (got[2]["accuracy"], got[2]["clips"], got[2]["partial"]) == (1.0, 4, False)


def test_a_pass_that_is_not_whole_leaves_a_row_without_rank():
    twice = pa.concat_tables([predictions(rows(4, 0)), predictions(rows(3, 0), trial=1)])
    [row] = board(Entry("p", "language_model", twice, (1,)))
    assert (row["rank"], row["note"]) == (
        None,
        "7 of 7 predictions, not ranked: clips were predicted 1 to 2 times",
    )


def test_what_was_not_run_says_why_and_has_no_number():
    empty = TABLES["predictions"].empty()
    got = board(
        Entry("absent", "zero_shot", None, (1,), "weights of X missing"),
        Entry("later", "probe", empty, (1,)),
        Entry("run", "probe", predictions(rows(0, 4)), (1,)),
        rejected_clips=2,
    )
    assert [r["classifier"] for r in got] == ["run", "absent", "later"], "0 % is a number and comes first"
    assert got[0]["note"] == "0 of 4 predictions, 2 recordings rejected"
    absent = got[1]
    assert absent["note"] == "not run: weights of X missing, 2 recordings rejected"
    assert got[2]["note"] == "not run: no predictions with today's settings yet, 2 recordings rejected"
    numbers = ("accuracy", "accuracy_answered", "accuracy_without_tuning_folds", "macro_f1", "rank")
    assert [absent[n] for n in numbers] == [None] * 5
    assert (absent["predictions"], absent["clips"], absent["scoring"]) == (0, 0, "")


def test_numbers_of_a_row():
    table = predictions(
        [(1, "a", "a", None), (1, "b", "unparseable", None), (2, "a", "a", None), (2, "b", "a", None)],
        model="m",
        training_clips=7,
    )
    [row] = board(Entry("p", "language_model", table, (1, 2)), tuning_folds=(1,), rejected_clips=1)
    # F1 of a: 4 / (4 + 1 + 0) = 0.8; of b: 0
    assert (row["accuracy"], row["accuracy_answered"], row["macro_f1"]) == pytest.approx((2 / 4, 2 / 3, 0.4))
    assert row["accuracy_without_tuning_folds"] == 1 / 2
    assert (row["answered"], row["folds"], row["model"], row["training_clips"]) == (3, "1,2", "m", 7)
    assert row["note"] == "2 of 4 predictions, 2 of 3 answered, 1 unparseable, 1 recording rejected"
    assert row["rank"] == 1


def test_readers_are_counted_not_their_trials():
    readers = [
        predictions(rows(4, 0), scoring="judgement", trial=t, reader=r) for t, r in ((0, "x"), (1, "y"), (2, "x"))
    ]
    [row] = board(Entry("h", "human", pa.concat_tables(readers), (1,)))
    assert (row["trials"], row["note"]) == (2, "12 of 12 judgements")


def test_more_clips_than_the_dataset_has_are_refused():
    with pytest.raises(VlmAudioError) as caught:
        board(Entry("p", "probe", predictions(rows(5, 0)), (1,)))
    assert str(caught.value) == (
        "predictions of 'p' must be of the 4 clips of the dataset, got 5 clips; run the study again"
    )


def test_chance_and_majority_are_always_there_and_never_ranked():
    # fold 1: a a b, fold 2: a b c. Fold 1 by the others: a, b and c are as frequent, so 1 / 3 each: a a b -> 3 x 1/3.
    # Fold 2 by the others: a twice, b once: a -> 1, b and c -> 0. Together 2 of 6; fold 2 alone 1 of 3.
    listed = [
        Clip(f"{f} {i}", label, f, f"{f} {i}", "f")
        for f, text in ((1, "aab"), (2, "abc"))
        for i, label in enumerate(text)
    ]
    got = {row["classifier"]: row for row in all_rows(clips=listed, tuning_folds=(1,))}
    assert set(got) == {"chance", "majority"}
    assert {(r["kind"], r["rank"], r["control"], r["scoring"], r["correct"]) for r in got.values()} == {
        ("reference", None, "none", "", None)
    }
    assert got["chance"]["accuracy"] == got["chance"]["accuracy_without_tuning_folds"] == pytest.approx(1 / 4)
    assert got["majority"]["accuracy"] == pytest.approx(2 / 6)
    assert got["majority"]["accuracy_without_tuning_folds"] == pytest.approx(1 / 3)
    assert (got["chance"]["note"], got["chance"]["clips"]) == ("expected of a guess among 4 classes", 6)
    alone = {row["classifier"]: row for row in all_rows()}["majority"]
    assert (alone["accuracy"], alone["note"]) == (None, "not known: there are no other folds")
    assert alone["accuracy_low"] is None and alone["interval"] is None


def test_the_baseline_of_a_few_shot_model_is_never_ranked():
    table = pa.concat_tables([predictions(rows(2, 2), scoring=s) for s in ("likelihood", "examples_knn")])
    got = {row["scoring"]: row for row in board(Entry("few", "language_model", table, (1,)))}
    assert (got["likelihood"]["rank"], got["examples_knn"]["rank"]) == (1, None)
    assert got["examples_knn"]["note"] == "2 of 4 predictions, baseline: k-NN over the examples shown"


def test_intervals_spread_and_outlay():
    given = {"tokens": 10, "usd": 0.5, "seconds": 2.0}
    trials = [predictions(rows(right, 4 - right), trial=t, **given) for t, right in ((0, 3), (1, 1))]
    [row] = board(Entry("p", "language_model", pa.concat_tables(trials), (1,)))
    # one source: n = 1 at worst, so Wilson's is nearly everything
    assert row["interval"] == "Wilson, effective n"
    assert 0.05 < row["accuracy_low"] < row["accuracy"] < row["accuracy_high"] < 0.95
    assert row["note"] == "4 of 8 predictions, standard deviation over trials 0.354"
    assert row["trial_sd"] == pytest.approx(8**-0.5)  # of 0.75 and 0.25: sqrt((0.25^2 + 0.25^2) / 1)
    assert (row["tokens"], row["usd"], row["usd_per_correct"], row["seconds"]) == (80, 4.0, 1.0, 2.0)
