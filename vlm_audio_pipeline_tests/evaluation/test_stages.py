from dataclasses import replace

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClipSample
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan, contrasts_stage, leaderboard_stage, metrics_stage
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import (
    clips_table,
    esc10_dataset,
    gaussian_blobs,
    needs_esc10,
    predict_all_folds,
)
from vlm_audio_pipeline_tests.measures.prediction_tables import predictions_table


def run_stage(stage, data, inputs):
    assert set(inputs) <= {i.key for i in stage.inputs} | {"clips:rejected_clips"}
    tables = stage.run(
        StageContext("s", "p", None, data.classes, inputs, data, result_store=None, engine=LocalEngine())
    )
    assert set(tables) == set(stage.tables) and not stage.per_fold
    return {name: TABLES[name].conform(t, study="s", classifier="p", fold=None) for name, t in tables.items()}


def classifier_rows(tables):
    """Return the rows without chance and majority."""
    return [row for row in tables["leaderboard"].to_pylist() if row["kind"] != "reference"]


def test_metrics_of_the_folds_that_exist():
    data, _, _ = gaussian_blobs(n_folds=3)
    stage = metrics_stage("p", (1, 2, 3), tuning_folds=(1, 9))
    assert stage.parameters == {"tuning_folds": [1]}, "a fold that the dataset does not have has no effect"
    table = predictions_table([(1, "a", "a", None), (2, "a", "b", None)])
    rows = run_stage(stage, data, {"predictions/p": table})["metrics"].to_pylist()
    accuracy = {r["subset"]: r["value"] for r in rows if r["metric"] == "accuracy"}
    assert accuracy == {"all": 0.5, "fold 1": 1.0, "fold 2": 0.0, "without tuning folds": 0.0}


def test_metrics_without_any_predictions_are_empty_tables():
    data, _, _ = gaussian_blobs()
    tables = run_stage(metrics_stage("p", data.folds, ()), data, {})
    assert {name: t.num_rows for name, t in tables.items()} == {"metrics": 0, "confusion": 0, "reliability": 0}


def test_the_leaderboard_covers_existing_folds_and_names_classifiers_that_were_not_run():
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=1, classes=("a", "b"))  # 4 clips
    calls = []

    def unavailable():
        calls.append(1)
        return "weights of X missing"

    classifiers = {
        "p": ClassifierPlan("probe", (1, 2), lambda: None),
        "x": ClassifierPlan("zero_shot", (1, 2), unavailable),
    }
    stage = leaderboard_stage(classifiers, tuning_folds=(2,), limited=False)
    assert not calls, "the reason is read when the stage runs"
    table = predictions_table([(1, "a", "a", None), (1, "b", "a", None), (2, "a", "a", None)])
    rejected = TABLES["rejected_clips"].conform(
        pa.table({"clip": ["2-b-00"], "label": ["b"], "file": ["f"], "reason": ["silent"]}), study="s", fold=2
    )
    inputs = {"clips": clips.slice(0, 3), "clips:rejected_clips": rejected, "predictions/p": table}
    rows = {r["classifier"]: r for r in run_stage(stage, data, inputs)["leaderboard"].to_pylist()}
    # 4 listed, 1 rejected: 3 clips; 2 of 3 correct; 1 of 2 in the fold nothing was tuned on
    assert (rows["p"]["rank"], rows["p"]["dataset_clips"], rows["p"]["rejected_clips"]) == (1, 3, 1)
    assert (rows["p"]["accuracy"], rows["p"]["accuracy_without_tuning_folds"]) == (2 / 3, 1 / 2)
    assert rows["x"]["note"] == "not run: weights of X missing, 1 recording rejected"


def test_a_tuning_fold_that_does_not_exist_gives_no_accuracy_without_it():
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=1, classes=("a", "b"))
    table = predictions_table([(1, "a", "a", None), (1, "b", "b", None), (2, "a", "a", None), (2, "b", "a", None)])
    # by hand: 3 of 4 correct, 1 of 2 in fold 2
    for tuned, expected in (((9,), None), ((1,), 1 / 2), ((1, 9), 1 / 2)):
        stage = leaderboard_stage({"p": ClassifierPlan("probe", (1, 2), lambda: None)}, tuned, limited=False)
        [row] = classifier_rows(run_stage(stage, data, {"clips": clips, "predictions/p": table}))
        assert (row["accuracy"], row["accuracy_without_tuning_folds"]) == (3 / 4, expected), tuned


def test_a_run_of_one_fold_is_not_complete_even_without_the_clips_of_the_other_folds():
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=1, classes=("a", "b"))
    stage = leaderboard_stage({"p": ClassifierPlan("probe", (1,), lambda: None)}, (), limited=False)
    table = predictions_table([(1, "a", "a", None), (1, "b", "b", None)])
    [row] = classifier_rows(run_stage(stage, data, {"clips": clips.slice(0, 2), "predictions/p": table}))
    assert (row["rank"], row["dataset_clips"], row["partial"]) == (None, 4, False)
    assert row["note"] == "2 of 2 predictions correct, 2 of 4 clips"


def test_a_fold_too_small_for_its_share_of_a_sample_is_predicted_completely():
    """A sample of 8 over folds of 2 and 8 clips has 2 and 4 clips: a fold cannot pass its share to another."""
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=4, classes=("a", "b"))  # 8 clips a fold
    small = pa.concat_tables([clips.slice(0, 2), clips.slice(8)])
    plan = ClassifierPlan("language_model", (1, 2), lambda: None, trials=1, sample=ClipSample(clips=8))
    stage = leaderboard_stage({"p": plan}, (), limited=False)
    data = replace(data, clips=tuple(c for c in data.clips if c.id in set(small["clip"].to_pylist())))
    table = predictions_table([(1, "a", "a", None)] * 2 + [(2, "a", "a", None)] * 4)
    [row] = classifier_rows(run_stage(stage, data, {"clips": small, "predictions/p": table}))
    assert (row["partial"], row["predictions"]) == (False, 6)
    assert "not computed yet" not in row["note"]


