"""The pixels of an image: a reference for every model that receives the same image.

A linear classifier on these vectors reads the image without any learned representation. A vision-language model that is less
accurate classifies the image less well than a linear classifier does. Across renderings, the vectors say how much of the sound each
image shows in a form that is linearly readable. There are no weights and no downloads.

Belongs here: vectors that are computed from pixels alone. Does not belong here: models of images (`vision`), and features of the audio
(`features`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from vlm_audio_pipeline.contracts.specs import refers_to
from vlm_audio_pipeline.encoders.base import ENCODERS, Encode, EncoderSpec
from vlm_audio_pipeline.encoders.model_card import ModelCard

if TYPE_CHECKING:
    from PIL.Image import Image


@ENCODERS.register("pixels")
class Pixels(EncoderSpec):
    """The image in grey, reduced to few pixels; or mean and standard deviation of its rows over time."""

    takes_images: ClassVar[bool] = True

    rendering: str = refers_to("renderings")
    """Rendering whose images are encoded."""
    content: Literal["image", "rows"] = "image"
    """image: `size` x `size` pixels. rows: mean and standard deviation along each of `size` rows, which do not depend on the
    order of the columns, and so not on the order in time."""
    size: int = Field(64, ge=1, le=1024)
    """Number of rows, and for `image` of columns, to which the image is reduced."""

    @property
    def sample_rate_hz(self) -> int:
        """0, because it takes images."""
        return 0

    @property
    def card(self) -> ModelCard:
        """Card without weights."""
        return ModelCard(title="pixels: the image in grey, without weights", training_data="none")

    def vector(self, image: "Image") -> np.ndarray:
        """Compute the vector of an image.

        Grey is the luma of ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B), 0 black to 1 white. The image is reduced by the mean over
        the area of each new pixel.

        Args:
            image: PIL image in RGB, with its frame if it has one.

        Returns:
            (size * size,) float32 for `image`, rows from top to bottom; (2 * size,) float32 for `rows`: the means of the rows
            from top to bottom, then their standard deviations.
        """
        from PIL import Image

        grey = image.convert("L").convert("F")
        columns = self.size if self.content == "image" else grey.width
        rows = np.asarray(grey.resize((columns, self.size), Image.Resampling.BOX), np.float64) / 255
        values = rows.ravel() if self.content == "image" else np.concatenate([rows.mean(axis=1), rows.std(axis=1)])
        return values.astype(np.float32)

    def load(self) -> Encode:
        """Return the function from images to vectors; there are no weights."""

        def encode(images: Sequence["Image"]) -> list[np.ndarray]:
            return [self.vector(image) for image in images]

        return encode
