"""Positions of the data, the colorbar and the frame in an image, in whole pixels.

Belongs here: the parts of a frame and the arithmetic of margins. Does not belong here: drawing them (`frame`).
"""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vlm_audio_pipeline.contracts.errors import VlmAudioError

TEXT_POINTS = 10.0
"""Size of the text of a frame, points of 1/72 inch."""

_STEP = 8  # pixels
_WAVEFORM_SHARE = 1 / 6
"""Height of the waveform, share of its height and that of the data: a fifth of that of the data."""


class FrameParts(BaseModel):
    """The parts of the frame around the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: bool = True
    """Names of the axes, with their units."""
    ticks: bool = True
    """Tick marks and numbers on the axes."""
    title: bool = False
    """The word "Spectrogram" above the data; never the clip's name, which may reveal its class."""
    colorbar: bool = False
    """The scale of colours at the right."""
    waveform: bool = False
    """The waveform above the data, relative to the clip's peak, in a fifth of their height. Blank images have none."""
    frequency_unit: Literal["Hz", "kHz"] = "Hz"
    """Unit of the numbers and the name of the frequency axis."""
    style: Literal["aligned", "matplotlib"] = "aligned"
    """aligned: the axes begin and end on whole pixels, margins fit the text, one frame serves many clips; matplotlib: every image is drawn by matplotlib with its default figure, axes, line widths and colorbar (slower; always a PNG in 24 bits)."""
    time_label: str = "Time (s)"
    """Name of the time axis."""
    row_label: str | None = None
    """Name of the other axis; by default that of the transform: "Frequency (Hz)"."""
    color_label: str | None = None
    """Name of the colorbar; by default the quantity that the colours represent: "Level (dB)"."""


class ImageTooSmall(VlmAudioError, ValueError):
    """An image whose frame leaves too few pixels for the data. Also a ValueError, so that pydantic reports the field."""


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, counted from the top left corner of the image.

    Attributes:
        left: first column.
        top: first line.
        right: first column outside.
        bottom: first line outside.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Number of lines."""
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice]:
        """Lines and columns, to index an array of the image with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class ImageLayout:
    """Positions of the axes of the data, the colorbar and the waveform; their outlines cover their outermost pixels."""

    data: Box
    colorbar: Box | None
    waveform: Box | None = None


def image_layout(width: int, height: int, dpi: int, parts: FrameParts | Literal["none"]) -> ImageLayout:
    """Divide an image between its data and its frame.

    Margins are multiples of the text height and do not depend on the clip, so the data lie at the same pixels in all
    images of a rendering. The width and height of the data are multiples of 8 pixels: with the usual numbers of frames,
    no edge of a cell then lies exactly on the centre of a pixel, where rounding in the last bit would decide its colour.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        dpi: pixels per inch.
        parts: parts of the frame, or "none".

    Raises:
        ImageTooSmall: if fewer than 16 x 16 pixels are left for the data.
    """
    if isinstance(parts, str):
        return ImageLayout(Box(0, 0, width, height), None)
    if parts.style == "matplotlib":
        return _matplotlib_layout(width, height, parts.colorbar)
    em = TEXT_POINTS * dpi / 72
    left = 0.8 + 3.9 * parts.ticks + 1.6 * parts.labels
    bottom = 0.8 + 1.4 * parts.ticks + 1.4 * parts.labels
    top = 0.8 + 1.6 * parts.title
    gap, bar = (1.2, 1.4) if parts.colorbar else (0.0, 0.0)
    right = 1.4 + (2.9 * parts.ticks + 1.6 * parts.labels if parts.colorbar else 0)
    outer = width - round(right * em)
    data_right, data_bottom = outer - round((gap + bar) * em), height - round(bottom * em)
    data_width = (data_right - round(left * em)) // _STEP * _STEP
    data_top = first_line = round(top * em)
    if parts.waveform:
        data_top += round(_WAVEFORM_SHARE * (data_bottom - first_line)) + round(0.5 * em)
    data_height = (data_bottom - data_top) // _STEP * _STEP
    if min(data_width, data_height) < 16:
        raise _too_small_error(width, height, data_width, data_height)
    data = Box(data_right - data_width, data_bottom - data_height, data_right, data_bottom)
    colorbar = Box(outer - round(bar * em), data.top, outer, data.bottom) if parts.colorbar else None
    waveform = Box(data.left, first_line, data.right, data.top - round(0.5 * em)) if parts.waveform else None
    return ImageLayout(data, colorbar, waveform)


def _matplotlib_layout(width: int, height: int, has_colorbar: bool) -> ImageLayout:
    """Return the boxes of matplotlib's default axes and colorbar, each edge at the nearest whole pixel.

    The axes reach from 0.125 to 0.9 of the width and from 0.11 to 0.88 of the height (rcParams `figure.subplot`). A colorbar
    takes 0.15 of the width of the axes, after a gap of 0.05, and is at most a twentieth of its height wide
    (https://matplotlib.org/stable/api/_as_gen/matplotlib.pyplot.colorbar.html).
    """
    left, right, top, bottom = 0.125 * width, 0.9 * width, 0.12 * height, 0.89 * height
    full_width = right - left
    data_right = left + 0.8 * full_width if has_colorbar else right

    def box(left: float, right: float) -> Box:
        return Box(*(math.floor(edge + 0.5) for edge in (left, top, right, bottom)))

    data = box(left, data_right)
    if min(data.width, data.height) < 16:
        raise _too_small_error(width, height, data.width, data.height)
    if not has_colorbar:
        return ImageLayout(data, None)
    bar_left = data_right + 0.05 * full_width
    return ImageLayout(data, box(bar_left, bar_left + min(0.15 * full_width, (bottom - top) / 20)))


def _too_small_error(width: int, height: int, data_width: int, data_height: int) -> ImageTooSmall:
    return ImageTooSmall(
        f"width and height must leave 16 x 16 pixels for the data, got {width} x {height}, of which "
        f"{max(0, data_width)} x {max(0, data_height)} are left; enlarge them, lower dpi, or use frame: none"
    )
