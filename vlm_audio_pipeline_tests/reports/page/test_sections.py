from vlm_audio_pipeline.reports.page.known import known
from vlm_audio_pipeline.reports.page.runs import runs_of
from vlm_audio_pipeline.reports.page.sections import changed, costs, findings, measures, provenance, quality_view


def leak(kind, subject, severity, clips=None):
    return {"kind": kind, "subject": subject, "severity": severity, "clip_ids": clips, "finding": f"{kind} {subject}"}


def test_findings_of_single_clips_stand_behind_their_summary_and_the_worst_comes_first():
    told = findings(
        [
            leak("exact_duplicate", "", "clean"),
            leak("near_duplicate", "clap", "suspect"),
            leak("near_duplicate", "clap: a ~ b", "suspect", "a,b"),
            leak("near_duplicate", "clap: a ~ c", "suspect", "a,c"),
            leak("source_across_folds", "", "leak"),
            leak("source_across_folds", "rec 7", "leak", "d,e"),
            leak("training_data", "clap", "unknown"),
        ]
    )
    assert [(row["kind"], len(row["single"])) for row in told] == [
        ("source_across_folds", 1),
        ("near_duplicate", 2),
        ("training_data", 0),
        ("exact_duplicate", 0),
    ]


def test_findings_without_a_summary_are_not_lost():
    told = findings([leak("near_duplicate", "clap: a ~ b", "suspect", "a,b")])
    assert [row["subject"] for row in told] == ["clap: a ~ b"]


def test_only_what_changed_is_history():
    row = {"classifier": "a", "scoring": "score", "control": "none"}
    other = row | {"control": "blank"}
    assert changed([row, other]) == []
    assert changed([row, row | {"entry": 2}, other]) == [row, row | {"entry": 2}]


def test_measures_of_vectors_stand_side_by_side():
    row = {
        "encoder": "ear",
        "model": "m",
        "value": 0.5,
        "chance": None,
        "reason": None,
        "method": "by hand",
        "claim": None,
    }
    view = quality_view(
        [row | {"measure": m} for m in ("r_at_1", "silhouette", "new")] + [row | {"measure": "new", "encoder": "eye"}]
    )
    assert view["measures"] == [("silhouette", "silhouette"), ("r_at_1", "R@1"), ("new", "new")]
    assert [line["encoder"] for line in view["lines"]] == ["ear", "eye"]
    assert view["methods"]["R@1"] == ["by hand"]


def test_costs_are_sums_of_what_was_recorded(made):
    rows = {(row["classifier"], row["scoring"]): row for row in costs(known(made.layout, made.study))}
    assert set(rows) == {("hearer", "score"), ("seer", "generation")}  # nothing was recorded of the others
    seer = rows["seer", "generation"]
    # 30 requests of 0.5 s, 700 tokens and 0.001 USD; right are those of i % 3 with i % 7 neither 3 nor 5
    right = sum(bool(i % 3) and i % 7 not in (3, 5) for i in range(30))
    assert (seer["predictions"], seer["seconds"], seer["tokens"]) == (30, 15.0, 21000)
    assert abs(seer["usd_per_correct"] - 0.03 / right) < 1e-12


def test_provenance_names_every_step_once_with_its_version(made):
    told = provenance(known(made.layout, made.study))
    steps = {step["step"]: step for step in told["steps"]}
    assert steps["predictions/seer"]["parts"] == 3 and steps["predictions/seer"]["versions"] == {"1:0"}
    assert {row["classifier"]: row["revision"] for row in told["models"]}["seer"] == "abc123"


def test_measures_that_no_run_has_and_those_shown_elsewhere_are_left_out(made):
    about = known(made.layout, made.study)
    runs = runs_of(about, about.ask("SELECT * FROM leaderboard WHERE study = $1"))
    (line,) = measures(about, runs)  # accuracy is in the leaderboard, trial_sd undefined for all
    told = {run.classifier: cell and cell["value"] for run, cell in zip(runs, line["cells"], strict=True)}
    assert line["name"] == "top3" and told == {"hearer": 0.9, "seer": None, "listeners": None}
