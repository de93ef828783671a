import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.csv_columns import Columns, guess_columns


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        (["path", "label"], [], Columns()),
        (
            ["filename", "fold", "target", "category", "esc10", "src_file", "take"],  # ESC-50's own
            [["1-1-A-0.wav", "1", "0", "dog", "True", "1", "A"]],
            Columns(path="filename", label="category", source="src_file"),
        ),
        (
            ["Recording", "Class", "Onset", "Offset", "thing"],
            [["r1", "dog", "0.5", "2", "x.WAV"], ["r2", "cat", "", "1", "y.flac"]],
            Columns(path="thing", label="Class", source="Recording", start="Onset", end="Offset"),
        ),
        # a split by name is no fold, and clock times are no seconds
        (
            ["file", "label", "fold", "start"],
            [["a.wav", "dog", "train", "0:01"]],
            Columns(path="file", fold=None),
        ),
    ],
)
def test_columns_are_guessed(header, rows, expected):
    assert guess_columns(header, rows) == expected


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ["a", "label"],
            r"a csv must have a column with the path of each clip, got none among a, label; name it `path`",
        ),
        (
            ["file", "b"],
            r"a csv must have a column with the label of each clip, got none among file, b; name it `label`",
        ),
    ],
)
def test_columns_that_cannot_be_guessed(header, message):
    with pytest.raises(BadDataset, match=message):
        guess_columns(header, [["x", "y"]])
