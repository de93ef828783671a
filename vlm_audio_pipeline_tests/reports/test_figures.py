import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vlm_audio_pipeline.reports.figures import confusion_chart, measure_charts, overall_accuracy
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.reports.leaderboard_rows import NOT_RUN, PARTIAL, RANKED, leaderboard

BAR, PALE = (0x2F, 0x6F, 0x9F), (0xB8, 0xC4, 0xCE)


def image(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return np.asarray(image.convert("RGB"))


def accuracy_chart(leaderboard: pa.Table) -> bytes:
    [(name, png)] = measure_charts(leaderboard).items()
    assert name == "accuracy"
    return png


def bar_width(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Columns in which a colour occurs, from the first to the last."""
    columns = np.flatnonzero((pixels == colour).all(axis=2).any(axis=0))
    return 0 if not len(columns) else int(columns[-1] - columns[0] + 1)


def test_bars_are_as_long_as_accuracies():
    pixels = image(accuracy_chart(leaderboard(RANKED, PARTIAL, NOT_RUN)))
    # 7.5 inches at 110 dots an inch; 0.9 inch and 0.42 a row
    assert pixels.shape == (round((0.9 + 3 * 0.42) * 110 - 0.5), 825, 3)
    full, tenth = bar_width(pixels, BAR), bar_width(pixels, PALE)
    assert full / tenth == pytest.approx(0.75 / 0.1, rel=0.05)


def test_accuracies_have_their_intervals():
    narrow, wide = ({**RANKED, "accuracy_low": low, "accuracy_high": high} for low, high in ((0.74, 0.76), (0.4, 0.95)))
    none = {**RANKED, "accuracy_low": None, "accuracy_high": None}

    def bar_length_beside_the_line(row) -> int:
        """The smallest number of blue dots in a line of the bar: the interval hides the others."""
        counts = (image(accuracy_chart(leaderboard(row))) == BAR).all(axis=2).sum(axis=1)
        return int(counts[counts > 0].min())

    without = bar_length_beside_the_line(none)
    assert bar_length_beside_the_line(narrow) > 0.9 * without
    # from 0.4 to the end of the bar at 0.75
    assert bar_length_beside_the_line(wide) == pytest.approx(0.4 / 0.75 * without, rel=0.1)


def test_text_is_not_parsed_as_formulas():
    row = {**NOT_RUN, "note": r"not run: $\nonsense{$ is not set"}
    assert image(accuracy_chart(leaderboard(row, {**RANKED, "classifier": r"$\frac$"}))).size


def test_a_row_that_was_not_run_has_a_note_and_no_bar():
    pixels = image(accuracy_chart(leaderboard(NOT_RUN)))
    assert bar_width(pixels, BAR) == bar_width(pixels, PALE) == 0
    nameless = image(accuracy_chart(leaderboard({**NOT_RUN, "classifier": "", "note": ""})))
    assert (pixels != nameless).any()


def test_charts_of_empty_tables():
    assert image(accuracy_chart(leaderboard())).shape[1] == 825
    assert image(confusion_chart(TABLES["confusion"].empty_table(), ("a", "b"))).size


def confusion(*rows: tuple[str, str, str, int]) -> pa.Table:
    names = ("control", "label", "predicted", "count")
    return pa.Table.from_pylist(
        [{"study": "s", "classifier": "c", "scoring": "score", **dict(zip(names, row, strict=True))} for row in rows],
        TABLES["confusion"].arrow,
    )


def test_confusion_counts_shade_their_cells():
    chart = confusion_chart(confusion(("none", "a", "b", 5)), ("a", "b"))
    other = confusion_chart(confusion(("none", "b", "a", 5)), ("a", "b"))
    darkest = (0x08, 0x30, 0x6B)  # the end of matplotlib's Blues

    def middle(png):
        pixels = image(png)
        return np.argwhere((pixels == darkest).all(axis=2)).mean(axis=0)

    (y_ab, x_ab), (y_ba, x_ba) = middle(chart), middle(other)
    assert y_ab < y_ba  # true a is the upper row
    assert x_ab > x_ba  # predicted b the right column


def test_cells_without_numbers_have_a_scale_of_colours():
    def darkest_columns(classes: int) -> np.ndarray:
        names = tuple(f"c{i:02}" for i in range(classes))
        pixels = image(confusion_chart(confusion(("none", "c00", "c00", 5)), names))
        return np.flatnonzero((pixels == (0x08, 0x30, 0x6B)).all(axis=2).any(axis=0)) / pixels.shape[1]

    assert darkest_columns(30).max() < 0.5  # only the cell at the left
    assert darkest_columns(31).max() > 0.8  # and the end of the scale at the right


def test_controls_are_not_in_the_confusion():
    real = ("none", "a", "a", 3)
    assert confusion_chart(confusion(real, ("blank", "a", "b", 9)), ("a", "b")) == confusion_chart(
        confusion(real), ("a", "b")
    )


def confusion_of_scoring(scoring: str, *rows: tuple[str, str, str, int]) -> pa.Table:
    table = confusion(*rows)
    return table.set_column(table.schema.get_field_index("scoring"), "scoring", pa.array([scoring] * len(rows)))


def test_the_confusion_has_one_scoring_and_no_baseline():
    """With two scorings and the k-NN baseline of one model, every clip counts once."""
    meant, other = ("none", "a", "a", 3), ("none", "a", "b", 9)
    every = [
        confusion_of_scoring("examples_knn", other),
        confusion_of_scoring("generation", other),
        confusion_of_scoring("likelihood", meant),
    ]
    assert confusion_chart(pa.concat_tables(every), ("a", "b")) == confusion_chart(confusion(meant), ("a", "b"))


def test_rows_of_one_classifier_have_different_names():
    rows = [{**RANKED, "classifier": "janus", "scoring": s} for s in ("likelihood", "generation", "examples_knn")]
    one = image(accuracy_chart(leaderboard(*rows)))
    same = image(accuracy_chart(leaderboard(*[{**r, "scoring": "score"} for r in rows])))
    assert (one.shape == same.shape) and (one != same).any(), "the scoring is written"


def test_outcomes_without_a_label_have_columns_of_their_own():
    plain = image(confusion_chart(confusion(("none", "a", "a", 3)), ("a", "b")))
    more = image(confusion_chart(confusion(("none", "a", "a", 3), ("none", "b", "(error)", 1)), ("a", "b")))
    assert more.shape[1] - plain.shape[1] == pytest.approx(0.42 * 110, abs=1)


def test_overall_accuracy():
    def metrics(**changes):
        row = {
            "metric": "accuracy",
            "subset": "all",
            "control": "none",
            "label": "",
            "value": 2 / 3,
            "scoring": "score",
        }
        return pa.table({k: [v] for k, v in (row | changes).items()})

    assert overall_accuracy(metrics()) == 0.6667
    assert overall_accuracy(metrics(value=None)) is None
    assert overall_accuracy(metrics(control="blank")) is None
    assert overall_accuracy(metrics(subset="fold 1")) is None
    assert overall_accuracy(metrics().slice(0, 0)) is None
    baseline, model = metrics(scoring="examples_knn", value=0.5), metrics(scoring="likelihood", value=1.0)
    assert overall_accuracy(pa.concat_tables([baseline, model, metrics(scoring="generation", value=0.75)])) == 1.0
