"""What is drawn around the data, by matplotlib, once for each (recipe, axes, limits of colours).

What belongs here: where the data and the colorbar lie, to the pixel, and the greys around them. What does not: the data.

matplotlib costs tens of milliseconds a figure and is not safe in threads: it draws under a lock, white in place of the
data, and what it drew is kept. Within its axes only their outline is drawn, by lines of whole pixels: what stayed white
is the data's, and no pixel is half frame and half data.
"""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.axes import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from vlm_audio_pipeline.renderings.recipe import Recipe

POINTS = 10.0
"""Size of text, points of 1/72 inch."""

_LOCK = Lock()
_KEPT = 128  # frames, 0.3 MB each at 640 x 480: a fold of clips of many lengths has tens


_STEP = 8  # pixels


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, from the top left corner of the picture: right and bottom are the first pixels outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    @property
    def window(self) -> tuple[slice, slice]:
        """Lines and columns, to index an array of the picture with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Layout:
    """Where the axes of the data and of the colorbar lie; their outlines are drawn on their outermost pixels."""

    data: Box
    colorbar: Box | None


@dataclass(frozen=True)
class Frame:
    """What matplotlib drew.

    Attributes:
        greys: (height, width) uint8, 0 black to 255 white.
        data: the pixels within the axes that the data fill.
        colorbar: those that the colours of the colorbar fill, or None.
    """

    greys: np.ndarray
    data: Box
    colorbar: Box | None


def layout(recipe: "Recipe") -> Layout:
    """Divide a picture between its data and what is around them.

    Margins are counted in heights of the text and depend on the recipe alone, so that the data lie at the same pixels
    in all pictures of a rendering. The data are multiples of 8 pixels wide and high: with as many frames as clips
    usually have, no edge of a cell then falls on the middle of a pixel, where the last bit would decide.

    Raises:
        VlmAudioError: where less than 16 pixels would be left for the data; as a ValueError too, for specs.
    """
    parts = recipe.frame
    if isinstance(parts, str):
        return Layout(Box(0, 0, recipe.width, recipe.height), None)
    em = POINTS * recipe.dpi / 72
    left = 0.8 + 3.9 * parts.ticks + 1.6 * parts.labels
    bottom = 0.8 + 1.4 * parts.ticks + 1.4 * parts.labels
    top = 0.8 + 1.6 * parts.title
    bar = (1.2, 1.4) if parts.colorbar else (0.0, 0.0)  # gap, width
    right = 1.4 + (2.9 * parts.ticks + 1.6 * parts.labels if parts.colorbar else 0)
    outer = recipe.width - round(right * em)
    across = (outer - round(sum(bar) * em) - round(left * em)) // _STEP * _STEP
    upward = (recipe.height - round(bottom * em) - round(top * em)) // _STEP * _STEP
    end, base = outer - round(sum(bar) * em), recipe.height - round(bottom * em)
    data = Box(end - across, base - upward, end, base)
    if min(data.width, data.height) < 16:
        raise TooSmall(
            f"width and height must leave 16 x 16 pixels for the data, got {recipe.width} x {recipe.height}, of which "
            f"{max(0, data.width)} x {max(0, data.height)} are left; enlarge them, lower dpi, or use frame: none"
        )
    colorbar = Box(outer - round(bar[1] * em), data.top, outer, data.bottom) if parts.colorbar else None
    return Layout(data, colorbar)


class TooSmall(VlmAudioError, ValueError):
    """A picture without room for its data."""


def frame(recipe: "Recipe", time: Scale, rows: Scale, limits: tuple[float, float] | None, title: str) -> Frame:
    """Give the frame of a picture, drawn now or kept from before.

    Args:
        recipe: a recipe with a frame.
        time: axis of times, s.
        rows: axis of frequencies, Hz, or of coefficients.
        limits: values of the lowest and highest colour, where there is a colorbar.
        title: drawn above the data where the recipe has a title.
    """
    with _LOCK:
        return _drawn(recipe, time, rows, limits, title)


@lru_cache(maxsize=_KEPT)
def _drawn(recipe: "Recipe", time: Scale, rows: Scale, limits: tuple[float, float] | None, title: str) -> Frame:
    from matplotlib import rc_context

    where = layout(recipe)
    with rc_context(style(recipe.dpi)):
        greys = _greys(figure(recipe, time, rows, limits, title))
    greys.setflags(write=False)
    return Frame(greys, _free(greys, where.data), None if where.colorbar is None else _free(greys, where.colorbar))


def _free(greys: np.ndarray, box: Box) -> Box:
    """Give the pixels of a box that nothing is drawn on: the box without its outline."""
    white = greys[box.window] == 255
    lines, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    return Box(
        box.left + int(columns[0]),
        box.top + int(lines[0]),
        box.left + int(columns[-1]) + 1,
        box.top + int(lines[-1]) + 1,
    )


def _greys(drawing: "Figure") -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, 0].copy()


def figure(recipe: "Recipe", time: Scale, rows: Scale, limits: tuple[float, float] | None, title: str) -> "Figure":
    """Build the figure of a frame, within `style`: its first axes are empty for the data, its second for the colorbar.

    Args:
        recipe: a recipe with a frame.
        time: axis of times, s.
        rows: axis of frequencies, Hz, or of coefficients.
        limits: values of the lowest and highest colour, where there is a colorbar.
        title: drawn above the data where the recipe has a title.
    """
    from matplotlib.figure import Figure

    parts = recipe.frame
    assert not isinstance(parts, str)
    where = layout(recipe)
    drawing = Figure(figsize=(recipe.width / recipe.dpi, recipe.height / recipe.dpi), dpi=recipe.dpi)
    axes = _axes(drawing, where.data, recipe)
    axes.set(xlim=(time.low, time.high))
    _frequency_axis(axes, rows)
    if parts.labels:
        axes.set_xlabel("Time (s)")
        axes.set_ylabel("Coefficient" if recipe.transform == "mfcc" else "Frequency (Hz)")
    if not parts.ticks:
        axes.set(xticks=[], yticks=[])
        axes.minorticks_off()
    if parts.title:
        axes.set_title(title or "Spectrogram", parse_math=False)
    if where.colorbar is not None and limits is not None:
        bar = _axes(drawing, where.colorbar, recipe)
        bar.set(xticks=[], ylim=limits)
        bar.yaxis.tick_right()
        bar.yaxis.set_label_position("right")
        if parts.labels:
            bar.set_ylabel(_unit(recipe))
        if not parts.ticks:
            bar.set_yticks([])
    return drawing


def _unit(recipe: "Recipe") -> str:
    if recipe.transform == "mfcc":
        return "Value"
    return {"db": "Level (dB)", "linear": "Amplitude", "power": "Power"}[recipe.amplitude]


def style(dpi: int) -> Any:
    """Give matplotlib's default style, whatever a person's own is, with lines of whole pixels."""
    import matplotlib

    line = max(1, round(0.8 * dpi / 72)) * 72 / dpi
    lines = dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), line)
    text = {"font.size": POINTS, "axes.titlesize": 1.2 * POINTS, "font.family": "DejaVu Sans"}
    default: dict[str, Any] = {k: v for k, v in dict(matplotlib.rcParamsDefault).items() if k.split(".")[0] in _STYLED}
    return {**default, **lines, **text, "axes.unicode_minus": True}


_STYLED = ("axes", "figure", "font", "lines", "mathtext", "patch", "path", "text", "xtick", "ytick")


def _axes(drawing: "Figure", box: Box, recipe: "Recipe") -> "Axes":
    left, bottom = box.left / recipe.width, 1 - box.bottom / recipe.height
    return drawing.add_axes((left, bottom, box.width / recipe.width, box.height / recipe.height))


def _frequency_axis(axes: "Axes", rows: Scale) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter, SymmetricalLogLocator

    axes.set_yscale(**rows.matplotlib())
    axes.set_ylim(rows.low, rows.high)
    if rows.whole:
        axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10], integer=True))
    elif rows.name != "linear":
        octaves = LogLocator(base=2) if rows.name == "log" else SymmetricalLogLocator(axes.yaxis.get_transform())
        axes.yaxis.set_major_locator(octaves)
        inside = [tick for tick in octaves() if rows.low <= tick <= rows.high]
        if len(inside) < 2 or rows.high <= rows.threshold:  # f_min and f_max leave too little for powers of two
            axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
