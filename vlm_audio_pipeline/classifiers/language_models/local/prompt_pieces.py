"""A prompt cut into pieces: the unit that requests share.

A prompt is cut before each image or audio, so a piece is an image or audio with the text after it. Two prompts that begin with
equal pieces begin with equal tokens (`Conversation.checked_inputs` verifies this).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Request

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PromptPiece:
    """A piece of a prompt: at most one image or audio, then text.

    Attributes:
        text: output of the chat template, with its placeholder for the image or audio.
        media: the image or audio of the placeholder.
        is_first: whether the prompt begins with this piece.
    """

    text: str
    media: ImagePart | AudioPart | None
    is_first: bool

    @property
    def key(self) -> tuple[str, str | None, bool]:
        """The content of the piece; equal keys after equal pieces give equal model states."""
        return self.text, self.media.sha256 if self.media else None, self.is_first


@dataclass(frozen=True)
class PieceTokens:
    """The tokens of a piece.

    Attributes:
        ids: tokens.
        positions: int64 from 0; (1, n), or (3, n) for models with time, row and column positions.
        next_position: position of the token after the piece.
    """

    ids: tuple[int, ...]
    positions: "torch.Tensor"
    next_position: int


@dataclass(frozen=True)
class PromptPieces:
    """A request as text of the chat template, cut into pieces.

    Attributes:
        request: the request.
        text: output of the chat template, with placeholders.
        pieces: the same text in pieces.
        label_sequences: tokens of each label with its end token.
    """

    request: Request
    text: str
    pieces: tuple[PromptPiece, ...]
    label_sequences: tuple[tuple[int, ...], ...]


def common_length(first: tuple[PromptPiece, ...], second: tuple[PromptPiece, ...]) -> int:
    """Count the pieces that two prompts have in common at their beginning."""
    n = 0
    while n < min(len(first), len(second)) and first[n].key == second[n].key:
        n += 1
    return n
