import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vlm_audio_pipeline.reports.figures import accuracy_chart, confusion_chart, headline
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.reports.rows import BEST, NOT_RUN, PART, leaderboard

BAR, PALE = (0x2F, 0x6F, 0x9F), (0xB8, 0xC4, 0xCE)


def picture(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return np.asarray(image.convert("RGB"))


def width_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Columns in which a colour occurs, from the first to the last."""
    columns = np.flatnonzero((pixels == colour).all(axis=2).any(axis=0))
    return 0 if not len(columns) else int(columns[-1] - columns[0] + 1)


def test_bars_are_as_long_as_accuracies():
    pixels = picture(accuracy_chart(leaderboard(BEST, PART, NOT_RUN)))
    # 7.5 inches at 110 dots an inch; 0.9 inch and 0.42 a row
    assert pixels.shape == (round((0.9 + 3 * 0.42) * 110 - 0.5), 825, 3)
    full, tenth = width_of(pixels, BAR), width_of(pixels, PALE)
    assert full / tenth == pytest.approx(0.75 / 0.1, rel=0.05)


def test_text_is_not_taken_for_formulas():
    row = {**NOT_RUN, "note": r"not run: $\nonsense{$ is not set"}
    assert picture(accuracy_chart(leaderboard(row, {**BEST, "classifier": r"$\frac$"}))).size


def test_a_row_that_was_not_run_has_words_and_no_bar():
    pixels = picture(accuracy_chart(leaderboard(NOT_RUN)))
    assert width_of(pixels, BAR) == width_of(pixels, PALE) == 0
    nameless = picture(accuracy_chart(leaderboard({**NOT_RUN, "classifier": "", "note": ""})))
    assert (pixels != nameless).any()


def test_charts_of_nothing():
    assert picture(accuracy_chart(leaderboard())).shape[1] == 825
    assert picture(confusion_chart(TABLES["confusion"].empty(), ("a", "b"))).size


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
        pixels = picture(png)
        return np.argwhere((pixels == darkest).all(axis=2)).mean(axis=0)

    (y_ab, x_ab), (y_ba, x_ba) = middle(chart), middle(other)
    assert y_ab < y_ba  # true a is the upper row
    assert x_ab > x_ba  # predicted b the right column


def test_controls_are_not_in_the_confusion():
    real = ("none", "a", "a", 3)
    assert confusion_chart(confusion(real, ("blank", "a", "b", 9)), ("a", "b")) == confusion_chart(
        confusion(real), ("a", "b")
    )


def scored(scoring: str, *rows: tuple[str, str, str, int]) -> pa.Table:
    table = confusion(*rows)
    return table.set_column(table.schema.get_field_index("scoring"), "scoring", pa.array([scoring] * len(rows)))


def test_only_one_scoring_is_drawn_and_no_baseline():
    """A model asked in two ways, beside the vote of its examples: every clip counts once."""
    meant, other = ("none", "a", "a", 3), ("none", "a", "b", 9)
    every = [scored("examples_knn", other), scored("generation", other), scored("likelihood", meant)]
    assert confusion_chart(pa.concat_tables(every), ("a", "b")) == confusion_chart(confusion(meant), ("a", "b"))


def test_rows_of_one_classifier_have_names_of_their_own():
    rows = [{**BEST, "classifier": "janus", "scoring": s} for s in ("likelihood", "generation", "examples_knn")]
    one = picture(accuracy_chart(leaderboard(*rows)))
    same = picture(accuracy_chart(leaderboard(*[{**r, "scoring": "score"} for r in rows])))
    assert (one.shape == same.shape) and (one != same).any(), "the scoring is written"


def test_outcomes_without_a_label_have_columns_of_their_own():
    plain = picture(confusion_chart(confusion(("none", "a", "a", 3)), ("a", "b")))
    more = picture(confusion_chart(confusion(("none", "a", "a", 3), ("none", "b", "(error)", 1)), ("a", "b")))
    assert more.shape[1] - plain.shape[1] == pytest.approx(0.42 * 110, abs=1)


def test_headline():
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

    assert headline(metrics()) == 0.6667
    assert headline(metrics(value=None)) is None
    assert headline(metrics(control="blank")) is None
    assert headline(metrics(subset="fold 1")) is None
    assert headline(metrics().slice(0, 0)) is None
    baseline, model = metrics(scoring="examples_knn", value=0.5), metrics(scoring="likelihood", value=1.0)
    assert headline(pa.concat_tables([baseline, model, metrics(scoring="generation", value=0.75)])) == 1.0
