import pyarrow as pa
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.leaderboard import LeaderboardEntry, leaderboard_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.measures.prediction_tables import CLASSES, predictions_table


def fold_rows(correct, wrong, fold=1):
    return [(fold, "a", "a", None)] * correct + [(fold, "a", "b", None)] * wrong


CLIPS = [Clip(f"clip {i}", "a", 1, f"source {i}", "f") for i in range(4)]


def all_rows(*entries, **changes):
    options = {
        "clips": CLIPS,
        "rejected_clips": 0,
        "classes": CLASSES,
        "tuning_folds": (),
        "limited": False,
        **changes,
    }
    table = leaderboard_table(entries, **options)
    conformed = TABLES["leaderboard"].conform(table, study="s")
    assert conformed.num_rows == table.num_rows
    return table.to_pylist()


def board(*entries, **changes):
    return [row for row in all_rows(*entries, **changes) if row["kind"] != "reference"]


def test_equal_results_share_a_rank_and_the_best_is_first():
    entries = [
        LeaderboardEntry("worst", "knn", predictions_table(fold_rows(1, 3)), (1,)),
        LeaderboardEntry("good", "probe", predictions_table(fold_rows(3, 1)), (1,)),
        # 6 of 8 over two trials is as good as 3 of 4
        LeaderboardEntry(
            "equal", "probe", pa.concat_tables([predictions_table(fold_rows(3, 1), trial=t) for t in (0, 1)]), (1,)
        ),
    ]
    board_rows = board(*entries)
    assert [(r["rank"], r["classifier"]) for r in board_rows] == [(1, "equal"), (1, "good"), (3, "worst")]
    assert (
        board_rows[0]["trials"],
        board_rows[0]["predictions"],
        board_rows[0]["correct"],
        board_rows[0]["clips"],
    ) == (2, 8, 6, 4)
    assert board_rows[1]["note"] == "3 of 4 predictions correct"


def test_rows_that_are_not_comparable_are_not_ranked():
    entries = [
        LeaderboardEntry(
            "few",
            "annotations",
            predictions_table(fold_rows(2, 0), scoring="annotation", annotator="annotator 1"),
            (1,),
        ),
        LeaderboardEntry("missing", "probe", predictions_table(fold_rows(4, 0)), (1, 2), "weights of X missing"),
        LeaderboardEntry("control", "language_model", predictions_table(fold_rows(4, 0), control="blank"), (1,)),
        LeaderboardEntry("ranked", "probe", predictions_table(fold_rows(0, 4)), (1,)),
    ]
    board_rows = {r["classifier"]: r for r in board(*entries)}
    assert {n: r["rank"] for n, r in board_rows.items()} == {
        "few": None,
        "missing": None,
        "control": None,
        "ranked": 1,
    }
    assert {n: r["partial"] for n, r in board_rows.items()} == {
        "few": False,
        "missing": True,
        "control": False,
        "ranked": False,
    }
    assert board_rows["few"]["note"] == "2 of 2 annotations correct, 2 of 4 clips"
    assert (
        board_rows["missing"]["note"]
        == "4 of 4 predictions correct, folds 1 of 1,2, other folds not run: weights of X missing"
    )
    limited = board(entries[3], limited=True)[0]
    assert (limited["rank"], limited["partial"], limited["note"]) == (
        None,
        True,
        "0 of 4 predictions correct, limited run",
    )


def annotations(*times):
    """Return annotations, all correct, of clips 0, 1, ...; `times` has their number for each clip."""
    return pa.concat_tables(
        [
            predictions_table(
                fold_rows(sum(n > t for n in times), 0), scoring="annotation", trial=t, annotator=f"annotator {t}"
            )
            for t in range(max(times))
        ]
    )


