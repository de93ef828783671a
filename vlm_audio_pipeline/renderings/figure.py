"""Images that matplotlib draws as a whole: the default figure of `pyplot.pcolormesh` and `pyplot.colorbar`.

Belongs here: `frame.style: matplotlib`, for images that must equal published ones in every pixel. Does not belong here: the
faster images of all other recipes (`image`), for which matplotlib draws only the frame (`frame`).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.renderings.axes import Scale
from vlm_audio_pipeline.renderings.colors import ColorLimits, color_label, color_values, exact_decibels
from vlm_audio_pipeline.renderings.fonts import font_families, refuse_missing_glyphs
from vlm_audio_pipeline.renderings.frame import MATPLOTLIB_LOCK, default_style, hz_per_unit, row_label, set_row_axis
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_figure(
    spectrum: Spectrum, limits: ColorLimits, recipe: Recipe, time: Scale, rows: Scale, title: str
) -> np.ndarray:
    """Draw an image with matplotlib.

    Args:
        spectrum: the cells.
        limits: values of the lowest and highest colour.
        recipe: a recipe whose frame has the style matplotlib.
        time: axis of time, s.
        rows: axis of frequencies, Hz, or of coefficients.
        title: drawn above the data if the recipe has a title; by default "Spectrogram".

    Returns:
        (height, width, 3) uint8.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    values = _visible_values(spectrum, limits, recipe)
    parts: Any = recipe.frame
    texts = [parts.time_label, row_label(recipe), color_label(recipe), title]
    refuse_missing_glyphs(texts)
    with MATPLOTLIB_LOCK, rc_context({**default_style(), "font.family": font_families(texts)}):
        canvas = FigureCanvasAgg(_figure(spectrum, values, limits, recipe, time, rows, title))
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
    return np.ascontiguousarray(pixels[:, :, :3])


def _visible_values(spectrum: Spectrum, limits: ColorLimits, recipe: Recipe) -> np.ndarray:
    """Return the values that colours represent; NaN where the image stays white."""
    cells = spectrum.cells
    if limits.is_blank:
        return np.full(cells.shape, limits.low, np.float32)
    if spectrum.floor is None or recipe.amplitude != "db":
        values = color_values(cells, spectrum.floor, limits, recipe.amplitude)
    else:
        values = exact_decibels(cells, spectrum.floor, limits.reference)
    return np.where(cells == 0, np.float32(np.nan), values) if recipe.silence == "white" else values


def _figure(
    spectrum: Spectrum, values: np.ndarray, limits: ColorLimits, recipe: Recipe, time: Scale, rows: Scale, title: str
) -> "Figure":
    from matplotlib.figure import Figure

    parts: Any = recipe.frame
    figure = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(
        spectrum.column_edges_s,
        spectrum.row_edges,
        values,
        cmap=recipe.colormap,
        vmin=limits.low,
        vmax=limits.high,
        shading="flat",
    )
    axes.set_xlim(time.low, time.high)
    set_row_axis(axes, rows, hz_per_unit(recipe))
    colorbar = figure.colorbar(mesh) if parts.colorbar else None
    if parts.labels:
        axes.set_xlabel(parts.time_label, parse_math=False)
        axes.set_ylabel(row_label(recipe), parse_math=False)
        if colorbar is not None:
            colorbar.ax.set_ylabel(color_label(recipe), parse_math=False)
    if not parts.ticks:
        axes.set(xticks=[], yticks=[])
        axes.minorticks_off()
        if colorbar is not None:
            colorbar.set_ticks([])
    if parts.title:
        axes.set_title(title or "Spectrogram", parse_math=False)
    return figure
