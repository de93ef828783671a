import time
from datetime import UTC, datetime

import pytest
from openpyxl import Workbook
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.annotations import AnnotationsClassifier, anonymous_clip_name
from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline_tests.classifiers.stage_runner import (
    clips_table,
    dataset,
    esc10_dataset,
    needs_esc10,
    predict_all_folds,
    run_fold,
)

LISTED = [
    Clip("1-10-A", "dog", 1, "10", "001 - Dog bark/1-10-A.ogg"),
    Clip("1-11-A", "rain", 1, "11", "002 - Rain/1-11-A.ogg"),
    Clip("2-12-A", "dog", 2, "12", "001 - Dog bark/2-12-A.ogg"),
]


def small(root):
    data = dataset(LISTED, ("dog", "rain"), root)
    return data, {"clips": clips_table(LISTED)}


def write(folder, text):
    path = folder / "annotations.csv"
    path.write_text(text, encoding="utf-8")
    return AnnotationsClassifier(path=path)


def sheet(folder, rows, header=("Worker ID (anonymized)", "Worker\nprediction", "Recording")):
    book = Workbook()
    book.active.title = "Raw data"
    for row in (header, *rows):
        book.active.append(row)
    book.save(folder / "ESC-10-HumanClassification.xlsx")


def test_each_annotation_has_a_row(tmp_path):
    data, tables = small(tmp_path)
    text = "clip,annotator,label,note\n2-12-A,zoe,rain,?\n1-10-A,zoe,dog,\n1-10-A,ann,dog,\n1-10-A,zoe,rain,again\n"
    predictions = predict_all_folds(write(tmp_path, text), "h", data, tables)
    rows = predictions.select(["fold", "clip", "trial", "annotator", "predicted", "correct"]).to_pylist()
    # ann is annotator 0 and zoe 1 in both folds; zoe's second annotation of 1-10-A is trial 1 + 2 annotators = 3
    assert [tuple(r.values()) for r in rows] == [
        (1, "1-10-A", 0, "ann", "dog", True),
        (1, "1-10-A", 1, "zoe", "dog", True),
        (1, "1-10-A", 3, "zoe", "rain", False),
        (2, "2-12-A", 1, "zoe", "rain", False),
    ]
    for name in ("scores", "confidence", "answered_at", "training_clips"):
        assert predictions[name].null_count == 4, name
    assert set(predictions["scoring"].to_pylist()) == {"annotation"}
    assert set(predictions["outcome"].to_pylist()) == {"answered"}


def test_a_fold_without_annotations_and_a_sample(tmp_path):
    data, tables = small(tmp_path)
    spec = write(tmp_path, "clip,annotator,label\n1-10-A,ann,dog\n1-11-A,ann,dog\n")
    assert run_fold(spec, "h", 2, data, tables)["predictions"].num_rows == 0
    sampled = AnnotationsClassifier(path=spec.path, sample={"clips": 1}, folds=(1,))
    assert run_fold(sampled, "h", 1, data, tables)["predictions"].num_rows == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "clip,who,label\n1-10-A,ann,dog\n",
            "must have the columns clip, annotator, label, got clip, who, label; add annotator",
        ),
        ("", "must begin with a line of column names, got an empty file"),
        ("clip,annotator,label\n", "has no annotations below its header"),
        ("clip,annotator,label\n1-10-A,ann,dog\n1-11-A,,dog\n", "line 3 must contain clip, annotator and label"),
        ("clip,annotator,label\n1-10-A\n", "line 2: a row must have 3 cells as the header has, got 1"),
        (
            "clip,annotator,label\n1-10-A,ann,dog\n1-10-B,ann,dog\n",
            "line 3: clip .* got '1-10-B'; did you mean '1-10-A'",
        ),
        ("clip,annotator,label\n1-10-A,ann,dgo\n", "line 2: label .* got 'dgo'; did you mean 'dog'"),
    ],
)
def test_invalid_annotations_are_refused_with_their_line(tmp_path, text, message):
    data, tables = small(tmp_path)
    with pytest.raises(BadDataset, match=message):
        run_fold(write(tmp_path, text), "h", 1, data, tables)


def test_an_apostrophe_that_prevents_a_formula_is_no_part_of_a_name(tmp_path):
    """As the annotation sheet and exports write it."""
    data, tables = small(tmp_path)
    spec = write(tmp_path, "clip,annotator,label\n1-10-A,'=ann,dog\n1-10-A,'zoe,dog\n")
    assert run_fold(spec, "h", 1, data, tables)["predictions"]["annotator"].to_pylist() == ["'zoe", "=ann"]


def test_a_csv_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    data, tables = small(tmp_path)
    spec = write(tmp_path, "\ufeffclip,annotator,label\n1-10-A,ann,dog\n")
    assert run_fold(spec, "h", 1, data, tables)["predictions"].num_rows == 1
    spec.path.write_bytes("clip,annotator,label\n1-10-A,josé,dog\n".encode("latin-1"))
    with pytest.raises(
        BadDataset, match=r"annotations.csv is not UTF-8 text \(invalid continuation byte in line 2\); save it as"
    ):
        run_fold(spec, "h", 1, data, tables)


@pytest.mark.parametrize(
    ("values", "message"), [({}, "neither"), ({"source": "esc10_annotators", "path": "a.csv"}, "both")]
)
def test_exactly_one_of_file_and_spreadsheet_is_given(values, message):
    with pytest.raises(ValidationError, match=f"exactly one of source and path is required, got {message}"):
        AnnotationsClassifier(**values)


