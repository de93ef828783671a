import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.csv_columns import Columns, guess_columns


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        (["path", "label"], [], Columns()),
        (
            ["filename", "fold", "target", "category", "esc10", "src_file", "take"],  # the columns of ESC-50
            [["1-1-A-0.wav", "1", "0", "dog", "True", "1", "A"]],
            Columns(path="filename", label="category", source="src_file"),
        ),
        (
            ["Recording", "Class", "Onset", "Offset", "thing"],
            [["r1", "dog", "0.5", "2", "x.WAV"], ["r2", "cat", "", "1", "y.flac"]],
            Columns(path="thing", label="Class", source="Recording", start="Onset", end="Offset"),
        ),
        # a split name is not a fold number, and clock times are not seconds
        (
            ["file", "label", "fold", "start"],
            [["a.wav", "dog", "train", "0:01"]],
            Columns(path="file", fold=None),
        ),
    ],
)
def test_columns_are_recognised(header, rows, expected):
    assert guess_columns(header, rows) == expected


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ["a", "label"],
            r"no column of the CSV \(a, label\) seems to contain the path of each clip; name one `path`",
        ),
        (
            ["file", "b"],
            r"no column of the CSV \(file, b\) seems to contain the label of each clip; name one `label`",
        ),
    ],
)
def test_a_csv_without_a_path_or_label_column_is_refused(header, message):
    with pytest.raises(BadDataset, match=message):
        guess_columns(header, [["x", "y"]])
