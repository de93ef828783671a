from vlm_audio_pipeline.reports.page.runs import page_runs
from vlm_audio_pipeline.reports.page.sections import (
    changed_results,
    cost_totals,
    costs,
    embedding_quality_view,
    further_measures,
    provenance,
)
from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline_tests.reports.page.example_study import ExampleStudy


def test_history_has_only_results_that_changed():
    row = {"classifier": "a", "scoring": "score", "control": "none"}
    other = row | {"control": "blank"}
    assert changed_results([row, other]) == []
    assert changed_results([row, row | {"entry": 2}, other]) == [row, row | {"entry": 2}]


def test_embedding_measures_become_columns():
    row = {
        "encoder": "audio_encoder",
        "model": "m",
        "value": 0.5,
        "chance": None,
        "reason": None,
        "method": "by hand",
        "claim": None,
    }
    view = embedding_quality_view(
        [row | {"measure": m} for m in ("r_at_1", "silhouette", "new")]
        + [row | {"measure": "new", "encoder": "image_encoder"}]
    )
    assert view["measures"] == [("silhouette", "silhouette"), ("r_at_1", "R@1"), ("new", "new")]
    assert [line["encoder"] for line in view["rows"]] == ["audio_encoder", "image_encoder"]
    assert view["methods"]["R@1"] == ["by hand"]


def test_costs_are_sums_over_the_predictions(example_study):
    rows = {
        (row["classifier"], row["scoring"]): row
        for row in costs(StudyResults.load(example_study.data_folder, example_study.study))
    }
    assert set(rows) == {("audio_model", "score"), ("image_model", "generation")}  # the others recorded nothing
    image_model = rows["image_model", "generation"]
    # 30 requests of 0.5 s, 700 tokens and 0.001 USD; correct are those of i % 3 with i % 7 neither 3 nor 5
    correct = sum(bool(i % 3) and i % 7 not in (3, 5) for i in range(30))
    assert (image_model["predictions"], image_model["seconds"], image_model["tokens"]) == (30, 15.0, 21000)
    assert abs(image_model["usd_per_correct"] - 0.03 / correct) < 1e-12


def test_provenance_names_every_step_once_with_its_version(example_study):
    sources = provenance(StudyResults.load(example_study.data_folder, example_study.study))
    steps = {step["step"]: step for step in sources["steps"]}
    assert steps["predictions/image_model"]["partition_files"] == 3 and steps["predictions/image_model"][
        "versions"
    ] == {"1:0"}
    assert {row["classifier"]: row["revision"] for row in sources["models"]}["image_model"] == "abc123"


def test_provenance_names_templates_and_the_model_of_the_baseline_apart(tmp_path):
    study = ExampleStudy(tmp_path / "study")

    def predict(clip, i):
        rows = (("likelihood", "janus-1b"), ("examples_knn", "mfcc"))
        return [{"predicted": clip["label"], "scoring": scoring, "model": model} for scoring, model in rows]

    study.write_predictions("one_shot", predict, kind="language_model", prompt="plain", shots=1)
    study.write_predictions("clap", lambda clip, i: [{"predicted": clip["label"], "model": "clap-1"}], kind="zero_shot")
    study.finish(classifiers={"clap": {"kind": "zero_shot", "encoder": "clap", "template": "This is {label}."}})
    clap, one_shot = provenance(StudyResults.load(study.data_folder, study.study))["models"]
    assert (clap["model"], clap["examples_model"], clap["prompt"]) == ("clap-1", None, "This is {label}.")
    assert (one_shot["model"], one_shot["examples_model"], one_shot["prompt"]) == ("janus-1b", "mfcc", "plain")


def test_measures_that_no_run_has_and_those_shown_elsewhere_are_left_out(example_study):
    results = StudyResults.load(example_study.data_folder, example_study.study)
    runs = page_runs(results, results.query("SELECT * FROM leaderboard WHERE study = $1"))
    (measure,) = further_measures(results, runs)  # accuracy is in the leaderboard, trial_sd undefined for all
    values = {run.classifier: cell and cell["value"] for run, cell in zip(runs, measure["cells"], strict=True)}
    assert measure["title"] == "true class in the three highest scores" and values == {
        "audio_model": 0.9,
        "image_model": None,
        "annotators": None,
    }


def test_a_reply_that_several_rows_share_counts_once(tmp_path):
    study = ExampleStudy(tmp_path / "study")
    reply = {"control": "none", "outcome": "answered", "input_tokens": 1000, "seconds": 2.0}
    a, b = [clip["clip"] for clip in study.clips if clip["fold"] == 1][:2]
    study.write(
        "responses",
        # One local reply with both scorings, 1,005 tokens; the same blank image of two clips, 500 tokens; two separate replies
        # of an endpoint, 1,005 and 1,001 tokens.
        reply | {"clip": a, "scoring": "generation", "result_key": "1", "output_tokens": 5},
        reply | {"clip": a, "scoring": "likelihood", "result_key": "2"},
        *(
            {"clip": clip, "scoring": "generation", "control": "blank", "outcome": "answered", "result_key": "3"}
            | {"input_tokens": 500, "seconds": 0.5, "usd": usd}
            for clip, usd in ((a, 0.25), (b, 0.0))
        ),
        reply | {"clip": b, "scoring": "generation", "result_key": "4", "output_tokens": 5, "usd": 1.0, "seconds": 3.0},
        reply
        | {"clip": b, "scoring": "likelihood", "result_key": "5", "input_tokens": 1001, "usd": 0.5, "seconds": 4.0},
        component="model",
        fold=1,
    )
    study.write_predictions("probe", lambda clip, i: [{"predicted": clip["label"], "seconds": 0.5}], kind="probe")
    study.finish()
    totals = cost_totals(StudyResults.load(study.data_folder, study.study))
    model = {"classifier": "model", "requests": 4, "seconds": 9.5, "tokens": 3511, "usd": 1.75}
    probe = {"classifier": "probe", "requests": None, "seconds": 15.0, "tokens": None, "usd": None}  # 30 clips
    assert totals["rows"] == [model, probe]
    assert totals["total"] == {"requests": 4, "seconds": 24.5, "tokens": 3511, "usd": 1.75}
