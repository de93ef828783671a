"""Numbers, charts and images for the previews of a step's tables in the Dagster UI."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import GALLERY_RECIPE, clip_gallery, contact_sheet
from vlm_audio_pipeline.reports import figures
from vlm_audio_pipeline.reports.page.image_axes import describe_axes

Values = dict[str, float | bytes | str]
"""Numbers, PNG images and sentences, by title."""

AXES = "axes of the images"
"""Title of the sentence about the axes of images that show none."""

_IMAGES_PER_CLASS = 4
_MAX_CLASSES = 60
"""Maximum number of rows of a contact sheet; clips with several classes have hundreds of combinations of them."""
_ACCURACY = "accuracy (share of 1)"


def preview_figures(tables: Mapping[str, pa.Table], dataset: Dataset) -> Values:
    """Return the numbers and PNG images that the preview of tables shows, by title, in display order."""
    values: Values = {}
    for name, table in tables.items():
        if name in _FIGURES and table.num_rows:
            values |= _FIGURES[name](table, dataset)
    return values


def _clips(table: pa.Table, dataset: Dataset) -> Values:
    rows = table.to_pylist()
    axes = describe_axes("", GALLERY_RECIPE, rows)
    return {"images": clip_gallery(dataset, rows), **({AXES: axes} if axes else {})}


def axes_of_rendering(name: str, recipe: Recipe | None, clips: pa.Table) -> Values:
    """Return a sentence about the axes of the images of a rendering or control; {} if the images show their axes.

    Args:
        name: name of the rendering or control.
        recipe: its recipe, if it is known.
        clips: rows of `clips` with `duration_s` and `sample_rate_hz`.
    """
    axes = describe_axes(name, recipe, clips.select(["duration_s", "sample_rate_hz"]).to_pylist())
    return {AXES: axes} if axes else {}


def _spectrograms(table: pa.Table, dataset: Dataset) -> Values:
    """Return a contact sheet with the first images of each class."""
    labels = {clip.id: clip.label for clip in dataset.clips}
    rows: dict[str, list[tuple[str, bytes]]] = {}
    for clip, image in zip(table["clip"], table["image"], strict=True):
        row = rows.setdefault(labels[clip.as_py()], [])
        if len(row) < _IMAGES_PER_CLASS:
            row.append((labels[clip.as_py()], image.as_py()))
    return {"images": contact_sheet([image for row in list(rows.values())[:_MAX_CLASSES] for image in row])}


def _predictions(table: pa.Table, _dataset: Dataset) -> Values:
    rows = figures.default_rows(table)
    return {_ACCURACY: round(sum(rows["correct"].to_pylist()) / rows.num_rows, 4)} if rows.num_rows else {}


def _metrics(table: pa.Table, _dataset: Dataset) -> Values:
    accuracy = figures.overall_accuracy(table)
    return {} if accuracy is None else {_ACCURACY: accuracy}


def _confusion(table: pa.Table, dataset: Dataset) -> Values:
    return {"confusion": figures.confusion_chart(table, dataset.classes)}


def _leaderboard(table: pa.Table, _dataset: Dataset) -> Values:
    return dict(figures.measure_charts(table))


_FIGURES: dict[str, Callable[[pa.Table, Dataset], Values]] = {
    "clips": _clips,
    "spectrograms": _spectrograms,
    "predictions": _predictions,
    "metrics": _metrics,
    "confusion": _confusion,
    "leaderboard": _leaderboard,
}
