"""The frame around the data, drawn by matplotlib once per (recipe, axes, colour limits).

Belongs here: ticks, labels, title and the outlines of the axes. Does not belong here: the data.

matplotlib takes tens of milliseconds per figure and is not thread-safe. It draws under a lock, with white instead of
the data, and the result is cached. Within its axes it draws only the outline, with lines of whole pixels: every pixel
that stays white belongs to the data, and no pixel is half frame and half data.
"""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.renderings.axes import Scale
from vlm_audio_pipeline.renderings.colors import color_label
from vlm_audio_pipeline.renderings.fonts import font_families, refuse_missing_glyphs
from vlm_audio_pipeline.renderings.layout import TEXT_POINTS, Box
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.transforms import TRANSFORMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MATPLOTLIB_LOCK = Lock()
"""Held while matplotlib draws, because it is not thread-safe."""
_CACHED_FRAMES = 128  # 0.3 MB each at 640 x 480; a fold with clips of many lengths needs tens of frames
_MIN_TICK_DISTANCE = 0.06  # share of the height
_STYLE_GROUPS = (
    *("agg", "axes", "figure", "font", "image", "lines", "mathtext", "patch", "path", "pcolor", "pcolormesh", "text"),
    *("xtick", "ytick"),
)


@dataclass(frozen=True)
class Frame:
    """A drawn frame.

    Attributes:
        greys: (height, width) uint8, 0 black to 255 white; read-only.
        data: the pixels inside the axes, which the data fill.
        colorbar: the pixels that the colours of the colorbar fill, or None.
        waveform: the pixels that the waveform fills, or None.
    """

    greys: np.ndarray
    data: Box
    colorbar: Box | None
    waveform: Box | None = None


def draw_frame(recipe: Recipe, time: Scale, rows: Scale, limits: tuple[float, float] | None, title: str) -> Frame:
    """Draw the frame of an image, or take it from the cache.

    Args:
        recipe: a recipe with a frame.
        time: axis of time, s.
        rows: axis of frequencies, Hz, or of coefficients.
        limits: values of the lowest and highest colour, where there is a colorbar.
        title: drawn above the data if the recipe has a title.
    """
    with MATPLOTLIB_LOCK:
        return _cached_frame(recipe, time, rows, limits, title)


@lru_cache(maxsize=_CACHED_FRAMES)
def _cached_frame(recipe: Recipe, time: Scale, rows: Scale, limits: tuple[float, float] | None, title: str) -> Frame:
    from matplotlib import rc_context

    layout = recipe.layout
    texts = [recipe.frame.time_label, row_label(recipe), color_label(recipe), title] if recipe.frame != "none" else []
    refuse_missing_glyphs(texts)
    with rc_context({**frame_style(recipe.dpi), "font.family": font_families(texts)}):
        greys = _rasterise(frame_figure(recipe, time, rows, limits, title))
    greys.setflags(write=False)
    boxes = (layout.colorbar, layout.waveform)
    return Frame(greys, _white_part(greys, layout.data), *(box and _white_part(greys, box) for box in boxes))


def _white_part(greys: np.ndarray, box: Box) -> Box:
    """Return the box without the outline that is drawn on its outermost pixels."""
    white = greys[box.slices] == 255
    lines, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    return Box(
        box.left + int(columns[0]),
        box.top + int(lines[0]),
        box.left + int(columns[-1]) + 1,
        box.top + int(lines[-1]) + 1,
    )


def _rasterise(figure: "Figure") -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # matplotlib has no types here
    pixels = np.asarray(canvas.buffer_rgba())  # matplotlib has no types here
    return pixels[:, :, 0].copy()


