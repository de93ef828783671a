"""From messages to tokens, the way the model's own processor and chat template have it.

What belongs here: rendering, cutting a prompt into segments, what an assistant's turn looks like, tensors. What does not:
running the model.

A prompt is cut at its pictures and sounds: a segment is a picture with the text after it. Segments are what requests
share: cut there, on a token of its own, the tokens of the parts are those of the whole (`together` makes sure). How many
tokens a picture takes depends on its size, those of a sound on its length: so a segment that differs from an earlier one in
nothing but what the picture shows is counted without preparing the picture.
"""

import inspect
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.local.loading import Input
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Picture, Request, Sound

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Segment:
    """A stretch of a prompt: at most one picture or sound, then text.

    Attributes:
        text: as the template wrote it, with its placeholder.
        media: what stands for the placeholder.
        first: whether the prompt begins with it.
    """

    text: str
    media: Picture | Sound | None
    first: bool

    @property
    def key(self) -> tuple[str, str | None, bool]:
        """Give what the model's state after it depends on, besides what comes before it."""
        return self.text, self.media.sha256 if self.media else None, self.first


@dataclass(frozen=True)
class SegmentTokens:
    """A segment's tokens.

    Attributes:
        ids: tokens.
        positions: from 0; (1, n), or (3, n) for models in which pictures have time, rows and columns.
        next: position of the token after it.
    """

    ids: tuple[int, ...]
    positions: "torch.Tensor"
    next: int


@dataclass(frozen=True)
class Prompt:
    """A request, ready to be tokenised.

    Attributes:
        request: where it comes from.
        text: as the template wrote it, with placeholders.
        segments: the same in pieces.
        answers: tokens of each label's answer, its end token included.
    """

    request: Request
    text: str
    segments: tuple[Segment, ...]
    answers: tuple[tuple[int, ...], ...]


