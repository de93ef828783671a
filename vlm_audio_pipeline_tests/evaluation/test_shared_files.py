import unicodedata

import pyarrow as pa
import pytest

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.leakage import leakage_table
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table


def findings(kind, *clips):
    """Return the findings of a kind for (fold, source, file, start in s) of clips of 5 s."""
    listed = [Clip(f"c{i}", "a", fold, source, file, start) for i, (fold, source, file, start) in enumerate(clips)]
    table = clips_table(listed)
    starts = TABLES["clips"].arrow.field("start_s")
    table = table.set_column(
        table.column_names.index("start_s"), starts, pa.array([c.start_s for c in listed], pa.float64())
    )
    rows = TABLES["leakage"].conform(leakage_table(table, {}, {}, {}, "csv", None), study="s").to_pylist()
    return [r for r in rows if r["kind"] == kind]


@pytest.mark.parametrize(
    ("second_start_s", "severity", "words"),
    [
        (0.0, "leak", "1 pairs of them overlap"),
        (4.9, "leak", "1 pairs of them overlap"),
        (5.0, "suspect", "they do not overlap, but come from one recording"),  # the first clip ends at 5 s
        (60.0, "suspect", "they do not overlap"),
    ],
)
def test_segments_of_one_file_in_two_folds_are_found_whatever_the_source(second_start_s, severity, words):
    summary, finding = findings(
        "file_across_folds", (1, "s1", "day.wav", None), (2, "s2", "day.wav", second_start_s), (2, "s3", "x.wav", None)
    )
    assert (summary["subject"], summary["severity"], summary["count"], summary["checked"]) == ("", severity, 1, 2)
    assert (summary["clips"], summary["folds"]) == (2, "1,2")
    assert (finding["subject"], finding["severity"], finding["clip_ids"]) == ("day.wav", severity, "c0, c1")
    assert words in finding["finding"]


def test_segments_of_one_file_in_one_fold_are_clean():
    [summary] = findings(
        "file_across_folds", (1, "s1", "a.wav", 0.0), (1, "s2", "a.wav", 1.0), (2, "s3", "b.wav", None)
    )
    assert (summary["severity"], summary["count"], summary["folds"]) == ("clean", 0, "")


def test_a_file_is_unknown_while_only_one_fold_was_run():
    [summary] = findings("file_across_folds", (1, "s1", "a.wav", 0.0))
    assert summary["severity"] == "unknown" and summary["finding"].endswith("only 1 fold was run so far")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Rec1", "rec1"),
        ("rec 1", "rec1"),
        ("rec\xa01", "rec  1"),
        ("rec\u200b1", "rec1"),
        (unicodedata.normalize("NFC", "k\xfche"), unicodedata.normalize("NFD", "k\xfche")),
    ],
)
def test_sources_that_look_equal_are_reported(first, second):
    summary, finding = findings("alike_sources", (1, first, "a.wav", None), (2, second, "b.wav", None))
    assert (summary["severity"], summary["count"], summary["checked"]) == ("suspect", 1, 1)
    assert (
        finding["severity"] == "suspect" and "if they are one recording, it is in several folds" in finding["finding"]
    )
    assert ascii(first) in finding["subject"] and ascii(second) in finding["subject"]


def test_sources_that_look_equal_in_one_fold_and_different_sources():
    summary, finding = findings(
        "alike_sources", (1, "a", "a.wav", None), (1, "A", "b.wav", None), (2, "b", "c.wav", None)
    )
    assert summary["severity"] == "suspect" and "its clips count as independent" in finding["finding"]
    [summary] = findings("alike_sources", (1, "rec1", "a.wav", None), (2, "rec2", "b.wav", None))
    assert (summary["severity"], summary["count"]) == ("clean", 0)
