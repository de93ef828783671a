from vlm_audio_pipeline.reports.page.leakage_findings import leakage_findings


def leakage_row(kind, subject, severity, clips=None):
    return {"kind": kind, "subject": subject, "severity": severity, "clip_ids": clips, "finding": f"{kind} {subject}"}


def test_details_are_attached_to_their_summary_and_the_most_severe_is_first():
    summaries = leakage_findings(
        [
            leakage_row("exact_duplicate", "", "clean"),
            leakage_row("near_duplicate", "clap", "suspect"),
            leakage_row("near_duplicate", "clap: a ~ b", "suspect", "a,b"),
            leakage_row("near_duplicate", "clap: a ~ c", "suspect", "a,c"),
            leakage_row("source_across_folds", "", "leak"),
            leakage_row("source_across_folds", "rec 7", "leak", "d,e"),
            leakage_row("training_data", "clap", "unknown"),
        ]
    )
    assert [(row["kind"], len(row["details"])) for row in summaries] == [
        ("source_across_folds", 1),
        ("near_duplicate", 2),
        ("training_data", 0),
        ("exact_duplicate", 0),
    ]


def test_details_without_a_summary_are_kept():
    summaries = leakage_findings([leakage_row("near_duplicate", "clap: a ~ b", "suspect", "a,b")])
    assert [row["subject"] for row in summaries] == ["clap: a ~ b"]


def test_findings_of_one_severity_have_the_order_of_the_headings():
    kinds = ["training_data", "near_duplicate", "example_of_query_source", "source_across_folds"]
    summaries = leakage_findings([leakage_row(kind, "", "clean") for kind in kinds])
    assert [row["kind"] for row in summaries] == [
        "source_across_folds",
        "example_of_query_source",
        "near_duplicate",
        "training_data",
    ]
