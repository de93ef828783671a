import time
from datetime import UTC, datetime

import pytest
from openpyxl import Workbook
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.classifiers.human import Human, anonymous
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline_tests.classifiers.running import clips_table, dataset, esc10, needs_esc10, run, run_fold

LISTED = [
    Clip("1-10-A", "dog", 1, "10", "001 - Dog bark/1-10-A.ogg"),
    Clip("1-11-A", "rain", 1, "11", "002 - Rain/1-11-A.ogg"),
    Clip("2-12-A", "dog", 2, "12", "001 - Dog bark/2-12-A.ogg"),
]


def small(root):
    data = dataset(LISTED, ("dog", "rain"), root)
    return data, {"clips": clips_table(LISTED)}


def write(folder, text):
    path = folder / "readings.csv"
    path.write_text(text, encoding="utf-8")
    return Human(path=path)


def sheet(folder, rows, header=("Worker ID (anonymized)", "Worker\nprediction", "Recording")):
    book = Workbook()
    book.active.title = "Raw data"
    for row in (header, *rows):
        book.active.append(row)
    book.save(folder / "ESC-10-HumanClassification.xlsx")


def test_one_row_a_judgement(tmp_path):
    data, tables = small(tmp_path)
    text = "clip,reader,label,note\n2-12-A,zoe,rain,?\n1-10-A,zoe,dog,\n1-10-A,ann,dog,\n1-10-A,zoe,rain,again\n"
    predictions = run(write(tmp_path, text), "h", data, tables)
    rows = predictions.select(["fold", "clip", "trial", "reader", "predicted", "correct"]).to_pylist()
    # ann is reader 0 and zoe 1 in both folds; zoe's second judgement of 1-10-A is trial 1 + 2 readers = 3
    assert [tuple(r.values()) for r in rows] == [
        (1, "1-10-A", 0, "ann", "dog", True),
        (1, "1-10-A", 1, "zoe", "dog", True),
        (1, "1-10-A", 3, "zoe", "rain", False),
        (2, "2-12-A", 1, "zoe", "rain", False),
    ]
    for name in ("scores", "confidence", "answered_at", "training_clips"):
        assert predictions[name].null_count == 4, name
    assert set(predictions["scoring"].to_pylist()) == {"judgement"}
    assert set(predictions["outcome"].to_pylist()) == {"answered"}


def test_a_fold_nobody_judged_and_a_sample(tmp_path):
    data, tables = small(tmp_path)
    spec = write(tmp_path, "clip,reader,label\n1-10-A,ann,dog\n1-11-A,ann,dog\n")
    assert run_fold(spec, "h", 2, data, tables)["predictions"].num_rows == 0
    one = Human(path=spec.path, sample={"clips": 1}, folds=(1,))
    assert run_fold(one, "h", 1, data, tables)["predictions"].num_rows == 1


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "clip,who,label\n1-10-A,ann,dog\n",
            "must have the columns clip, reader, label, got clip, who, label; add reader",
        ),
        ("", "got none; add clip, reader, label"),
        ("clip,reader,label\n", "at least one judgement, got none"),
        ("clip,reader,label\n1-10-A,ann,dog\n1-11-A,,dog\n", "line 3 must give clip, reader and label"),
        ("clip,reader,label\n1-10-A\n", "line 2 must give clip, reader and label"),
        ("clip,reader,label\n1-10-A,ann,dog\n1-10-B,ann,dog\n", "line 3: clip .* got '1-10-B'; did you mean '1-10-A'"),
        ("clip,reader,label\n1-10-A,ann,dgo\n", "line 2: label .* got 'dgo'; did you mean 'dog'"),
    ],
)
def test_wrong_readings_are_refused_with_their_line(tmp_path, text, message):
    data, tables = small(tmp_path)
    with pytest.raises(BadDataset, match=message):
        run_fold(write(tmp_path, text), "h", 1, data, tables)


def test_a_csv_in_another_encoding_is_refused_and_a_byte_order_mark_is_not(tmp_path):
    data, tables = small(tmp_path)
    spec = write(tmp_path, "\ufeffclip,reader,label\n1-10-A,ann,dog\n")
    assert run_fold(spec, "h", 1, data, tables)["predictions"].num_rows == 1
    spec.path.write_bytes("clip,reader,label\n1-10-A,josé,dog\n".encode("latin-1"))
    with pytest.raises(BadDataset, match="must be a CSV in UTF-8"):
        run_fold(spec, "h", 1, data, tables)


@pytest.mark.parametrize("given, got", [({}, "neither"), ({"source": "esc10_listeners", "path": "a.csv"}, "both")])
def test_exactly_one_origin(given, got):
    with pytest.raises(ValidationError, match=f"exactly one of source and path must be given, got {got}"):
        Human(**given)


