"""Contact sheets: many pictures on one, for people.

What belongs here: putting finished pictures side by side. What does not: how they are drawn.
"""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.audio import resample
from vlm_audio_pipeline.renderings.picture import render
from vlm_audio_pipeline.renderings.recipe import Recipe, recipes

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from vlm_audio_pipeline.datasets.base import Dataset

_GAP, _TEXT = 6, 13  # pixels between pictures; size of names, pixels


def contact_sheet(pictures: Sequence[tuple[str, bytes]], *, thumbnail: int = 160, most: int = 8) -> bytes:
    """Put pictures on a sheet, one class a row.

    Args:
        pictures: (label, picture as bytes of a file), in any order; rows follow the first picture of each label, and
            pictures of a row their order.
        thumbnail: the longer side of a picture on the sheet, pixels.
        most: pictures a row; the first ones are shown.

    Returns:
        PNG bytes.

    Raises:
        VlmAudioError: for no pictures.
    """
    from PIL import ImageDraw

    rows = _rows(pictures)
    shown = {label: [_thumbnail(p, thumbnail, thumbnail) for p in files[:most]] for label, files in rows.items()}
    width, height = _largest([image.size for images in shown.values() for image in images])
    names = max(_length(label) for label in shown) + 2 * _GAP
    columns = max(len(images) for images in shown.values())
    sheet = _paper(names + columns * (width + _GAP), len(shown) * (height + _GAP) + _GAP)
    for line, (label, images) in enumerate(shown.items()):
        top = _GAP + line * (height + _GAP)
        ImageDraw.Draw(sheet).text((_GAP, top + height // 2), label, "black", _font(), anchor="lm")
        for column, image in enumerate(images):
            sheet.paste(image, (names + column * (width + _GAP), top))
    return _png(sheet)


def gallery(pictures: Sequence[tuple[str, bytes]], *, thumbnail: int = 240, columns: int = 4) -> bytes:
    """Put pictures on a sheet, row after row, each with its name below: the presets of `vlm-audio renderings`.

    Args:
        pictures: (name, picture as bytes of a file).
        thumbnail: width of a picture on the sheet, pixels; three quarters of it are its height at most.
        columns: pictures a row.

    Returns:
        PNG bytes.

    Raises:
        VlmAudioError: for no pictures.
    """
    from PIL import ImageDraw

    _rows(pictures)
    shown = [(name, _thumbnail(p, thumbnail, 3 * thumbnail // 4)) for name, p in pictures]
    width, height = _largest([image.size for _, image in shown])
    columns = min(columns, len(shown))
    below = height + 2 * _GAP + _TEXT
    sheet = _paper(_GAP + columns * (width + _GAP), _GAP + -(-len(shown) // columns) * below)
    for i, (name, image) in enumerate(shown):
        left, top = _GAP + i % columns * (width + _GAP), _GAP + i // columns * below
        sheet.paste(image, (left, top + height - image.height))
        ImageDraw.Draw(sheet).text((left, top + height + _GAP // 2), name, "black", _font())
    return _png(sheet)


def preset_gallery(samples: "np.ndarray", rate_hz: int, *, thumbnail: int = 240, columns: int = 4) -> bytes:
    """Draw one clip under every preset.

    Args:
        samples: (samples,) float32 mono, 1 = full scale.
        rate_hz: their rate, Hz.
        thumbnail: width of a picture on the sheet, pixels; three quarters of it are its height at most.
        columns: pictures a row.

    Returns:
        PNG bytes.
    """
    drawn = []
    for name, recipe in recipes().items():
        rate = recipe.rate or rate_hz
        drawn.append((name, render(resample(samples, rate_hz, rate), rate, recipe).bytes))
    return gallery(drawn, thumbnail=thumbnail, columns=columns)


def clip_gallery(dataset: "Dataset", clips: Iterable[dict[str, Any]], *, most: int = 10) -> bytes:
    """Draw the first clip of each class, by its log-mel spectrogram.

    Args:
        dataset: what the clips are read from.
        clips: rows of `clips`: label, file, start_s, end_s.
        most: classes shown.

    Returns:
        PNG bytes.

    Raises:
        VlmAudioError: for no clips, or one that cannot be read.
    """
    recipe = Recipe(transform="mel", n_mels=64, width=200, height=130)
    rate = recipe.rate or 22050
    first: dict[str, dict[str, Any]] = {}
    for clip in clips:
        first.setdefault(clip["label"], clip)
    drawn = [
        (label, render(dataset.load(clip["file"], rate, clip["start_s"], clip["end_s"]), rate, recipe).bytes)
        for label, clip in list(first.items())[:most]
    ]
    return gallery(drawn, thumbnail=recipe.width, columns=5)


def _rows(pictures: Sequence[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    if not pictures:
        raise VlmAudioError("a sheet must show at least one picture, got none; choose other clips")
    rows: dict[str, list[bytes]] = {}
    for label, picture in pictures:
        rows.setdefault(label, []).append(picture)
    return rows


def _thumbnail(picture: bytes, width: int, height: int) -> "Image":
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    return image


def _largest(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    return max(w for w, _ in sizes), max(h for _, h in sizes)


def _paper(width: int, height: int) -> "Image":
    from PIL import Image

    return Image.new("RGB", (width, height), "white")


def _font() -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(_TEXT)


def _length(text: str) -> int:
    return int(_font().getlength(text)) + 1


def _png(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # a tenth larger than at 6, in a third of the time
    return file.getvalue()
