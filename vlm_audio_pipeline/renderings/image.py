"""Render a clip as an encoded image: transform, scale, quantise, colour, encode.

Belongs here: the steps from samples to the bytes of a file. Does not belong here: the frame, which matplotlib draws once
for many clips (`frame`), images that matplotlib draws as a whole (`figure`), and the clips of a fold (`stage`).

An image is an array of palette indices: 256 levels of the colormap, or 224 levels and 32 greys if it has a frame.
With 32 greys the frame differs by at most 5 of 255 from what matplotlib drew. An image of `frame.style: matplotlib` has the
colours that matplotlib drew, in 24 bits.
"""

import io
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.paths import expand_home
from vlm_audio_pipeline.renderings.axes import (
    Scale,
    area_weights,
    covered_cells,
    frequency_scale,
    interpolation_weights,
    nearest_cells,
    reduce_ranges,
)
from vlm_audio_pipeline.renderings.colors import ColorLimits, color_limits, color_values
from vlm_audio_pipeline.renderings.figure import draw_figure
from vlm_audio_pipeline.renderings.frame import draw_frame
from vlm_audio_pipeline.renderings.png import encode_palette, encode_rgb
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.spectrum import Spectrum
from vlm_audio_pipeline.renderings.transforms import TRANSFORMS, compute_spectrum, prepare_samples
from vlm_audio_pipeline.renderings.waveform import envelope, fill_waveform, split_columns

_WAVEFORM_GREY = 60  # of 255, darker than most colours of a spectrogram
N_GREYS = 32
"""Number of palette colours that are reserved for a frame."""
_FileContent = bytes
"""The type of `RenderedImage.bytes`, which hides the name `bytes` inside the class."""
_SUFFIXES = {"image/png": (".png",), "image/jpeg": (".jpg", ".jpeg")}
"""Endings of a file's name, by its media type."""


