"""Differences of compared results, with p-values and their correction by hand."""

from types import SimpleNamespace

from vlm_audio_pipeline.reports.page.compared_results import ComparedResults, compare_results
from vlm_audio_pipeline.reports.page.compared_summary import summarise_column
from vlm_audio_pipeline.storage.history_store import HistoryEntry, PastPrediction

CLIPS = [f"clip {number}" for number in range(8)]
STUDY = SimpleNamespace(clips=[{"clip": clip, "label": "dog", "samples_sha256": clip} for clip in CLIPS])


def entry(classifier: str, correct: str) -> HistoryEntry:
    """Return a result from a mark for each clip, "+" or "-"; each clip is a source recording of its own."""
    predictions = {
        (0, clip): PastPrediction(clip, 1, "dog" if mark == "+" else "rain", mark == "+")
        for clip, mark in zip(CLIPS, correct, strict=True)
    }
    return HistoryEntry(classifier, "score", "none", correct, "1:0", "{}", "1.0", None, None, predictions)


def results(name: str, **correct: str) -> ComparedResults:
    entries = {(classifier, "score", "none"): entry(classifier, marks) for classifier, marks in correct.items()}
    return ComparedResults(name, STUDY, entries)


def test_the_correction_counts_the_results_of_a_column_that_differ():
    first = results("first", a="--------", b="+-------", c="++------", d="+++-----", new="++++----")
    other = results("other", a="++++++++", b="+-++++++", c="-+-+++++", d="+++-----")
    rows = {row["key"][0]: row["cells"] for row in compare_results([first, other])}

    def values(classifier):
        cell = rows[classifier][1]
        return [cell[name] for name in ("correct", "gained", "lost", "p", "p_holm")]

    # Two-sided, over all choices of signs: 8 of 8 differences have one sign: 2 / 2^8; 6 of 6: 2 / 2^6.
    # 5 gained and 1 lost: (C(6, 0) + C(6, 1)) x 2 / 2^6 = 14 / 64.
    # Three results differ. Holm: the smallest p times 3, the next times 2, the largest times 1.
    assert values("a") == [8, 8, 0, 2 / 256, 3 * 2 / 256]
    assert values("b") == [7, 6, 0, 2 / 64, 2 * 2 / 64]
    assert values("c") == [6, 5, 1, 14 / 64, 14 / 64]
    assert rows["d"][1] == {"accuracy": 3 / 8, "correct": 3, "predictions": 8, "is_equal": True}
    assert rows["new"][1] is None
    assert [cells[0].keys() for cells in rows.values()] == [{"accuracy", "correct", "predictions", "is_equal"}] * 5


def test_a_corrected_p_value_is_not_smaller_than_that_of_a_smaller_p_value():
    first = results("first", a="--------", b="----++++", c="---+++++")
    other = results("other", a="++++----", b="++++++++", c="++++++++")
    rows = {row["key"][0]: row["cells"][1] for row in compare_results([first, other])}
    # 4 of 4: 2 / 2^4 = 0.125, twice; 3 of 3: 2 / 2^3 = 0.25. Holm: 3 x 0.125; 2 x 0.125 is raised to that, and so is 1 x 0.25.
    assert {name: (cell["p"], cell["p_holm"]) for name, cell in rows.items()} == {
        "a": (0.125, 0.375),
        "b": (0.125, 0.375),
        "c": (0.25, 0.375),
    }


def test_the_summary_counts_classifiers_and_no_controls():
    first = results("first", a="--------", b="++++++++", c="+-------", d="++------", e="++++++++")
    other = results("other", a="++++++++", b="--------", c="-+------", d="++------")
    for side in (first, other):
        side.entries["a", "score", "blank"] = entry("a", "--------" if side is first else "++++++++")
        side.entries["a", "examples_knn", "none"] = entry("a", "++++++++")
    # Of the classifiers a and b, 8 of 8 clips change: p = 2 / 2^8, corrected for 4 tests (a, b, c and the control): 0.03.
    rows = compare_results([first, other])
    assert summarise_column(rows, [first, other], 1) == (
        "other compared with first: of 5 classifiers and scorings, 1 is more accurate; 1 is less accurate; 1 has other "
        "predictions, but no difference in accuracy is shown; 1 has the same predictions; 1 has predictions in only one of "
        "the two. 2 controls and references are not counted."
    )
    assert [row["is_original"] for row in rows] == [True] * 5 + [False] * 2