def test_an_absent_file_is_not_available(tmp_path):
    with pytest.raises(NotAvailable, match=r"xlsx, got no such file; it comes with github.com/karolpiczak/ESC-10"):
        Human(source="esc10_listeners").readings_file(tmp_path)
    with pytest.raises(NotAvailable, match=r"none\.csv, got no such file$"):
        Human(path=tmp_path / "none.csv").readings_file(tmp_path)


def test_the_sheet_is_read_by_its_headers_and_readers_lose_their_ids(tmp_path):
    data, tables = small(tmp_path)
    rows = [(990, "Dog bark", "1-10-A"), (70, "Rain", "1-10-A"), (70, "Dog bark", "2-12-A"), (70, "Rain", "5-9-A")]
    sheet(tmp_path, rows)
    predictions = run(Human(source="esc10_listeners"), "h", data, tables)
    # 5-9-A is not in this dataset: left out; 70 < 990, so 70 is reader 1
    assert [tuple(r.values()) for r in predictions.select(["clip", "reader", "trial", "predicted"]).to_pylist()] == [
        ("1-10-A", "reader 1", 0, "rain"),
        ("1-10-A", "reader 2", 1, "dog"),
        ("2-12-A", "reader 1", 0, "dog"),
    ]


def test_another_sheet_or_file_is_refused(tmp_path):
    data, tables = small(tmp_path)
    sheet(tmp_path, [(1, "Dog bark", "1-10-A")], header=("Worker", "Worker prediction", "Recording"))
    with pytest.raises(BadDataset, match="must be the spreadsheet of ESC-10"):
        run_fold(Human(source="esc10_listeners"), "h", 1, data, tables)
    (tmp_path / "ESC-10-HumanClassification.xlsx").write_bytes(b"not a spreadsheet")
    with pytest.raises(BadDataset, match="must be the spreadsheet of ESC-10"):
        run_fold(Human(source="esc10_listeners"), "h", 1, data, tables)


def test_where_the_file_lies_does_not_enter_the_fingerprint(tmp_path):
    assert Human(path=tmp_path / "a.csv").fingerprint() == Human(path=tmp_path / "b.csv").fingerprint()
    assert Human(path=tmp_path / "a.csv").fingerprint() != Human(source="esc10_listeners").fingerprint()


def test_registered():
    assert CLASSIFIERS.get("human") is Human


@needs_esc10
def test_the_listeners_of_esc10():
    data = esc10()
    start = time.perf_counter()
    predictions = run(Human(source="esc10_listeners"), "h", data, {"clips": clips_table(data.clips)})
    assert time.perf_counter() - start < 3 * 5  # 0.4 s on a quiet machine
    # counted in the spreadsheet itself, sheet "Raw data"
    assert predictions.num_rows == 4687
    assert sum(predictions["correct"].to_pylist()) == 4487
    assert len(set(predictions["clip"].to_pylist())) == 321
    assert len(set(predictions["reader"].to_pylist())) == 135
    assert (
        sum(t >= 135 for t in predictions["trial"].to_pylist()) == 66
    )  # clips judged a second time by the same person


def test_a_reading_sheet_s_csv_names_clips_anonymously_and_says_how_they_were_read(tmp_path):
    data, tables = small(tmp_path)
    assert {c.label for c in LISTED}.isdisjoint(anonymous("dog")) and anonymous("1-10-A") != anonymous("1-11-A")
    text = (
        "clip,reader,label,rendering,seconds,answered_at,position\n"
        f"{anonymous('1-10-A')},ann,dog,paper,2.5,2026-11-20T19:00:00.000Z,1\n"
        f"{anonymous('1-11-A')},ann,dog,paper,,,2\n"
        "2-12-A,bob,rain,,1,2026-11-20T21:00:00+02:00,\n"
    )
    rows = run(write(tmp_path, text), "h", data, tables).to_pylist()
    at = datetime(2026, 11, 20, 19, tzinfo=UTC)
    told = ("clip", "reader", "correct", "rendering", "seconds", "answered_at")
    assert [tuple(r[name] for name in told) for r in rows] == [
        ("1-10-A", "ann", True, "paper", 2.5, at),
        ("1-11-A", "ann", False, "paper", None, None),
        ("2-12-A", "bob", False, None, 1.0, at),
    ]


@pytest.mark.parametrize("given", ["soon,", "1,yesterday"])
def test_times_that_are_none_are_refused(tmp_path, given):
    data, tables = small(tmp_path)
    spec = write(tmp_path, f"clip,reader,label,seconds,answered_at\n1-10-A,ann,dog,{given}\n")
    with pytest.raises(BadDataset, match=r"line 2 must give seconds as a number and answered_at as a time, got"):
        run_fold(spec, "h", 1, data, tables)
