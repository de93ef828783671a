"""Encoders with fixed text vectors: one for audio, one for images."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.encoders.base import EncoderSpec, TextEncoder


class ScriptedTextEncoder(EncoderSpec):
    """Encodes texts by a table of vectors and records the texts it encoded."""

    kind: ClassVar[str] = "text_encoder"
    vectors: dict[str, tuple[float, ...]] = excluded_from_fingerprint({})
    scale: float = 10.0
    revision: str | None = "r1"
    missing: bool = excluded_from_fingerprint(False)
    encoded: list = excluded_from_fingerprint([])

    @property
    def sample_rate_hz(self) -> int:
        return 16000

    @property
    def weights_revision(self) -> str | None:
        return self.revision

    @property
    def has_text_encoder(self) -> bool:
        return True

    def unavailable(self) -> str | None:
        return "weights of text_encoder missing" if self.missing else None

    def load(self):
        raise AssertionError("clips are not encoded here")

    def load_text_encoder(self) -> TextEncoder:
        def encode(texts: Sequence[str]) -> list[np.ndarray]:
            self.encoded.extend(texts)
            return [np.array(self.vectors[t], np.float32) for t in texts]

        return TextEncoder(encode, self.scale)


class ImageTextEncoder(ScriptedTextEncoder):
    """Encodes images and texts."""

    kind: ClassVar[str] = "image_text_encoder"
    takes_images: ClassVar[bool] = True
    rendering: str = "r"