@dataclass(frozen=True)
class RenderedImage:
    """An encoded image.

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

    @property
    def array(self) -> np.ndarray:
        """The pixels, (height, width, 3) uint8, RGB."""
        from PIL import Image

        with Image.open(io.BytesIO(self.bytes)) as image:
            return np.asarray(image.convert("RGB"))

    def save(self, path: str | Path) -> Path:
        """Write the file, with exactly these bytes, and return its path.

        Args:
            path: a path that ends in `.png` (for a JPEG: `.jpg` or `.jpeg`); its folder is created.

        Raises:
            VlmAudioError: for another ending.
        """
        path, suffixes = expand_home(path), _SUFFIXES[self.media_type]
        if path.suffix.lower() not in suffixes:
            raise VlmAudioError(
                f"the path of this image must end in {' or '.join(suffixes)}, got {path}; use {path.with_suffix(suffixes[0])}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.bytes)
        return path

    def __repr__(self) -> str:
        return f"RenderedImage({self.media_type}, {self.width} x {self.height} pixels)"

    def _repr_png_(self) -> _FileContent | None:
        """Return the image that a notebook shows; None for a JPEG."""
        return self.bytes if self.media_type == "image/png" else None

    def _repr_jpeg_(self) -> _FileContent | None:
        """Return the image that a notebook shows; None for a PNG."""
        return self.bytes if self.media_type == "image/jpeg" else None


def render(
    samples: np.ndarray,
    sample_rate_hz: int,
    recipe: Recipe,
    *,
    title: str = "",
    shuffle_seed: int | None = None,
    blank: bool = False,
) -> RenderedImage:
    """Render a clip.

    The same samples and recipe give the same bytes in every process and thread, with the same versions of zlib and
    FreeType. Silence has the lowest colour, or white with `silence: white`.

    Args:
        samples: (samples,) float32 mono, 1 = full scale, at least one.
        sample_rate_hz: sample rate, Hz; must be the recipe's `rate` if it has one.
        recipe: fields of the rendering.
        title: drawn if the recipe has a title; by default "Spectrogram".
        shuffle_seed: seed for a random order of the columns of the transform; None keeps their order.
        blank: render the clip's frame without its data: all in the lowest colour.

    Raises:
        VlmAudioError: for no samples, a sample rate other than the recipe's, or frequencies above half the sample rate.
    """
    if samples.ndim != 1 or not len(samples):
        raise VlmAudioError(f"samples must be one channel of one sample or more, got shape {samples.shape}")
    if recipe.rate is not None and sample_rate_hz != recipe.rate:
        raise VlmAudioError(
            f"sample_rate_hz must be the recipe's {recipe.rate} Hz, got {sample_rate_hz}; resample first"
        )
    samples = prepare_samples(samples, sample_rate_hz, recipe)
    spectrum = compute_spectrum(samples, sample_rate_hz, recipe)
    waveform = None
    if recipe.layout.waveform is not None and not blank:
        parts = -(-recipe.layout.waveform.width // spectrum.cells.shape[1])
        waveform = envelope(samples, split_columns(spectrum.column_edges_s * sample_rate_hz, parts))
    if shuffle_seed is not None:
        order = np.random.default_rng(shuffle_seed).permutation(spectrum.cells.shape[1])
        if (np.diff(order) == 1).all():  # with few columns, a permutation is often the original order
            order = np.roll(order, 1)
        spectrum = replace(spectrum, cells=spectrum.cells[:, order])
        if waveform is not None:
            waveform = waveform.reshape(2, len(order), -1)[:, order].reshape(2, -1)
    limits = color_limits(spectrum, recipe)
    if blank:
        limits = replace(limits, is_blank=True)
    if recipe.has_matplotlib_style:
        return _encode_rgb(draw_figure(spectrum, limits, recipe, *axis_scales(spectrum, recipe), title), recipe)
    return encode_image(palette_indices(spectrum, limits, recipe, title, waveform), recipe)


def level_count(recipe: Recipe) -> int:
    """Return the number of colours of the data: 256, or 255 beside white silence, or 224 if the image has a frame."""
    if recipe.frame != "none":
        return 256 - N_GREYS
    return 255 if recipe.silence == "white" else 256


@lru_cache(maxsize=64)
def palette(colormap: str, n_levels: int) -> np.ndarray:
    """Return the colours of an image: a colormap, then greys from black to white up to 256 colours; the last is white.

    Level k has the colour of the colormap at (k + 1/2) / n_levels: 256 levels are exactly matplotlib's table; with fewer
    levels, a colour is at most one entry of the table away.

    Returns:
        (256, 3) uint8, read-only.
    """
    from matplotlib import colormaps

    table = np.empty((256, 3), np.uint8)
    table[:n_levels] = colormaps[colormap]((np.arange(n_levels) + 0.5) / n_levels, bytes=True)[:, :3]
    if n_levels < 256:
        table[n_levels:] = np.round(np.linspace(255, 0, 256 - n_levels))[::-1].astype(np.uint8)[:, None]
    table.setflags(write=False)
    return table


def axis_scales(spectrum: Spectrum, recipe: Recipe) -> tuple[Scale, Scale]:
    """Return the axes of an image: time, s, and frequency, Hz, or coefficients.

    They end at the outermost edges of the cells, unless the spectrum has `row_limits`.
    """
    transform = TRANSFORMS[recipe.transform]
    time = Scale("linear", float(spectrum.column_edges_s[0]), float(spectrum.column_edges_s[-1]))
    ends = (float(spectrum.row_edges[0]), float(spectrum.row_edges[-1]))
    low, high = (end if limit is None else limit for end, limit in zip(ends, spectrum.row_limits, strict=True))
    if transform.unit != "Hz":
        return time, Scale("linear", low, high, is_integer=transform.has_numbered_rows)
    return time, frequency_scale(recipe.frequency or "linear", low, high, transform.octaves_only)


def palette_indices(
    spectrum: Spectrum, limits: ColorLimits, recipe: Recipe, title: str = "", waveform: np.ndarray | None = None
) -> np.ndarray:
    """Render a spectrum as (height, width) uint8, indices into `palette(colormap, level_count(recipe))`.

    Args:
        spectrum: the cells.
        limits: values of the lowest and highest colour.
        recipe: fields of the rendering.
        title: drawn if the recipe has a title.
        waveform: (2, columns * parts) float32, the `envelope` in equal parts of each column of the spectrum; None: the space of the waveform stays white.
    """
    time, rows = axis_scales(spectrum, recipe)
    layout = recipe.layout
    n_levels = level_count(recipe)
    data = _data_levels(spectrum, limits, recipe, time, rows)
    if recipe.frame == "none":
        return data
    colorbar_limits = None if layout.colorbar is None else (limits.low, limits.high)
    frame = draw_frame(recipe, time, rows, colorbar_limits, title)
    image: np.ndarray = _grey_indices(n_levels)[frame.greys]
    inner, outer = frame.data, layout.data
    image[inner.slices] = data[
        inner.top - outer.top : inner.bottom - outer.top, inner.left - outer.left : inner.right - outer.left
    ]
    if waveform is not None and frame.waveform is not None:
        box = frame.waveform
        parts = waveform.shape[1] // spectrum.cells.shape[1]
        edges = time.positions(split_columns(spectrum.column_edges_s, parts)) * box.width
        image[box.slices][fill_waveform(waveform, edges, box.width, box.height)] = _grey_indices(n_levels)[
            _WAVEFORM_GREY
        ]
    bar = layout.colorbar
    if bar is not None and frame.colorbar is not None:
        shares = (bar.bottom - 0.5 - np.arange(frame.colorbar.top, frame.colorbar.bottom)) / bar.height
        image[frame.colorbar.slices] = np.minimum(shares * n_levels, n_levels - 1).astype(np.uint8)[:, None]
    return image


def encode_image(indices: np.ndarray, recipe: Recipe) -> RenderedImage:
    """Encode palette indices, (height, width) uint8, in the recipe's file format."""
    height, width = indices.shape
    colors = palette(recipe.colormap, level_count(recipe))
    if recipe.format == "palette":
        return RenderedImage(encode_palette(indices, colors), "image/png", width, height)
    return _encode_rgb(colors[indices], recipe)


