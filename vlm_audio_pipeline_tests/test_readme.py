"""The result tables of README and docs/results.md agree, and the helper that compares them with a leaderboard checks every row."""

import pytest

from vlm_audio_pipeline_tests.readme import README, RESULTS, assert_figures_agree, read_figures

SAME_ROWS = {
    "crowd annotators (they labelled 321 of the 400 clips)": "crowd annotators (they labelled 321 of the 400 clips)",
    "BirdNET 2.4, trained on bird sounds: linear probe on its mean embedding; C chosen inside the training folds": "linear probe, C chosen inside the training folds",
    "the same with C = 0.01": "linear probe with C = 0.01",
    "Whisper base, trained on speech: linear probe on the encoder's mean hidden state": "linear probe on the mean of the encoder's last hidden states",
    "linear probe on MFCC, deltas, zero crossings, log-mel; C chosen inside the training folds": "linear probe on MFCC, deltas, zero crossings, log-mel; C chosen inside the training folds",
    "linear probe on the pixels of the image, rendered as in the paper": "linear probe on the pixels of the image, rendered as in the paper",
}
"""Row of the table in README -> the row of docs/results.md with the same figures."""


def test_every_row_of_the_readme_has_the_figures_of_the_results():
    headers = (
        "| ESC-10, 400 clips |",
        *(f"| {model} on ESC-10, 400 clips |" for model in ("BirdNET 2.4", "Whisper base")),
    )
    results = {label: cells for header in headers for label, cells in read_figures(RESULTS, header).items()}
    assert read_figures(README, "| ESC-10, 400 clips |") == {
        label: results[in_results][:3]  # accuracy, interval, correct / total
        for label, in_results in SAME_ROWS.items()
    }


PAGE = """
| clips | accuracy | 95 % interval | correct / total |
|---|---|---|---|
| probe on audio | 0.750 | 0.500 – 1.000 | 3 / 4 |
| k-NN | 0.250 | 0.000 – 0.500 | 1 / 4 |
"""
PROBE = {"accuracy": 0.75, "accuracy_low": 0.5, "accuracy_high": 1.0, "correct": 3, "predictions": 4}
NEAREST = {"accuracy": 0.25, "accuracy_low": 0.0, "accuracy_high": 0.5, "correct": 1, "predictions": 4}


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_rows_with_the_figures_of_the_leaderboard_agree(page):
    assert_figures_agree(page, "| clips |", {"probe": PROBE, "k-NN": NEAREST})
    assert_figures_agree(page, "| clips |", {"probe": PROBE}, other_rows=["k-NN"])


@pytest.mark.parametrize(
    ("rows", "other_rows"),
    [
        ({"probe": PROBE}, []),  # nothing checks the row of k-NN
        ({"probe": PROBE, "k-NN": NEAREST, "zero-shot": NEAREST}, []),  # the page has no such row
        ({"probe": PROBE}, ["k-NN", "annotators"]),
        ({"probe": PROBE, "probe on": PROBE, "k-NN": NEAREST}, []),  # two rows of the leaderboard for one of the page
        ({"": PROBE}, []),  # two rows of the page for one of the leaderboard
        ({"probe": PROBE, "k-NN": NEAREST | {"accuracy": 0.251}}, []),
        ({"probe": PROBE, "k-NN": NEAREST | {"accuracy_high": 0.501}}, []),
        ({"probe": PROBE, "k-NN": NEAREST | {"predictions": 5}}, []),
    ],
)
def test_every_other_table_is_refused(page, rows, other_rows):
    with pytest.raises(AssertionError):
        assert_figures_agree(page, "| clips |", rows, other_rows=other_rows)