def frame_figure(recipe: Recipe, time: Scale, rows: Scale, limits: tuple[float, float] | None, title: str) -> "Figure":
    """Build the figure of a frame, with the style of `frame_style`. Its axes are those of the data, the colorbar and the waveform.

    Args:
        recipe: a recipe with a frame.
        time: axis of time, s.
        rows: axis of frequencies, Hz, or of coefficients.
        limits: values of the lowest and highest colour, where there is a colorbar.
        title: drawn above the data if the recipe has a title.
    """
    from matplotlib.figure import Figure

    parts, layout = recipe.frame, recipe.layout
    assert not isinstance(parts, str)
    figure = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
    axes = _add_axes(figure, layout.data, recipe)
    axes.set(xlim=(time.low, time.high))
    set_row_axis(axes, rows, hz_per_unit(recipe))
    if parts.labels:
        axes.set_xlabel(parts.time_label, parse_math=False)
        axes.set_ylabel(row_label(recipe), parse_math=False)
    if not parts.ticks:
        axes.set(xticks=[], yticks=[])
        axes.minorticks_off()
    top_axes = axes
    if layout.waveform is not None:
        top_axes = _add_axes(figure, layout.waveform, recipe)
        top_axes.set(xticks=[], yticks=[])
    if parts.title:
        top_axes.set_title(title or "Spectrogram", parse_math=False)
    if layout.colorbar is not None and limits is not None:
        colorbar = _add_axes(figure, layout.colorbar, recipe)
        colorbar.set(xticks=[], ylim=limits)
        colorbar.yaxis.tick_right()
        colorbar.yaxis.set_label_position("right")
        if parts.labels:
            colorbar.set_ylabel(color_label(recipe), parse_math=False)
        if not parts.ticks:
            colorbar.set_yticks([])
    return figure


def frame_style(dpi: int) -> Any:
    """Return matplotlib's default style with lines of whole pixels; a user's own style has no influence."""
    line = max(1, round(0.8 * dpi / 72)) * 72 / dpi
    lines = dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), line)
    text = {"font.size": TEXT_POINTS, "axes.titlesize": 1.2 * TEXT_POINTS, "font.family": "DejaVu Sans"}
    return {**default_style(), **lines, **text, "axes.unicode_minus": True}


def default_style() -> Any:
    """Return matplotlib's default style, so that a user's own style has no influence."""
    import matplotlib

    return {k: v for k, v in dict(matplotlib.rcParamsDefault).items() if k.split(".")[0] in _STYLE_GROUPS}


def _add_axes(figure: "Figure", box: Box, recipe: Recipe) -> "Axes":
    left, bottom = box.left / recipe.width, 1 - box.bottom / recipe.height
    return figure.add_axes((left, bottom, box.width / recipe.width, box.height / recipe.height))


def row_label(recipe: Recipe) -> str:
    """Return the name of the axis of frequencies or coefficients: that of the frame, or that of the transform."""
    if recipe.frame == "none":
        return TRANSFORMS[recipe.transform].axis_label()
    own = recipe.frame.row_label
    return TRANSFORMS[recipe.transform].axis_label(recipe.frame.frequency_unit) if own is None else own


def hz_per_unit(recipe: Recipe) -> float:
    """Return the frequency that the number 1 on the axis stands for, Hz: 1, or 1000 for kHz. Other axes have 1."""
    is_khz = recipe.frame != "none" and recipe.frame.frequency_unit == "kHz"
    return 1000.0 if is_khz and TRANSFORMS[recipe.transform].unit == "Hz" else 1.0


def set_row_axis(axes: "Axes", rows: Scale, divisor: float = 1.0) -> None:
    """Set scale, limits and ticks of the axis of frequencies or coefficients; the numbers are divided by `divisor`."""
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        ScalarFormatter,
        SymmetricalLogLocator,
    )

    axes.set_yscale(**rows.matplotlib_arguments())
    axes.set_ylim(rows.low, rows.high)
    if rows.is_integer:
        axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True))
    elif rows.name != "linear":
        octaves = LogLocator(base=2) if rows.name == "log" else SymmetricalLogLocator(axes.yaxis.get_transform())
        axes.yaxis.set_major_locator(octaves)
        ticks = [tick for tick in octaves() if rows.low <= tick <= rows.high]
        if len(ticks) < 2 or rows.high <= rows.threshold:  # too narrow for powers of two
            axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
    if divisor != 1.0:
        if rows.name != "linear":  # powers of two of kHz, not of Hz
            axes.yaxis.set_major_locator(FixedLocator(_octave_ticks(rows, divisor)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value / divisor:.4g}"))


def _octave_ticks(rows: Scale, unit: float) -> list[float]:
    """Return 0 and powers of two of a unit: those on the axis, from its upper end down to where they would overlap."""
    octaves = [unit * 2.0**k for k in range(-5, 10) if rows.low <= unit * 2.0**k <= rows.high]
    chosen: list[float] = []
    above = 2.0
    for tick in reversed(octaves):
        position = float(rows.positions(np.array([tick]))[0])
        if above - position < _MIN_TICK_DISTANCE:
            break
        chosen, above = [tick, *chosen], position
    shows_zero = rows.low <= 0 and above - float(rows.positions(np.array([0.0]))[0]) >= _MIN_TICK_DISTANCE
    return [0.0, *chosen] if shows_zero else chosen