def test_a_row_is_not_ranked_if_some_clips_were_annotated_more_often():
    board_rows = board(
        LeaderboardEntry("annotators", "annotations", annotations(77, 2, 1, 1), (1,)),  # clip 0 alone is 77 of the 81
        LeaderboardEntry("panel", "annotations", annotations(3, 3, 3, 3), (1,)),
        LeaderboardEntry("once", "probe", predictions_table(fold_rows(3, 1)), (1,)),
    )
    assert [(r["classifier"], r["rank"]) for r in board_rows] == [("panel", 1), ("once", 2), ("annotators", None)]
    assert board_rows[2]["note"] == "81 of 81 annotations correct, not ranked: clips were annotated 1 to 77 times"
    assert (board_rows[2]["accuracy"], board_rows[2]["clips"], board_rows[2]["partial"]) == (1.0, 4, False)


def test_a_row_with_an_incomplete_trial_is_not_ranked():
    twice = pa.concat_tables([predictions_table(fold_rows(4, 0)), predictions_table(fold_rows(3, 0), trial=1)])
    [row] = board(LeaderboardEntry("p", "language_model", twice, (1,)))
    assert (row["rank"], row["note"]) == (
        None,
        "7 of 7 predictions correct, not ranked: clips were predicted 1 to 2 times",
    )


def test_a_classifier_that_was_not_run_has_a_reason_and_no_number():
    empty = TABLES["predictions"].empty_table()
    board_rows = board(
        LeaderboardEntry("absent", "zero_shot", None, (1,), "weights of X missing"),
        LeaderboardEntry("later", "probe", empty, (1,)),
        LeaderboardEntry("run", "probe", predictions_table(fold_rows(0, 4)), (1,)),
        rejected_clips=2,
    )
    assert [r["classifier"] for r in board_rows] == ["run", "absent", "later"], "0 % is a number and comes first"
    assert board_rows[0]["note"] == "0 of 4 predictions correct, 2 recordings rejected"
    absent = board_rows[1]
    assert absent["note"] == "not run: weights of X missing, 2 recordings rejected"
    assert board_rows[2]["note"] == "not run: no predictions with the current settings yet, 2 recordings rejected"
    numbers = ("accuracy", "accuracy_answered", "accuracy_without_tuning_folds", "macro_f1", "rank")
    assert [absent[n] for n in numbers] == [None] * 5
    assert (absent["predictions"], absent["clips"], absent["scoring"]) == (0, 0, "")


def test_the_numbers_of_a_row_by_hand():
    table = predictions_table(
        [(1, "a", "a", None), (1, "b", "unparseable", None), (2, "a", "a", None), (2, "b", "a", None)],
        model="m",
        training_clips=7,
    )
    [row] = board(LeaderboardEntry("p", "language_model", table, (1, 2)), tuning_folds=(1,), rejected_clips=1)
    # F1 of a: 4 / (4 + 1 + 0) = 0.8; of b: 0
    assert (row["accuracy"], row["accuracy_answered"], row["macro_f1"]) == pytest.approx((2 / 4, 2 / 3, 0.4))
    assert row["accuracy_without_tuning_folds"] == 1 / 2
    assert (row["answered"], row["folds"], row["model"], row["training_clips"]) == (3, "1,2", "m", 7)
    assert row["note"] == "2 of 4 predictions correct, 2 of 3 answered, 1 unparseable, 1 recording rejected"
    assert row["rank"] == 1


def test_the_number_of_trials_of_annotations_is_the_number_of_annotators():
    annotators = [
        predictions_table(fold_rows(4, 0), scoring="annotation", trial=t, annotator=r)
        for t, r in ((0, "x"), (1, "y"), (2, "x"))
    ]
    [row] = board(LeaderboardEntry("h", "annotations", pa.concat_tables(annotators), (1,)))
    assert (row["trials"], row["note"]) == (2, "12 of 12 annotations correct")


def test_predictions_of_more_clips_than_the_dataset_has_are_refused():
    with pytest.raises(VlmAudioError) as caught:
        board(LeaderboardEntry("p", "probe", predictions_table(fold_rows(5, 0)), (1,)))
    assert str(caught.value) == ("'p' has predictions for 5 clips, but the dataset has only 4; run the study again")


