from dataclasses import replace

import pyarrow as pa
import pytest

from vlm_audio_pipeline.classifiers.base import Sample
from vlm_audio_pipeline.cli.display import show_run
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.stages import contrasts_stage, leaderboard_stage, metrics_stage
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.partition_files import read_part
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study
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


def test_a_fold_too_small_for_its_share_of_a_sample_is_asked_whole():
    """Of folds of 2 and 8 clips a sample of 8 asks 2 and 4: a fold cannot lend its share to another."""
    data, clips, _ = toy(n_folds=2, per_class=4, classes=("a", "b"))  # 8 clips a fold
    small = pa.concat_tables([clips.slice(0, 2), clips.slice(8)])
    classifiers = {"p": ("language_model", (1, 2), lambda: None)}
    stage = leaderboard_stage(classifiers, (), limited=False, passes={"p": (1, Sample(clips=8))})
    data = replace(data, clips=tuple(c for c in data.clips if c.id in set(small["clip"].to_pylist())))
    table = predictions([(1, "a", "a", None)] * 2 + [(2, "a", "a", None)] * 4)
    [row] = ranked(run_stage(stage, data, {"clips": small, "predictions/p": table}))
    assert (row["partial"], row["predictions"]) == (False, 6)
    assert "not got to" not in row["note"]


def test_what_can_change_the_board_is_in_its_parameters():
    def parameters(kind="probe", wanted=(1, 2), tuned=(), limited=False):
        return leaderboard_stage({"p": (kind, wanted, lambda: None)}, tuned, limited).parameters

    others = [parameters(kind="knn"), parameters(wanted=(1,)), parameters(tuned=(1,)), parameters(limited=True)]
    assert parameters() not in others


def asked(*names):
    """Give classifiers of which none can run now."""
    return {name: ("probe", (1, 2), lambda name=name: f"weights of {name} missing") for name in names}


def test_contrasts_read_what_they_mention_and_say_what_is_missing():
    data, clips, _ = toy(n_folds=2, per_class=1, classes=("a", "b"))
    declared = [Contrast(classifier="p", against=("chance", "majority", "x", "z"), folds="without_tuning")]
    stage = contrasts_stage(declared, asked("p", "x", "y"), (1, 2), tuning_folds=(2, 9))
    assert [i.key for i in stage.inputs] == ["clips", "predictions/p", "predictions/x"]
    assert all(i.optional and i.folds == "all" for i in stage.inputs)
    table = predictions([(1, "a", "a", None), (1, "b", "b", None), (2, "a", "b", None), (2, "b", "a", None)])
    listed = {c.id: c for c in data.clips}
    ids = pa.array(sorted(listed))
    table = table.set_column(table.schema.get_field_index("clip"), table.schema.field("clip"), ids)
    rejected = TABLES["rejected_clips"].conform(
        pa.table({"clip": ["1-b-00"], "label": ["b"], "file": ["f"], "reason": ["silent"]}), study="s", fold=1
    )
    inputs = {"clips": clips, "clips:rejected_clips": rejected, "predictions/p": table}
    rows = run_stage(stage, data, inputs)["contrasts"].to_pylist()
    got = {r["against"]: r for r in rows}
    # fold 1 alone, both right there; chance has one usable clip in it, for the other was rejected since
    assert (got["chance"]["clips"], got["chance"]["accuracy"], got["chance"]["against_accuracy"]) == (1, 1.0, 0.5)
    assert got["majority"]["against_accuracy"] == 0.5, "in fold 2 both classes are as frequent"
    assert got["x"]["reason"] == "x was not run: weights of x missing"
    assert got["z"]["reason"] == "z was not run: the study has no such classifier"


def test_what_can_change_contrasts_is_in_their_parameters():
    def parameters(against=("chance",), names=("p", "x"), tuned=(), **given):
        declared = [Contrast(classifier="p", against=against, **given)]
        return contrasts_stage(declared, asked(*names), (1, 2), tuned).parameters

    same = parameters(names=("p", "x", "y"), tuned=(9,))
    assert parameters() == same, "who is not mentioned and folds the dataset has not change nothing"
    others = [parameters(against=("x",)), parameters(tuned=(1,)), parameters(scoring="generation")]
    assert parameters() not in [*others, parameters(folds="without_tuning")]


@pytest.mark.slow
def test_probe_against_knn_on_the_real_recordings(esc10_dir, layout):
    graph = Graph(load_study("baselines"), layout)
    names = ("classical_probe", "classical_knn", "listeners")
    assert show_run(graph, [f"predictions/{name}" for name in names]) == 0
    clips = query(layout, "SELECT * EXCLUDE (study) FROM clips").to_pylist()
    folds_of = {}
    for clip in clips:
        folds_of.setdefault(clip["source"], set()).add(clip["fold"])
    assert (len(clips), len(folds_of)) == (400, 304)
    assert not [source for source, folds in folds_of.items() if len(folds) > 1], "no source in two folds"

    declared = [
        Contrast(classifier="classical_probe", against=("classical_knn", "chance", "majority", "listeners")),
    ]
    stage = contrasts_stage(declared, asked(*names), graph.folds, ())
    inputs = {f"predictions/{n}": query_predictions(layout, n) for n in names}
    rows = run_stage(stage, graph.dataset(), inputs)["contrasts"].to_pylist()
    for row in rows:
        print(row["statement"])  # noqa: T201
    knn, chance, majority, people = rows
    assert (knn["clips"], knn["sources"], knn["p_method"]) == (400, 304, "exact")
    assert 0.80 <= knn["accuracy"] <= 0.87 and knn["accuracy"] > knn["against_accuracy"]
    # clips discordant either way give the difference, and independent clips a smaller standard error
    b, c = knn["only_classifier"], knn["only_against"]
    assert knn["difference"] == pytest.approx((b - c) / 400)
    assert knn["low"] < knn["difference"] < knn["high"]
    by_clip = ((b + c) / 400 - ((b - c) / 400) ** 2) ** 0.5 / 20
    assert 1.0 < (knn["high"] - knn["low"]) / (2 * 1.96 * by_clip) < 1.4
    assert knn["verdict"] == chance["verdict"] == majority["verdict"] == "better"
    assert (chance["against_accuracy"], majority["against_accuracy"]) == (pytest.approx(0.1), pytest.approx(0.1))
    # facts of the sheet: 321 clips, mean of clips 0.955
    assert (people["clips"], people["verdict"]) == (321, "worse")
    assert people["against_accuracy"] == pytest.approx(0.955, abs=5e-4)


def query_predictions(layout, name):
    parts = sorted((layout.tables / "predictions").rglob("*.parquet"))
    tables = [read_part(p, TABLES["predictions"])[0] for p in parts]
    return pa.concat_tables([t for t in tables if t["classifier"][0].as_py() == name])


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
