"""Contact sheets: many images in one image.

Belongs here: arranging finished images. Does not belong here: rendering them.
"""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import show_control_codes
from vlm_audio_pipeline.datasets.audio import resample
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset
from vlm_audio_pipeline.renderings.fonts import drawable_text, font_file
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe, preset_recipes
from vlm_audio_pipeline.renderings.stage import render_clip

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

GALLERY_RECIPE = Recipe(transform="mel", n_mels=64, width=200, height=130)
"""Recipe of the images of `clip_gallery`."""
_GAP, _TEXT = 6, 13  # pixels between images; height of labels, pixels


def contact_sheet(images: Sequence[tuple[str, bytes]], *, thumbnail: int = 160, max_columns: int = 8) -> bytes:
    """Arrange images on a sheet, one class per row.

    Args:
        images: (label, bytes of an image file), in any order; rows are in the order of each label's first image.
        thumbnail: the longer side of an image on the sheet, pixels.
        max_columns: images per row; more images of a class are left out.

    Returns:
        PNG bytes.

    Raises:
        VlmAudioError: for no images.
    """
    from PIL import ImageDraw

    _refuse_no_images(images)
    rows: dict[str, list[Image]] = {}
    for label, data in images:
        row = rows.setdefault(label, [])
        if len(row) < max_columns:
            row.append(_thumbnail(data, thumbnail, thumbnail))
    width, height = _max_size([image.size for row in rows.values() for image in row])
    label_width = max(_text_width(label) for label in rows) + 2 * _GAP
    columns = max(len(row) for row in rows.values())
    sheet = _white_image(label_width + columns * (width + _GAP), len(rows) * (height + _GAP) + _GAP)
    for line, (label, row) in enumerate(rows.items()):
        top = _GAP + line * (height + _GAP)
        ImageDraw.Draw(sheet).text(
            (_GAP, top + height // 2), _drawable_label(label), "black", _font(label), anchor="lm"
        )
        for column, image in enumerate(row):
            sheet.paste(image, (label_width + column * (width + _GAP), top))
    return _encode_png(sheet)


def gallery(images: Sequence[tuple[str, bytes]], *, thumbnail: int = 240, columns: int = 4) -> bytes:
    """Arrange images on a sheet, row by row, each with its name below.

    Args:
        images: (name, bytes of an image file).
        thumbnail: width of an image on the sheet, pixels; its height is at most three quarters of that.
        columns: images per row.

    Returns:
        PNG bytes.

    Raises:
        VlmAudioError: for no images.
    """
    from PIL import ImageDraw

    _refuse_no_images(images)
    thumbnails = [(name, _thumbnail(data, thumbnail, 3 * thumbnail // 4)) for name, data in images]
    width, height = _max_size([image.size for _, image in thumbnails])
    columns = min(columns, len(thumbnails))
    row_height = height + 2 * _GAP + _TEXT
    sheet = _white_image(_GAP + columns * (width + _GAP), _GAP + -(-len(thumbnails) // columns) * row_height)
    for i, (name, image) in enumerate(thumbnails):
        left, top = _GAP + i % columns * (width + _GAP), _GAP + i // columns * row_height
        sheet.paste(image, (left, top + height - image.height))
        ImageDraw.Draw(sheet).text((left, top + height + _GAP // 2), _drawable_label(name), "black", _font(name))
    return _encode_png(sheet)


def preset_gallery(samples: "np.ndarray", sample_rate_hz: int, *, thumbnail: int = 240, columns: int = 4) -> bytes:
    """Render one clip with every preset.

    Args:
        samples: (samples,) float32 mono, 1 = full scale.
        sample_rate_hz: sample rate, Hz.
        thumbnail: width of an image on the sheet, pixels; its height is at most three quarters of that.
        columns: images per row.

    Returns:
        PNG bytes.
    """
    images = []
    for name, recipe in preset_recipes().items():
        rate = recipe.rate or sample_rate_hz
        images.append((name, render(resample(samples, sample_rate_hz, rate), rate, recipe).bytes))
    return gallery(images, thumbnail=thumbnail, columns=columns)


def clip_gallery(dataset: Dataset, clips: Iterable[dict[str, Any]], *, max_classes: int = 10) -> bytes:
    """Render the first clip of each class as a log-mel spectrogram.

    Args:
        dataset: the opened dataset of the clips.
        clips: rows of `clips`.
        max_classes: number of classes; more classes are left out.

    Returns:
        PNG bytes.

    Raises:
        VlmAudioError: for no clips, or a clip that cannot be read.
    """
    first_clips: dict[str, dict[str, Any]] = {}
    for clip in clips:
        first_clips.setdefault(clip["label"], clip)
    images = [
        (label, render_clip(dataset, ClipRow.from_row(clip), GALLERY_RECIPE).bytes)
        for label, clip in list(first_clips.items())[:max_classes]
    ]
    return gallery(images, thumbnail=GALLERY_RECIPE.width, columns=5)


def _refuse_no_images(images: Sequence[object]) -> None:
    if not images:
        raise VlmAudioError("there are no images for the sheet; choose other clips")


def _thumbnail(data: bytes, width: int, height: int) -> "Image":
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((width, height), Image.Resampling.LANCZOS)
    return image


def _max_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    return max(w for w, _ in sizes), max(h for _, h in sizes)


def _white_image(width: int, height: int) -> "Image":
    from PIL import Image

    return Image.new("RGB", (width, height), "white")


def _drawable_label(text: str) -> str:
    """Return a label on one line, without control codes and without characters that no font has."""
    one_line = " ".join(show_control_codes(text).split())
    return one_line if one_line.isascii() else drawable_text(one_line)


def _font(text: str) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    label = _drawable_label(text)
    file = None if label.isascii() else font_file(label)
    return ImageFont.load_default(_TEXT) if file is None else ImageFont.truetype(file, _TEXT)


def _text_width(text: str) -> int:
    return int(_font(text).getlength(_drawable_label(text))) + 1


def _encode_png(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)  # 10 % larger than level 6, in a third of the time
    return file.getvalue()