def _encode_rgb(pixels: np.ndarray, recipe: Recipe) -> RenderedImage:
    """Encode (height, width, 3) uint8 as JPEG for the format jpeg, otherwise as PNG in 24 bits."""
    height, width = pixels.shape[:2]
    if recipe.format != "jpeg":
        return RenderedImage(encode_rgb(pixels), "image/png", width, height)
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=recipe.quality, subsampling=0)
    return RenderedImage(file.getvalue(), "image/jpeg", width, height)


def _data_levels(spectrum: Spectrum, limits: ColorLimits, recipe: Recipe, time: Scale, rows: Scale) -> np.ndarray:
    """Return the levels of the data area, (height, width) uint8, high frequencies on top."""
    width, height = recipe.layout.data.width, recipe.layout.data.height
    n_levels = level_count(recipe)
    if limits.is_blank or (limits.is_silent and recipe.silence == "lowest"):
        return np.zeros((height, width), np.uint8)
    if recipe.resampling == "nearest":
        columns = _nearest_cells(time, spectrum.column_edges_s.tobytes(), width)
        lines = len(spectrum.cells) - 1 - _nearest_cells(rows, spectrum.row_edges.tobytes(), height, downward=True)
        visible = spectrum.cells.T[:, lines]  # columns first, as in memory
        levels = _quantise(color_values(visible, spectrum.floor, limits, recipe.amplitude), limits, n_levels)
        if recipe.silence == "white":
            levels[visible == 0] = 255
        return np.ascontiguousarray(levels.T)[:, columns]
    column_edges, row_edges = (
        time.positions(spectrum.column_edges_s) * width,
        rows.positions(spectrum.row_edges) * height,
    )
    if recipe.resampling == "max":
        by_row = reduce_ranges(spectrum.cells.T, *covered_cells(row_edges, height), np.maximum)
        highest = reduce_ranges(by_row.T, *covered_cells(column_edges, width), np.maximum)
        levels = _quantise(color_values(highest, spectrum.floor, limits, recipe.amplitude), limits, n_levels)
        return np.ascontiguousarray(levels[::-1])
    cells = color_values(spectrum.cells, spectrum.floor, limits, recipe.amplitude)
    cells = np.clip(cells, limits.low, limits.high)
    if recipe.resampling == "area":
        values = area_weights(column_edges, width) @ (area_weights(row_edges, height) @ cells).T
    else:
        by_row = _interpolate(cells, *interpolation_weights(row_edges, height))
        values = _interpolate(by_row.T, *interpolation_weights(column_edges, width))
    return np.ascontiguousarray(_quantise(values, limits, n_levels).T[::-1])


@lru_cache(maxsize=256)
def _nearest_cells(scale: Scale, edges: bytes, n_pixels: int, downward: bool = False) -> np.ndarray:
    """Return the cell under each pixel, counted from the high end if `downward`; cached because clips share their axes."""
    positions = scale.positions(np.frombuffer(edges, np.float64)) * n_pixels
    return nearest_cells(n_pixels - positions[::-1] if downward else positions, n_pixels)


def _interpolate(cells: np.ndarray, lower: np.ndarray, weights: np.ndarray) -> np.ndarray:
    upper = np.minimum(lower + 1, len(cells) - 1)
    values: np.ndarray = cells[lower] * (1 - weights)[:, None] + cells[upper] * weights[:, None]
    return values


def _quantise(values: np.ndarray, limits: ColorLimits, n_levels: int) -> np.ndarray:
    """Convert values to levels 0 to n_levels - 1 of equal width, as matplotlib's Normalize and Colormap do."""
    span = limits.high - limits.low or 1.0  # a clip of a single value has the lowest colour
    levels = (values - np.float32(limits.low)) * np.float32(n_levels / span)
    return np.clip(levels, 0, n_levels - 1, out=levels).astype(np.uint8)


def _grey_indices(n_levels: int) -> np.ndarray:
    """Return the palette index of each grey of a frame, (256,) uint8."""
    return np.round(np.arange(256) * ((N_GREYS - 1) / 255)).astype(np.uint8) + np.uint8(n_levels)