class Conversation:
    """A processor and its chat template.

    Args:
        processor: of transformers.
        model: its model, for its tokens' numbers and positions.
        input: what placeholders stand for.
    """

    def __init__(self, processor: Any, model: Any, input: Input):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.input = input
        self.placeholder: str = getattr(processor, "image_token" if input == "picture" else "audio_token", None) or ""
        extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
        self.rate_hz: int | None = getattr(extractor, "sampling_rate", None)
        self.end, self.ends = _ends(model, self.tokenizer)
        config = model.config
        names = (
            ("image_token_id", "image_token_index") if input == "picture" else ("audio_token_id", "audio_token_index")
        )
        self.media_token = next((getattr(config, n) for n in names if getattr(config, n, None) is not None), None)
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._rope = getattr(model.base_model, "get_rope_index", None)
        self._tokens = lru_cache(maxsize=4096)(self._tokens_of)
        self._heard = lru_cache(maxsize=32)(self._load)  # asked for its length, then for the model
        self._answer = lru_cache(maxsize=4096)(self._answer_of)

    def prompt(self, request: Request) -> Prompt:
        """Render a request.

        Raises:
            ValueError: when the template does not mark as many pictures as there are.
        """
        text = self.render(request.messages)
        media = [p for m in request.messages for p in m.parts if not isinstance(p, str)]
        pieces = text.split(self.placeholder) if self.placeholder else [text]
        if len(pieces) - 1 != len(media):
            raise ValueError(f"the chat template must mark {len(media)} {self.input}s, got {len(pieces) - 1}")
        whole = [(pieces[0], None), *((self.placeholder + p, m) for p, m in zip(pieces[1:], media, strict=True))]
        segments = tuple(Segment(t, m, i == 0) for i, (t, m) in enumerate(whole))
        answers = tuple(self._answer(pieces[-1], label) for label in request.labels)
        return Prompt(request, text, segments, answers)

    def render(self, messages: Sequence[Message], *, asks: bool = True) -> str:
        """Write messages as the template has them; with `asks`, up to where the assistant's answer begins.

        Raises:
            ValueError: when the template cannot write them: a role it does not know, turns in another order.
        """
        from jinja2 import TemplateError

        turns = [{"role": m.role, "content": [_content(part) for part in m.parts]} for m in messages]
        try:
            return self.processor.apply_chat_template(turns, add_generation_prompt=asks, tokenize=False)
        except TemplateError as error:
            raise ValueError(f"the chat template must be able to write the messages, but says: {error}") from error

    def _answer_of(self, tail: str, label: str) -> tuple[int, ...]:
        """Give the tokens of an answer after a prompt's last text: what an assistant's turn is, up to its end token.

        Where the template writes none, the model's is added; where it writes turns differently once they are answered,
        the label itself is the answer.
        """
        question = Message("user", ("?",))
        asked = self.render([question])
        answered = self.render([question, Message("assistant", (label,))], asks=False)
        answer = answered[len(asked) :] if answered.startswith(asked) else label
        ids = self._continuation(tail, answer)
        if (stop := next((i for i, token in enumerate(ids) if token in self.ends), None)) is not None:
            return tuple(ids[: stop + 1])
        # what a template puts between an answer and the next turn, a space or a line, is no part of the answer
        return (*self._continuation(tail, answer.rstrip()), self.end)

    def _continuation(self, before: str, text: str) -> list[int]:
        """Give the tokens of a text that goes on another."""
        known, both = (self.tokenizer(t, add_special_tokens=False).input_ids for t in (before, before + text))
        if both[: len(known)] == known:
            return both[len(known) :]
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def tokens(self, segment: Segment) -> SegmentTokens:
        """Give a segment's tokens; of one that differs from an earlier one only in what is seen or heard, from memory."""
        return self._tokens(segment.text, segment.first, self.size(segment))

    def size(self, segment: Segment) -> tuple[int, ...] | None:
        """Give the size of what a segment shows, pixels, or plays, samples; None where it does neither."""
        media = segment.media
        if media is None:
            return None
        if media.sha256 not in self._sizes:
            size = (len(self._heard(media)),) if isinstance(media, Sound) else _opened(media).size
            self._sizes[media.sha256] = size
        return self._sizes[media.sha256]

    def count(self, segment: Segment) -> tuple[int, int]:
        """Give how many tokens a segment has: (of text, of its picture or sound). Loads no sound."""
        media = segment.media
        size = (round(media.duration_s * self._rate()),) if isinstance(media, Sound) else self.size(segment)
        ids = self._tokens(segment.text, segment.first, size).ids
        shown = ids.count(self.media_token) if media else 0
        return len(ids) - shown, shown

    def _tokens_of(self, text: str, first: bool, size: tuple[int, ...] | None) -> SegmentTokens:
        import torch

        made = self._process(text, [] if size is None else [_blank(self.input, size)], first)
        ids = made["input_ids"]
        positions, after = torch.arange(ids.shape[1])[None], ids.shape[1]
        if self._rope is not None and size is None:
            positions = positions.expand(3, -1)  # text is where it is in time, row and column
        elif self._rope is not None:
            wanted = inspect.signature(self._rope).parameters
            found, delta = self._rope(**{k: v for k, v in made.items() if k in wanted})
            positions, after = found[:, 0], ids.shape[1] + int(delta)
        return SegmentTokens(tuple(ids[0].tolist()), positions, after)

    def inputs(self, segments: Sequence[Segment]) -> dict[str, "torch.Tensor"]:
        """Prepare consecutive segments, or those of several prompts put one after the other, for the model.

        Returns:
            Everything the processor makes, as one row: `input_ids` (1, n), `pixel_values`, ...
        """
        media = [self._decoded(s.media) for s in segments if s.media is not None]
        return self._process("".join(s.text for s in segments), media, segments[0].first)

    def together(self, segments: Sequence[Segment]) -> dict[str, "torch.Tensor"]:
        """Prepare segments, making sure that their tokens are those each has by itself.

        Raises:
            ValueError: when they are not: then nothing of it may be shared.
        """
        inputs = self.inputs(segments)
        if inputs["input_ids"][0].tolist() != [token for s in segments for token in self.tokens(s).ids]:
            raise ValueError(
                "the processor must make the same tokens of segments together as of each alone, but does not"
            )
        return inputs

    def _process(self, text: str, media: list[Any], first: bool) -> dict[str, "torch.Tensor"]:
        bos = self.tokenizer.bos_token
        special = first and not (bos and text.startswith(bos))
        kwargs: dict[str, Any] = {}
        if media and self.input == "picture":
            kwargs["images"] = media
        elif media:
            kwargs |= {"audio": media, "sampling_rate": self._rate()}
        made = self.processor(text=[text], return_tensors="pt", add_special_tokens=special, **kwargs)
        return {k: v for k, v in made.items() if k != "attention_mask"}  # one row: nothing is padded

    def _decoded(self, media: Picture | Sound) -> Any:
        if isinstance(media, Sound):
            return self._heard(media)
        return _opened(media).convert("RGB")

    def _load(self, sound: Sound) -> np.ndarray:
        return sound.load(self._rate())

    def _rate(self) -> int:
        if self.rate_hz is None:
            raise ValueError("the model's processor must know a sampling rate, got none: it does not hear sounds")
        return self.rate_hz

    def decode(self, tokens: Sequence[int]) -> str:
        """Give the text of an answer, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


def _content(part: str | Picture | Sound) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image"} if isinstance(part, Picture) else {"type": "audio", "audio": ""}


def _opened(picture: Picture) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(picture.data))


def _blank(input: Input, size: tuple[int, ...]) -> Any:
    if input == "audio":
        return np.zeros(size[0], np.float32)
    from PIL import Image

    return Image.new("RGB", (size[0], size[1]))


def _ends(model: Any, tokenizer: Any) -> tuple[int, frozenset[int]]:
    """Give the token that ends an answer, and all that may."""
    told = getattr(model.generation_config, "eos_token_id", None)
    ends = [told] if isinstance(told, int) else list(told or [])
    if tokenizer.eos_token_id is not None:
        ends = [tokenizer.eos_token_id, *ends] if tokenizer.eos_token_id in ends or not ends else ends
    if not ends:
        raise ValueError("the model must have a token that ends an answer, got none")
    return ends[0], frozenset(ends)
