"""One clip -> one picture, fast: transform, scale, quantise, look up, encode.

What belongs here: the way from samples to the bytes of a file. What does not: the frame, which matplotlib draws once
for many clips (`frame`), and running over clips (`recipe`).

A picture is drawn in numbers of colours: 256 levels of the colormap, or 224 and 32 greys where there is a frame, which
keeps the frame within 5 of 255 of what matplotlib drew. Colours are looked up by the reader of the PNG, not here.
"""

import io
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.axes import Scale, between, frequency_scale, nearest, shares
from vlm_audio_pipeline.renderings.frame import Frame, frame, layout
from vlm_audio_pipeline.renderings.png import encode_palette, encode_rgb
from vlm_audio_pipeline.renderings.spectra import Colours, Spectrum, colours, prepared, spectrum, values

if TYPE_CHECKING:
    from vlm_audio_pipeline.renderings.recipe import Recipe

GREYS = 32
"""Colours of the palette that a frame takes."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
        bytes: the file.
        media_type: "image/png" or "image/jpeg".
        width: pixels.
        height: pixels.
    """

    bytes: bytes
    media_type: str
    width: int
    height: int


def render(
    samples: np.ndarray,
    rate_hz: int,
    recipe: "Recipe",
    *,
    title: str = "",
    order: int | None = None,
    empty: bool = False,
) -> Picture:
    """Draw a clip.

    The same samples and recipe give the same bytes in every process and thread (zlib and FreeType being the same).
    Silence is drawn in the lowest colour.

    Args:
        samples: (samples,) float32 mono, 1 = full scale, at least one.
        rate_hz: their rate, Hz; the recipe's, where it has one.
        recipe: how to draw.
        title: drawn where the recipe has a title; by default "Spectrogram".
        order: None, or a seed by which the columns of the transform are put into another order.
        empty: draw the frame that the clip has, and no data: all in the lowest colour.

    Raises:
        VlmAudioError: for no samples, another rate than the recipe's, or frequencies above half the rate.
    """
    if samples.ndim != 1 or not len(samples):
        raise VlmAudioError(f"samples must be one channel of one sample or more, got shape {samples.shape}")
    if recipe.rate is not None and rate_hz != recipe.rate:
        raise VlmAudioError(f"rate_hz must be the recipe's {recipe.rate} Hz, got {rate_hz}; resample first")
    heard = spectrum(prepared(samples, rate_hz, recipe), rate_hz, recipe)
    if order is not None:
        columns = np.random.default_rng(order).permutation(heard.cells.shape[1])
        if (np.diff(columns) == 1).all():  # by chance the very order: of few columns it is not rare
            columns = np.roll(columns, 1)
        heard = replace(heard, cells=heard.cells[:, columns])
    shown = colours(heard, recipe)
    if empty:
        shown = replace(shown, silent=True)
    return encoded(pixels(heard, shown, recipe, title), recipe)


def levels(recipe: "Recipe") -> int:
    """Give how many colours the data have: 256, or 224 beside a frame."""
    return 256 if recipe.frame == "none" else 256 - GREYS


@lru_cache(maxsize=64)
def palette(colormap: str, data: int) -> np.ndarray:
    """Give the colours of a picture: a colormap, and greys from black to white where it is shorter than 256.

    Level k shows the colormap at (k + 1/2) / data: for 256 levels matplotlib's own table, for fewer at most one entry
    of it beside the exact one.

    Returns:
        (256, 3) uint8, read-only.
    """
    from matplotlib import colormaps

    table = np.empty((256, 3), np.uint8)
    table[:data] = colormaps[colormap]((np.arange(data) + 0.5) / data, bytes=True)[:, :3]
    if data < 256:
        table[data:] = np.round(np.linspace(0, 255, 256 - data)).astype(np.uint8)[:, None]
    table.setflags(write=False)
    return table


def scales(heard: Spectrum, recipe: "Recipe") -> tuple[Scale, Scale]:
    """Give the axes of a picture: time, s, and frequency, Hz, or coefficients: whole cells, unless f_min or f_max cut them."""
    time = Scale("linear", float(heard.time_edges[0]), float(heard.time_edges[-1]))
    low, high = float(heard.row_edges[0]), float(heard.row_edges[-1])
    if heard.floor is None:
        return time, Scale("linear", low, high, whole=True)
    if recipe.transform == "stft":
        low = low if recipe.f_min is None else recipe.f_min
        high = high if recipe.f_max is None else recipe.f_max
    return time, frequency_scale(recipe.frequency or "linear", low, high, recipe.transform == "cqt")


