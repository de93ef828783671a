"""Encoders scripted for tests: one that hears and reads, one that sees; their vectors are written down beforehand."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vlm_audio_pipeline.contracts.specs import not_identity
from vlm_audio_pipeline.encoders.base import EncoderSpec, TextSide


class Reader(EncoderSpec):
    """Texts have the vectors that `known` gives them; `read` remembers what was asked for."""

    kind: ClassVar[str] = "reader"
    known: dict[str, tuple[float, ...]] = not_identity({})
    scale: float = 10.0
    revision: str | None = "r1"
    missing: bool = not_identity(False)
    read: list = not_identity([])

    @property
    def rate_hz(self) -> int:
        return 16000

    @property
    def weights_revision(self) -> str | None:
        return self.revision

    @property
    def has_text_side(self) -> bool:
        return True

    def unavailable(self) -> str | None:
        return "weights of reader missing" if self.missing else None

    def load(self):
        raise AssertionError("clips are not encoded here")

    def load_text(self) -> TextSide:
        def encode(texts: Sequence[str]) -> list[np.ndarray]:
            self.read.extend(texts)
            return [np.array(self.known[t], np.float32) for t in texts]

        return TextSide(encode, self.scale)


class Looker(Reader):
    """The same for pictures."""

    kind: ClassVar[str] = "looker"
    sees: ClassVar[bool] = True
    rendering: str = "r"