def test_chance_and_majority_have_rows_without_rank():
    # fold 1: a a b, fold 2: a b c. Fold 1 by the others: a, b and c are as frequent, so 1 / 3 each: a a b -> 3 x 1/3.
    # Fold 2 by the others: a twice, b once: a -> 1, b and c -> 0. Together 2 of 6; fold 2 alone 1 of 3.
    clips = [
        Clip(f"{f} {i}", label, f, f"{f} {i}", "f")
        for f, text in ((1, "aab"), (2, "abc"))
        for i, label in enumerate(text)
    ]
    board_rows = {row["classifier"]: row for row in all_rows(clips=clips, tuning_folds=(1,))}
    assert set(board_rows) == {"chance", "majority"}
    assert {(r["kind"], r["rank"], r["control"], r["scoring"], r["correct"]) for r in board_rows.values()} == {
        ("reference", None, "none", "", None)
    }
    assert (
        board_rows["chance"]["accuracy"]
        == board_rows["chance"]["accuracy_without_tuning_folds"]
        == pytest.approx(1 / 4)
    )
    assert board_rows["majority"]["accuracy"] == pytest.approx(2 / 6)
    assert board_rows["majority"]["accuracy_without_tuning_folds"] == pytest.approx(1 / 3)
    assert (board_rows["chance"]["note"], board_rows["chance"]["clips"]) == (
        "expected accuracy of a guess among 4 classes",
        6,
    )
    alone = {row["classifier"]: row for row in all_rows()}["majority"]
    assert (alone["accuracy"], alone["note"]) == (None, "undefined: there are no other folds")
    assert alone["accuracy_low"] is None and alone["interval"] is None


def test_the_baseline_of_a_few_shot_model_is_never_ranked():
    table = pa.concat_tables([predictions_table(fold_rows(2, 2), scoring=s) for s in ("likelihood", "examples_knn")])
    board_rows = {row["scoring"]: row for row in board(LeaderboardEntry("few", "language_model", table, (1,)))}
    assert (board_rows["likelihood"]["rank"], board_rows["examples_knn"]["rank"]) == (1, None)
    assert (
        board_rows["examples_knn"]["note"]
        == "2 of 4 predictions correct, k-NN over the examples in the prompt, without the model"
    )


def test_interval_standard_deviation_and_costs():
    changes = {"tokens": 10, "usd": 0.5, "seconds": 2.0}
    trials = [predictions_table(fold_rows(correct, 4 - correct), trial=t, **changes) for t, correct in ((0, 3), (1, 1))]
    [row] = board(LeaderboardEntry("p", "language_model", pa.concat_tables(trials), (1,)))
    # one source: n = 1 at worst, so Wilson's is nearly everything
    assert (row["interval"], row["interval_scope"]) == ("Wilson at n / design effect", "clips")
    assert 0.05 < row["accuracy_low"] < row["accuracy"] < row["accuracy_high"] < 0.95
    assert row["note"] == "4 of 8 predictions correct, standard deviation over trials 0.354"
    assert row["trial_sd"] == pytest.approx(8**-0.5)  # of 0.75 and 0.25: sqrt((0.25^2 + 0.25^2) / 1)
    assert (row["tokens"], row["usd"], row["usd_per_correct"], row["median_seconds"]) == (80, 4.0, 1.0, 2.0)


@pytest.mark.parametrize(
    ("selection", "draws", "scope", "note"),
    [
        ("medoid", 1, "clips, for these examples", "interval for these examples"),
        (
            "medoid",
            3,
            "clips, for these examples",
            "interval for these examples, 3 draws of medoid examples are ranks, not a sample: no spread",
        ),
        ("random", 2, "clips, for these examples", "standard deviation over trials 0.000, interval for these examples"),
        (
            "random",
            3,
            "clips and draws of examples",
            "standard deviation over trials 0.000, interval over clips and 3 random draws of examples",
        ),
    ],
)
def test_a_few_shot_row_says_what_its_interval_covers(selection, draws, scope, note):
    trials = [predictions_table(fold_rows(3, 1), trial=t, draw=t, selection=selection) for t in range(draws)]
    [row] = board(LeaderboardEntry("few", "language_model", pa.concat_tables(trials), (1,)))
    assert (row["interval_scope"], row["note"]) == (scope, f"{3 * draws} of {4 * draws} predictions correct, {note}")
    assert (row["trial_sd"] is None) == (selection == "medoid")