def pixels(heard: Spectrum, shown: Colours, recipe: "Recipe", title: str = "") -> np.ndarray:
    """Draw a transformed clip as (height, width) uint8, numbers of `palette(colormap, levels)`."""
    time, rows = scales(heard, recipe)
    where = layout(recipe).data
    count = levels(recipe)
    data = _data(heard, shown, recipe, time, rows, where.width, where.height)
    if recipe.frame == "none":
        return data
    limits = (shown.low, shown.high) if recipe.frame.colorbar else None  # type: ignore[union-attr]
    around = frame(recipe, time, rows, limits, title)
    picture = _grey_numbers(around, count)
    free = around.data
    picture[free.window] = data[
        free.top - where.top : free.bottom - where.top, free.left - where.left : free.right - where.left
    ]
    bar = layout(recipe).colorbar
    if bar is not None and around.colorbar is not None:
        upward = (bar.bottom - 0.5 - np.arange(around.colorbar.top, around.colorbar.bottom)) / bar.height
        picture[around.colorbar.window] = np.minimum(upward * count, count - 1).astype(np.uint8)[:, None]
    return picture


def encoded(picture: np.ndarray, recipe: "Recipe") -> Picture:
    """Write numbers of colours, (height, width) uint8, as the file the recipe asks for."""
    height, width = picture.shape
    table = palette(recipe.colormap, levels(recipe))
    if recipe.format == "palette":
        return Picture(encode_palette(picture, table), "image/png", width, height)
    if recipe.format == "rgb":
        return Picture(encode_rgb(table[picture]), "image/png", width, height)
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(table[picture]).save(file, "JPEG", quality=recipe.quality, subsampling=0)
    return Picture(file.getvalue(), "image/jpeg", width, height)


def _data(
    heard: Spectrum, shown: Colours, recipe: "Recipe", time: Scale, rows: Scale, width: int, height: int
) -> np.ndarray:
    """Give the levels of the data area, (height, width) uint8, high frequencies on top."""
    count = levels(recipe)
    if shown.silent:
        return np.zeros((height, width), np.uint8)
    if recipe.resampling == "nearest":
        columns = _nearest(time, heard.time_edges.tobytes(), width)
        lines = len(heard.rows) - 1 - _nearest(rows, heard.row_edges.tobytes(), height, downward=True)
        chosen = heard.cells.T[:, lines]  # frames first, as they lie in memory
        level = _quantised(values(chosen, heard.floor, shown, recipe.amplitude), shown, count)
        return np.ascontiguousarray(level.T)[:, columns]
    across, upward = time.position(heard.time_edges) * width, rows.position(heard.row_edges) * height
    cells = values(heard.cells, heard.floor, shown, recipe.amplitude)
    cells = np.clip(cells, shown.low, shown.high)
    if recipe.resampling == "area":
        spread = shares(across, width) @ (shares(upward, height) @ cells).T
    else:
        spread = _blend(_blend(cells, *between(upward, height)).T, *between(across, width))
    return np.ascontiguousarray(_quantised(spread, shown, count).T[::-1])


@lru_cache(maxsize=256)
def _nearest(scale: Scale, edges: bytes, count: int, downward: bool = False) -> np.ndarray:
    """Give the cell under each pixel, counted along the axis or against it; kept, for many clips share their axes."""
    places = scale.position(np.frombuffer(edges, np.float64)) * count
    return nearest(count - places[::-1] if downward else places, count)


def _blend(cells: np.ndarray, lower: np.ndarray, share: np.ndarray) -> np.ndarray:
    upper = np.minimum(lower + 1, len(cells) - 1)
    return cells[lower] * (1 - share)[:, None] + cells[upper] * share[:, None]


def _quantised(value: np.ndarray, shown: Colours, count: int) -> np.ndarray:
    """Turn values into levels 0 to count - 1 of equal width, as matplotlib's Normalize and Colormap do."""
    level = (value - np.float32(shown.low)) * np.float32(count / (shown.high - shown.low))
    return np.clip(level, 0, count - 1, out=level).astype(np.uint8)


def _grey_numbers(around: Frame, count: int) -> np.ndarray:
    """Give the frame in numbers of the palette's greys."""
    steps = np.round(np.arange(256) * ((GREYS - 1) / 255)).astype(np.uint8) + np.uint8(count)
    return steps[around.greys]