def test_an_absent_file_is_not_available(tmp_path):
    with pytest.raises(NotAvailable, match=r"xlsx is missing; copy it from github.com/karolpiczak/ESC-10"):
        AnnotationsClassifier(source="esc10_annotators").annotations_file(tmp_path)
    with pytest.raises(NotAvailable, match=r"none\.csv is missing$"):
        AnnotationsClassifier(path=tmp_path / "none.csv").annotations_file(tmp_path)


def test_the_spreadsheet_is_read_by_its_headers_and_annotators_are_numbered(tmp_path):
    data, tables = small(tmp_path)
    rows = [(990, "Dog bark", "1-10-A"), (70, "Rain", "1-10-A"), (70, "Dog bark", "2-12-A"), (70, "Rain", "5-9-A")]
    sheet(tmp_path, rows)
    predictions = predict_all_folds(AnnotationsClassifier(source="esc10_annotators"), "h", data, tables)
    # 5-9-A is not in this dataset and is left out; 70 < 990, so 70 is annotator 1
    assert [tuple(r.values()) for r in predictions.select(["clip", "annotator", "trial", "predicted"]).to_pylist()] == [
        ("1-10-A", "annotator 1", 0, "rain"),
        ("1-10-A", "annotator 2", 1, "dog"),
        ("2-12-A", "annotator 1", 0, "dog"),
    ]


def test_another_sheet_or_file_is_refused(tmp_path):
    data, tables = small(tmp_path)
    sheet(tmp_path, [(1, "Dog bark", "1-10-A")], header=("Worker", "Worker prediction", "Recording"))
    with pytest.raises(BadDataset, match="is not the spreadsheet of ESC-10"):
        run_fold(AnnotationsClassifier(source="esc10_annotators"), "h", 1, data, tables)
    (tmp_path / "ESC-10-HumanClassification.xlsx").write_bytes(b"not a spreadsheet")
    with pytest.raises(BadDataset, match="is not the spreadsheet of ESC-10"):
        run_fold(AnnotationsClassifier(source="esc10_annotators"), "h", 1, data, tables)


def test_the_path_of_the_file_does_not_enter_the_fingerprint(tmp_path):
    assert (
        AnnotationsClassifier(path=tmp_path / "a.csv").fingerprint()
        == AnnotationsClassifier(path=tmp_path / "b.csv").fingerprint()
    )
    assert (
        AnnotationsClassifier(path=tmp_path / "a.csv").fingerprint()
        != AnnotationsClassifier(source="esc10_annotators").fingerprint()
    )


def test_registered():
    assert CLASSIFIERS.get("annotations") is AnnotationsClassifier


@needs_esc10
def test_the_annotators_of_esc10():
    data = esc10_dataset()
    start = time.process_time()
    predictions = predict_all_folds(
        AnnotationsClassifier(source="esc10_annotators"), "h", data, {"clips": clips_table(data.clips)}
    )
    assert time.process_time() - start < 3 * 5  # 0.4 s on an idle machine
    # counted in the spreadsheet itself, sheet "Raw data"
    assert predictions.num_rows == 4687
    assert sum(predictions["correct"].to_pylist()) == 4487
    assert len(set(predictions["clip"].to_pylist())) == 321
    assert len(set(predictions["annotator"].to_pylist())) == 135
    assert (
        sum(t >= 135 for t in predictions["trial"].to_pylist()) == 66
    )  # clips annotated a second time by the same annotator


def test_the_csv_of_an_annotation_sheet_has_anonymous_names_and_timing(tmp_path):
    data, tables = small(tmp_path)
    assert {c.label for c in LISTED}.isdisjoint(anonymous_clip_name("dog")) and anonymous_clip_name(
        "1-10-A"
    ) != anonymous_clip_name("1-11-A")
    text = (
        "clip,annotator,label,rendering,seconds,answered_at,position\n"
        f"{anonymous_clip_name('1-10-A')},ann,dog,paper,2.5,2026-11-20T19:00:00.000Z,1\n"
        f"{anonymous_clip_name('1-11-A')},ann,dog,paper,,,2\n"
        "2-12-A,bob,rain,,1,2026-11-20T21:00:00+02:00,\n"
    )
    rows = predict_all_folds(write(tmp_path, text), "h", data, tables).to_pylist()
    answered_at_time = datetime(2026, 11, 20, 19, tzinfo=UTC)
    column_names = ("clip", "annotator", "correct", "rendering", "seconds", "answered_at")
    assert [tuple(r[name] for name in column_names) for r in rows] == [
        ("1-10-A", "ann", True, "paper", 2.5, answered_at_time),
        ("1-11-A", "ann", False, "paper", None, None),
        ("2-12-A", "bob", False, None, 1.0, answered_at_time),
    ]


@pytest.mark.parametrize("times", ["soon,", "1,yesterday"])
def test_invalid_times_are_refused(tmp_path, times):
    data, tables = small(tmp_path)
    spec = write(tmp_path, f"clip,annotator,label,seconds,answered_at\n1-10-A,ann,dog,{times}\n")
    with pytest.raises(
        BadDataset, match=r"line 2 must contain a number in seconds and an ISO 8601 time in answered_at, got"
    ):
        run_fold(spec, "h", 1, data, tables)
