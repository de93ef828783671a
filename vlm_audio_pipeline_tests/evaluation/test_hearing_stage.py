from types import SimpleNamespace

import pyarrow as pa
import pytest

from vlm_audio_pipeline.classifiers.base import Needs
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.evaluation.hearing_stage import HearingPlan, verdicts_stage
from vlm_audio_pipeline.evaluation.stages import ClassifierPlan
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.summaries import audio_classifiers, vision_language_models
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline_tests.classifiers.stage_runner import gaussian_blobs
from vlm_audio_pipeline_tests.measures.prediction_tables import predictions_table


def plan(name="vlm", trials=1):
    return ClassifierPlan("language_model", (1, 2), lambda: f"weights of {name} missing", trials=trials)


def test_the_demo_has_two_vision_language_models_and_hears_by_clap(tmp_path):
    stage = Graph(load_study("demo"), DataFolder(tmp_path)).steps["verdicts"].stage
    assert list(stage.parameters["models"]) == ["janus", "janus_one_shot"]
    assert stage.parameters["audio"] == ["clap_zero_shot", "classical_probe", "classical_knn"]
    assert [i.key for i in stage.inputs] == [
        "clips",
        *(
            f"predictions/{n}"
            for n in ("janus", "janus_one_shot", "clap_zero_shot", "classical_probe", "classical_knn")
        ),
    ]


def test_an_audio_language_model_is_a_baseline_and_no_vision_language_model():
    study = load_study("paper")
    models = vision_language_models(study, {name: plan() for name in study.classifiers})
    assert {"gpt4o_zero_shot", "gpt4o_few_shot"} < set(models) and "gemini_few_shot" not in models
    assert models["gpt4o_few_shot"].shots == 1
    assert audio_classifiers(study) == ["gemini_few_shot", "gemini_today"]


def test_a_study_without_a_vision_language_model_has_no_verdicts(tmp_path):
    study = load_study("baselines")
    assert vision_language_models(study, {}) == {} and audio_classifiers(study) == ["classical_probe", "classical_knn"]


def test_a_probe_on_the_pixels_is_the_reference_of_the_models_on_the_same_rendering():
    def classifier(kind, **needs):
        return SimpleNamespace(kind=kind, needs=lambda: Needs(**needs))

    study = SimpleNamespace(
        encoders={
            "rows": SimpleNamespace(kind="pixels", image_rendering="paper", content="rows"),
            "pixels": SimpleNamespace(kind="pixels", image_rendering="paper", content="image"),
            "aimv2": SimpleNamespace(kind="vision", image_rendering="mel"),
        },
        classifiers={
            "pixels_knn": classifier("knn", encoder="pixels"),
            "rows_probe": classifier("probe", encoder="rows"),
            "pixels_probe": classifier("probe", encoder="pixels"),
            "aimv2_probe": classifier("probe", encoder="aimv2"),
            "on_paper": classifier("language_model", rendering="paper", asks_per_clip=True),
            "on_mel": classifier("language_model", rendering="mel", asks_per_clip=True),
        },
    )
    models = vision_language_models(study, {"on_paper": plan(), "on_mel": plan()})
    assert {name: model.pixels for name, model in models.items()} == {"on_paper": "pixels_probe", "on_mel": None}
    assert audio_classifiers(study) == []


def run_stage(stage, data, inputs):
    tables = stage.run(StageContext("s", "", None, data.classes, inputs, data, result_store=None, engine=LocalEngine()))
    return TABLES["verdicts"].conform(tables["verdicts"], study="s").to_pylist()


def test_the_stage_covers_the_folds_that_exist():
    data, clips, _ = gaussian_blobs(n_folds=2, per_class=1, classes=("a", "b"))  # 4 clips
    stage = verdicts_stage(
        {"vlm": HearingPlan(plan(), 0, None), "gpt": HearingPlan(plan("gpt"), 0, None)}, [], (), False
    )
    half = predictions_table([(1, "a", "a", None), (1, "b", "a", None)], scoring="likelihood")
    gpt, vlm = run_stage(stage, data, {"clips": clips, "predictions/vlm": half})
    assert (vlm["classifier"], vlm["answer"]) == ("vlm", "cannot be decided")
    assert vlm["reason"] == "vlm has no predictions of fold 2 yet"
    assert gpt["reason"] == "not run: weights of gpt missing" and gpt["scoring"] == ""
    rest = predictions_table([(2, "a", "a", None), (2, "b", "b", None)], scoring="likelihood")
    both = pa.concat_tables([half, rest])
    names = pa.array(sorted(c.id for c in data.clips))
    both = both.set_column(both.schema.get_field_index("clip"), both.schema.field("clip"), names)
    _, vlm = run_stage(stage, data, {"clips": clips, "predictions/vlm": both})
    assert (vlm["accuracy"], vlm["clips"], vlm["dataset_clips"], vlm["chance_accuracy"]) == (0.75, 4, 4, 0.5)


@pytest.mark.parametrize(
    "other",
    [
        {"audio": ["clap"]},
        {"limited": True},
        {"tuning_folds": (1,)},
        {"models": {"vlm": HearingPlan(plan(trials=2), 0, None)}},
        {"models": {"vlm": HearingPlan(plan(), 1, None)}},
        {"models": {"vlm": HearingPlan(plan(), 0, "pixels")}},
    ],
    ids=["audio", "limited", "tuning folds", "trials", "shots", "pixels"],
)
def test_all_that_changes_a_verdict_is_a_parameter(other):
    values = {"models": {"vlm": HearingPlan(plan(), 0, None)}, "audio": [], "tuning_folds": (), "limited": False}
    assert verdicts_stage(**values).parameters != verdicts_stage(**values | other).parameters
