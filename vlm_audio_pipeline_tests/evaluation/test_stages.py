import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.evaluation.stages import leaderboard_stage, metrics_stage
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import clips_table, esc10, needs_esc10, run, toy
from vlm_audio_pipeline_tests.evaluation.test_metrics import predictions


def run_stage(stage, data, inputs):
    assert set(inputs) <= {i.key for i in stage.inputs} | {"clips:rejected_clips"}
    made = stage.run(StageContext("s", "p", None, data.classes, inputs, data, rows=None))
    assert set(made) == set(stage.tables) and not stage.per_fold
    return {name: TABLES[name].conform(t, study="s", classifier="p", fold=None) for name, t in made.items()}


def ranked(made):
    """Give the rows of classifiers."""
    return [row for row in made["leaderboard"].to_pylist() if row["kind"] != "reference"]


def test_metrics_of_the_folds_that_exist():
    data, _, _ = toy(n_folds=3)
    stage = metrics_stage("p", (1, 2, 3), tuning_folds=(1, 9))
    assert stage.parameters == {"tuning_folds": [1]}, "a fold the dataset does not have changes nothing"
    table = predictions([(1, "a", "a", None), (2, "a", "b", None)])
    rows = run_stage(stage, data, {"predictions/p": table})["metrics"].to_pylist()
    accuracy = {r["subset"]: r["value"] for r in rows if r["metric"] == "accuracy"}
    assert accuracy == {"all": 0.5, "fold 1": 1.0, "fold 2": 0.0, "without tuning folds": 0.0}


def test_metrics_without_any_predictions_are_empty_tables():
    data, _, _ = toy()
    made = run_stage(metrics_stage("p", data.folds, ()), data, {})
    assert {name: t.num_rows for name, t in made.items()} == {"metrics": 0, "confusion": 0, "reliability": 0}


def test_leaderboard_takes_what_exists_and_says_what_was_not_run():
    data, clips, _ = toy(n_folds=2, per_class=1, classes=("a", "b"))  # 4 clips
    asked = []

    def unavailable():
        asked.append(1)
        return "weights of X missing"

    classifiers = {"p": ("probe", (1, 2), lambda: None), "x": ("zero_shot", (1, 2), unavailable)}
    stage = leaderboard_stage(classifiers, tuning_folds=(2,), limited=False)
    assert not asked, "nothing is asked before the stage runs"
    table = predictions([(1, "a", "a", None), (1, "b", "a", None), (2, "a", "a", None)])
    rejected = TABLES["rejected_clips"].conform(
        pa.table({"clip": ["2-b-00"], "label": ["b"], "file": ["f"], "reason": ["silent"]}), study="s", fold=2
    )
    inputs = {"clips": clips.slice(0, 3), "clips:rejected_clips": rejected, "predictions/p": table}
    got = {r["classifier"]: r for r in run_stage(stage, data, inputs)["leaderboard"].to_pylist()}
    # 4 listed, 1 rejected: 3 clips; 2 of 3 right; 1 of 2 in the fold nothing was tuned on
    assert (got["p"]["rank"], got["p"]["of_clips"], got["p"]["rejected_clips"]) == (1, 3, 1)
    assert (got["p"]["accuracy"], got["p"]["accuracy_without_tuning_folds"]) == (2 / 3, 1 / 2)
    assert got["x"]["note"] == "not run: weights of X missing, 1 recording rejected"


def test_a_tuning_fold_the_dataset_does_not_have_gives_no_untuned_accuracy():
    data, clips, _ = toy(n_folds=2, per_class=1, classes=("a", "b"))
    table = predictions([(1, "a", "a", None), (1, "b", "b", None), (2, "a", "a", None), (2, "b", "a", None)])
    # by hand: 3 of 4 right, 1 of 2 in fold 2
    for tuned, expected in (((9,), None), ((1,), 1 / 2), ((1, 9), 1 / 2)):
        stage = leaderboard_stage({"p": ("probe", (1, 2), lambda: None)}, tuned, limited=False)
        [row] = ranked(run_stage(stage, data, {"clips": clips, "predictions/p": table}))
        assert (row["accuracy"], row["accuracy_without_tuning_folds"]) == (3 / 4, expected), tuned


def test_one_made_fold_is_not_every_clip_even_where_the_other_folds_have_no_clips_table_yet():
    data, clips, _ = toy(n_folds=2, per_class=1, classes=("a", "b"))
    stage = leaderboard_stage({"p": ("probe", (1,), lambda: None)}, (), limited=False)
    table = predictions([(1, "a", "a", None), (1, "b", "b", None)])
    [row] = ranked(run_stage(stage, data, {"clips": clips.slice(0, 2), "predictions/p": table}))
    assert (row["rank"], row["of_clips"], row["partial"]) == (None, 4, False)
    assert row["note"] == "2 of 2 predictions, 2 of 4 clips"


def test_what_can_change_the_board_is_in_its_parameters():
    def parameters(kind="probe", wanted=(1, 2), tuned=(), limited=False):
        return leaderboard_stage({"p": (kind, wanted, lambda: None)}, tuned, limited).parameters

    others = [parameters(kind="knn"), parameters(wanted=(1,)), parameters(tuned=(1,)), parameters(limited=True)]
    assert parameters() not in others


@needs_esc10
def test_the_listeners_of_esc10_keep_their_denominators():
    from vlm_audio_pipeline.classifiers.human import Human

    data = esc10()
    clips = clips_table(data.clips)
    judged = run(Human(source="esc10_listeners"), "listeners", data, {"clips": clips})
    stage = leaderboard_stage({"listeners": ("human", data.folds, lambda: None)}, (), limited=False)
    [row] = ranked(run_stage(stage, data, {"clips": clips, "predictions/listeners": judged}))
    assert row["note"] == "4487 of 4687 judgements, 321 of 400 clips"
    assert (row["rank"], row["trials"], row["accuracy"]) == (None, 135, 4487 / 4687)