def test_the_parameters_of_the_leaderboard_contain_all_that_changes_it():
    def parameters(kind="probe", folds=(1, 2), tuned=(), limited=False):
        return leaderboard_stage({"p": ClassifierPlan(kind, folds, lambda: None)}, tuned, limited).parameters

    others = [parameters(kind="knn"), parameters(folds=(1,)), parameters(tuned=(1,)), parameters(limited=True)]
    assert parameters() not in others


def plans(*names):
    """Return plans of classifiers that cannot run now."""
    return {name: ClassifierPlan("probe", (1, 2), lambda name=name: f"weights of {name} missing") for name in names}


def test_contrasts_read_the_classifiers_they_mention_and_name_missing_ones():
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=1, classes=("a", "b"))
    contrasts = [Contrast(classifier="p", against=("chance", "majority", "x", "z"), folds="without_tuning")]
    stage = contrasts_stage(contrasts, plans("p", "x", "y"), (1, 2), tuning_folds=(2, 9), limited=False)
    assert [i.key for i in stage.inputs] == ["clips", "predictions/p", "predictions/x"]
    assert all(i.optional and i.folds == "all" for i in stage.inputs)
    table = predictions_table([(1, "a", "a", None), (1, "b", "b", None), (2, "a", "b", None), (2, "b", "a", None)])
    clips_by_id = {c.id: c for c in data.clips}
    ids = pa.array(sorted(clips_by_id))
    table = table.set_column(table.schema.get_field_index("clip"), table.schema.field("clip"), ids)
    rejected = TABLES["rejected_clips"].conform(
        pa.table({"clip": ["1-b-00"], "label": ["b"], "file": ["f"], "reason": ["silent"]}), study="s", fold=1
    )
    inputs = {"clips": clips, "clips:rejected_clips": rejected, "predictions/p": table}
    rows = run_stage(stage, data, inputs)["contrasts"].to_pylist()
    rows = {r["against"]: r for r in rows}
    # fold 1 only, both correct; chance has one usable clip in it, as the other was rejected
    assert (rows["chance"]["clips"], rows["chance"]["accuracy"], rows["chance"]["against_accuracy"]) == (1, 1.0, 0.5)
    assert rows["majority"]["against_accuracy"] == 0.5, "in fold 2 both classes are as frequent"
    assert rows["x"]["reason"] == "x was not run: weights of x missing"
    assert rows["z"]["reason"] == "z was not run: the study has no such classifier"


def test_contrasts_of_an_incomplete_or_limited_run_are_not_compared():
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=2, classes=("a", "b"))  # 4 clips a fold
    contrasts = [Contrast(classifier="p", against=("chance",))]
    complete = {"p": ClassifierPlan("probe", (1, 2), lambda: None, trials=1)}
    ids = sorted(c.id for c in data.clips)

    def compare(count, limited=False):
        table = predictions_table([(int(i[0]), i[2], i[2], None) for i in ids[:count]])
        column = table.schema.get_field_index("clip")
        table = table.set_column(column, table.schema.field("clip"), pa.array(ids[:count]))
        stage = contrasts_stage(contrasts, complete, (1, 2), (), limited)
        [row] = run_stage(stage, data, {"clips": clips, "predictions/p": table})["contrasts"].to_pylist()
        return row["verdict"], row["reason"]

    assert compare(8)[0] == "cannot tell apart"  # 8 of 8: p = 2 / 2^8, but all have one source
    assert compare(7) == ("not compared", "1 of 8 predictions of p are missing")
    assert compare(4) == ("not compared", "p has no predictions of fold 2 yet")
    assert compare(8, limited=True) == ("not compared", "the run is limited to a part of the clips")


def test_the_parameters_of_contrasts_contain_all_that_changes_them():
    def parameters(against=("chance",), names=("p", "x"), tuned=(), limited=False, **options):
        contrasts = [Contrast(classifier="p", against=against, **options)]
        return contrasts_stage(contrasts, plans(*names), (1, 2), tuned, limited).parameters

    same = parameters(names=("p", "x", "y"), tuned=(9,))
    assert parameters() == same, "classifiers that are not mentioned and folds that do not exist have no effect"
    others = [parameters(against=("x",)), parameters(tuned=(1,)), parameters(scoring="generation")]
    others += [parameters(margin=0.05), parameters(limited=True)]
    assert parameters() not in [*others, parameters(folds="without_tuning")]


@needs_esc10
def test_the_annotations_of_esc10_keep_their_denominators():
    from vlm_audio_pipeline.classifiers.annotations import AnnotationsClassifier

    data = esc10_dataset()
    clips = clips_table(data.clips)
    annotations = predict_all_folds(
        AnnotationsClassifier(source="esc10_annotators"), "annotators", data, {"clips": clips}
    )
    stage = leaderboard_stage(
        {"annotators": ClassifierPlan("annotations", data.folds, lambda: None)}, (), limited=False
    )
    [row] = classifier_rows(run_stage(stage, data, {"clips": clips, "predictions/annotators": annotations}))
    assert row["note"] == "4487 of 4687 annotations correct, 321 of 400 clips"
    assert (row["rank"], row["trials"], row["accuracy"]) == (None, 135, 4487 / 4687)
