"""Convert messages to tokens and tensors with the model's processor and chat template.

The number of tokens of an image depends only on its size, that of audio only on its length. So the tokens of a segment are
cached by text and size, and an image of a known size is not prepared again to count them.
"""

import inspect
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.local.segments import Segment, SegmentedPrompt, SegmentTokens
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, MediaType, Message, Request

if TYPE_CHECKING:
    import torch


class Conversation:
    """Conversion of conversations to the input of one model.

    Args:
        processor: processor of transformers, with a chat template.
        model: the model, for token ids and positions.
        input: what a placeholder stands for.

    Attributes:
        end_token: token that ends an answer.
        end_tokens: all tokens that may end an answer.
    """

    def __init__(self, processor: Any, model: Any, input: MediaType):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.input = input
        self.placeholder: str = getattr(processor, "image_token" if input == "image" else "audio_token", None) or ""
        extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
        self.sample_rate_hz: int | None = getattr(extractor, "sampling_rate", None)
        self.end_token, self.end_tokens = _end_tokens(model, self.tokenizer)
        config = model.config
        names = ("image_token_id", "image_token_index") if input == "image" else ("audio_token_id", "audio_token_index")
        self.media_token = next((getattr(config, n) for n in names if getattr(config, n, None) is not None), None)
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._rope = getattr(model.base_model, "get_rope_index", None)
        self._tokens = lru_cache(maxsize=4096)(self._compute_tokens)
        self._samples = lru_cache(maxsize=32)(self._load)  # a clip is needed twice: for its length, then for the model
        self._answer = lru_cache(maxsize=4096)(self._compute_answer)

    def prompt(self, request: Request) -> SegmentedPrompt:
        """Render a request with the chat template and cut it into segments.

        Raises:
            ValueError: if the template does not write one placeholder per image or audio.
        """
        text = self.render(request.messages)
        media = [p for m in request.messages for p in m.parts if not isinstance(p, str)]
        pieces = text.split(self.placeholder) if self.placeholder else [text]
        if len(pieces) - 1 != len(media):
            raise ValueError(
                f"the chat template must write {len(media)} placeholders ({self.input}), got {len(pieces) - 1}"
            )
        whole = [(pieces[0], None), *((self.placeholder + p, m) for p, m in zip(pieces[1:], media, strict=True))]
        segments = tuple(Segment(t, m, i == 0) for i, (t, m) in enumerate(whole))
        answers = tuple(self._answer(pieces[-1], label) for label in request.labels)
        return SegmentedPrompt(request, text, segments, answers)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Render messages with the chat template; by default up to where the assistant's answer begins.

        Raises:
            ValueError: if the template rejects them (unknown role, unexpected order of turns).
        """
        from jinja2 import TemplateError

        turns = [{"role": m.role, "content": [_content(part) for part in m.parts]} for m in messages]
        try:
            return self.processor.apply_chat_template(
                turns, add_generation_prompt=add_generation_prompt, tokenize=False
            )
        except TemplateError as error:
            raise ValueError(f"the chat template rejects the messages: {error}") from error

    def _compute_answer(self, tail: str, label: str) -> tuple[int, ...]:
        """Return the tokens of an answer after the last text of a prompt, up to and including its end token.

        If the template writes no end token, the model's is added. If the template changes earlier turns once they are
        answered, the label itself is the answer.
        """
        question = Message("user", ("?",))
        prompt = self.render([question])
        dialogue = self.render([question, Message("assistant", (label,))], add_generation_prompt=False)
        answer = dialogue[len(prompt) :] if dialogue.startswith(prompt) else label
        ids = self._continuation(tail, answer)
        if (stop := next((i for i, token in enumerate(ids) if token in self.end_tokens), None)) is not None:
            return tuple(ids[: stop + 1])
        # White space that a template writes between an answer and the next turn is not part of the answer.
        return (*self._continuation(tail, answer.rstrip()), self.end_token)

    def _continuation(self, before: str, text: str) -> list[int]:
        """Tokenise `text` as a continuation of `before`."""
        first, both = (self.tokenizer(t, add_special_tokens=False).input_ids for t in (before, before + text))
        if both[: len(first)] == first:
            return both[len(first) :]
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def tokens(self, segment: Segment) -> SegmentTokens:
        """Return the tokens of a segment; cached for segments with the same text and size of image or audio."""
        return self._tokens(segment.text, segment.first, self.size(segment))

    def size(self, segment: Segment) -> tuple[int, ...] | None:
        """Return (width, height) of a segment's image in pixels, (n,) samples of its audio, or None if it has neither."""
        media = segment.media
        if media is None:
            return None
        if media.sha256 not in self._sizes:
            size = (len(self._samples(media)),) if isinstance(media, AudioPart) else _opened(media).size
            self._sizes[media.sha256] = size
        return self._sizes[media.sha256]

    def count_tokens(self, segment: Segment) -> tuple[int, int]:
        """Count the tokens of a segment: (text, image or audio). Does not decode audio."""
        media = segment.media
        size = (round(media.duration_s * self._rate()),) if isinstance(media, AudioPart) else self.size(segment)
        ids = self._tokens(segment.text, segment.first, size).ids
        media_tokens = ids.count(self.media_token) if media else 0
        return len(ids) - media_tokens, media_tokens

    def _compute_tokens(self, text: str, first: bool, size: tuple[int, ...] | None) -> SegmentTokens:
        import torch

        inputs = self._process(text, [] if size is None else [_blank(self.input, size)], first)
        ids = inputs["input_ids"]
        positions, after = torch.arange(ids.shape[1])[None], ids.shape[1]
        if self._rope is not None and size is None:
            positions = positions.expand(3, -1)  # text has the same position in time, row and column
        elif self._rope is not None:
            parameters = inspect.signature(self._rope).parameters
            rope_positions, delta = self._rope(**{k: v for k, v in inputs.items() if k in parameters})
            positions, after = rope_positions[:, 0], ids.shape[1] + int(delta)
        return SegmentTokens(tuple(ids[0].tolist()), positions, after)

    def inputs(self, segments: Sequence[Segment]) -> dict[str, "torch.Tensor"]:
        """Prepare segments, of one prompt or of several prompts in a row, for the model.

        Returns:
            The output of the processor for one row: `input_ids` (1, n), `pixel_values`, ...
        """
        media = [self._decode_media(s.media) for s in segments if s.media is not None]
        return self._process("".join(s.text for s in segments), media, segments[0].first)

    def checked_inputs(self, segments: Sequence[Segment]) -> dict[str, "torch.Tensor"]:
        """Prepare segments and check that each has the same tokens as when it is tokenised alone.

        Raises:
            ValueError: if not; then the segments cannot be shared between requests.
        """
        inputs = self.inputs(segments)
        if inputs["input_ids"][0].tolist() != [token for s in segments for token in self.tokens(s).ids]:
            raise ValueError("the processor tokenises segments differently together than alone; they cannot be shared")
        return inputs

    def _process(self, text: str, media: list[Any], first: bool) -> dict[str, "torch.Tensor"]:
        bos = self.tokenizer.bos_token
        special = first and not (bos and text.startswith(bos))
        kwargs: dict[str, Any] = {}
        if media and self.input == "image":
            kwargs["images"] = media
        elif media:
            kwargs |= {"audio": media, "sampling_rate": self._rate()}
        outputs = self.processor(text=[text], return_tensors="pt", add_special_tokens=special, **kwargs)
        return {k: v for k, v in outputs.items() if k != "attention_mask"}  # one row has no padding

    def _decode_media(self, media: ImagePart | AudioPart) -> Any:
        if isinstance(media, AudioPart):
            return self._samples(media)
        return _opened(media).convert("RGB")

    def _load(self, audio: AudioPart) -> np.ndarray:
        return audio.load(self._rate())

    def _rate(self) -> int:
        if self.sample_rate_hz is None:
            raise ValueError("the model's processor has no sample rate: the model does not take audio")
        return self.sample_rate_hz

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a response, without special tokens."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)


def _content(part: str | ImagePart | AudioPart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image"} if isinstance(part, ImagePart) else {"type": "audio", "audio": ""}


def _opened(image: ImagePart) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(image.data))


def _blank(input: MediaType, size: tuple[int, ...]) -> Any:
    if input == "audio":
        return np.zeros(size[0], np.float32)
    from PIL import Image

    return Image.new("RGB", (size[0], size[1]))


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, frozenset[int]]:
    """Return the token that ends an answer, and all tokens that may end one."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    end_tokens = [configured] if isinstance(configured, int) else list(configured or [])
    if tokenizer.eos_token_id is not None:
        end_tokens = (
            [tokenizer.eos_token_id, *end_tokens]
            if tokenizer.eos_token_id in end_tokens or not end_tokens
            else end_tokens
        )
    if not end_tokens:
        raise ValueError("the model has no token that ends an answer (eos_token_id); use another model")
    return end_tokens[0], frozenset(end_tokens)
