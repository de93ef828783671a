"""Convert messages to tokens and tensors with the model's processor and chat template.

The number of tokens of an image depends only on its size, that of audio only on its length. So the tokens of a piece are
cached by text and size, and images of equal size are prepared only once to count their tokens.
"""

import inspect
import io
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.local.prompt_pieces import PieceTokens, PromptPiece, PromptPieces
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, MediaType, Message, Request

if TYPE_CHECKING:
    import torch


class TemplateError(ValueError):
    """The chat template cannot render messages: it is missing or wrong, or rejects their roles or order."""


class Conversation:
    """Conversion of conversations to the input of one model.

    Args:
        processor: processor of transformers, with a chat template.
        model: the model, for token ids and positions.
        input: whether placeholders stand for images or audio.

    Attributes:
        preamble: system text that the processor adds by default; "" for most models.
        end_token: token that ends a response.
        end_tokens: all tokens that may end a response.
    """

    def __init__(self, processor: Any, model: Any, input: MediaType):
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.input = input
        self.preamble = _default_preamble(processor)
        self.placeholder: str = getattr(processor, "image_token" if input == "image" else "audio_token", None) or ""
        extractor = getattr(processor, "feature_extractor", None) or getattr(processor, "audio_processor", None)
        self.sample_rate_hz: int | None = getattr(extractor, "sampling_rate", None)
        self.end_token, self.end_tokens = _end_tokens(model, self.tokenizer)
        config = model.config
        names = ("image_token_id", "image_token_index") if input == "image" else ("audio_token_id", "audio_token_index")
        self.media_token = next((getattr(config, n) for n in names if getattr(config, n, None) is not None), None)
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._rope_index = getattr(model.base_model, "get_rope_index", None)
        self._tokens = lru_cache(maxsize=4096)(self._compute_tokens)
        self._samples = lru_cache(maxsize=32)(self._load)  # used twice per clip: for its length, then for the model
        self._label_sequence = lru_cache(maxsize=4096)(self._compute_label_sequence)

    def prompt(self, request: Request) -> PromptPieces:
        """Render a request with the chat template and cut it into pieces.

        Raises:
            TemplateError: if the template rejects the messages, or does not write one placeholder per image or audio.
        """
        text = self.prompt_text(request)
        media = [p for m in request.messages for p in m.parts if not isinstance(p, str)]
        texts = text.split(self.placeholder) if self.placeholder else [text]
        if len(texts) - 1 != len(media):
            raise TemplateError(
                f"the chat template writes {len(texts) - 1} placeholders ({self.input}) instead of {len(media)}"
            )
        texts_and_media = [
            (texts[0], None),
            *((self.placeholder + p, m) for p, m in zip(texts[1:], media, strict=True)),
        ]
        pieces = tuple(PromptPiece(t, m, i == 0) for i, (t, m) in enumerate(texts_and_media))
        label_sequences = tuple(self._label_sequence(texts[-1], label) for label in request.labels)
        return PromptPieces(request, text, pieces, label_sequences)

    def prompt_text(self, request: Request) -> str:
        """Return the text of a request: the preamble, if it has one, then the messages in the chat template.

        Raises:
            TemplateError: if the template rejects the messages.
        """
        return (self.preamble if request.preamble else "") + self.render(request.messages)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Render messages with the chat template; by default up to the beginning of the assistant's response.

        Raises:
            TemplateError: if the template rejects them (unknown role, unexpected order of turns), or fails.
        """
        return render_messages(self.processor, messages, add_generation_prompt=add_generation_prompt)

    def _compute_label_sequence(self, tail: str, label: str) -> tuple[int, ...]:
        """Return the tokens of a label as the response after the last text of a prompt, with its end token.

        If the template writes no end token, the model's end token is added. If the template changes the question when a
        response follows, the text of the response is the label itself.
        """
        question = Message("user", ("?",))
        prompt = self.render([question])
        dialogue = self.render([question, Message("assistant", (label,))], add_generation_prompt=False)
        response = dialogue[len(prompt) :] if dialogue.startswith(prompt) else label
        ids = self._continuation(tail, response)
        if (stop := next((i for i, token in enumerate(ids) if token in self.end_tokens), None)) is not None:
            return tuple(ids[: stop + 1])
        # White space that a template writes between a response and the next turn is not part of the response.
        return (*self._continuation(tail, response.rstrip()), self.end_token)

    def _continuation(self, before: str, text: str) -> list[int]:
        """Tokenise `text` as a continuation of `before`."""
        prefix, joined_tokens = self._tokenise(before), self._tokenise(before + text)
        if joined_tokens[: len(prefix)] == prefix:
            return joined_tokens[len(prefix) :]
        return self._tokenise(text)

    def _tokenise(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return tokens

    def tokens(self, piece: PromptPiece) -> PieceTokens:
        """Return the tokens of a piece; cached for pieces with the same text and size of image or audio."""
        return self._tokens(piece.text, piece.is_first, self.size(piece))

    def size(self, piece: PromptPiece) -> tuple[int, ...] | None:
        """Return (width, height) of a piece's image in pixels, (n,) samples of its audio, or None if it has no image or audio."""
        media = piece.media
        if media is None:
            return None
        if media.sha256 not in self._sizes:
            size = (len(self._samples(media)),) if isinstance(media, AudioPart) else _open_image(media).size
            self._sizes[media.sha256] = size
        return self._sizes[media.sha256]

    def count_tokens(self, piece: PromptPiece) -> tuple[int, int]:
        """Count the tokens of a piece: (text, image or audio). Does not decode audio."""
        media = piece.media
        size = (
            (round(media.duration_s * self._media_sample_rate()),) if isinstance(media, AudioPart) else self.size(piece)
        )
        ids = self._tokens(piece.text, piece.is_first, size).ids
        media_tokens = ids.count(self.media_token) if media else 0
        return len(ids) - media_tokens, media_tokens

    def _compute_tokens(self, text: str, is_first: bool, size: tuple[int, ...] | None) -> PieceTokens:
        import torch

        inputs = self._process(text, [] if size is None else [_blank_media(self.input, size)], is_first)
        ids = inputs["input_ids"]
        positions, after = torch.arange(ids.shape[1])[None], ids.shape[1]
        if self._rope_index is not None and size is None:
            positions = positions.expand(3, -1)  # text has the same position in time, row and column
        elif self._rope_index is not None:
            parameters = inspect.signature(self._rope_index).parameters
            rope_positions, delta = self._rope_index(**{k: v for k, v in inputs.items() if k in parameters})
            positions, after = rope_positions[:, 0], ids.shape[1] + int(delta)
        return PieceTokens(tuple(ids[0].tolist()), positions, after)

    def inputs(self, pieces: Sequence[PromptPiece]) -> dict[str, "torch.Tensor"]:
        """Prepare pieces, of one prompt or of several prompts in a row, for the model.

        Returns:
            The output of the processor for one row: `input_ids` (1, n), `pixel_values`, ...
        """
        media = [self._decode_media(s.media) for s in pieces if s.media is not None]
        return self._process("".join(s.text for s in pieces), media, pieces[0].is_first)

    def checked_inputs(self, pieces: Sequence[PromptPiece]) -> dict[str, "torch.Tensor"]:
        """Prepare pieces and check that each has the same tokens as when it is tokenised alone.

        Raises:
            ValueError: if a piece has other tokens; then requests cannot share pieces.
        """
        inputs = self.inputs(pieces)
        if inputs["input_ids"][0].tolist() != [token for s in pieces for token in self.tokens(s).ids]:
            raise ValueError(
                "the processor tokenises joined pieces differently than single pieces; requests cannot share them"
            )
        return inputs

    def _process(self, text: str, media: list[Any], is_first: bool) -> dict[str, "torch.Tensor"]:
        bos = self.tokenizer.bos_token
        add_special_tokens = is_first and not (bos and text.startswith(bos))
        kwargs: dict[str, Any] = {}
        if media and self.input == "image":
            kwargs["images"] = media
        elif media:
            kwargs |= {"audio": media, "sampling_rate": self._media_sample_rate()}
        outputs = self.processor(text=[text], return_tensors="pt", add_special_tokens=add_special_tokens, **kwargs)
        return {k: v for k, v in outputs.items() if k != "attention_mask"}  # one row has no padding

    def _decode_media(self, media: ImagePart | AudioPart) -> Any:
        if isinstance(media, AudioPart):
            return self._samples(media)
        return _open_image(media).convert("RGB")

    def _load(self, audio: AudioPart) -> np.ndarray:
        return audio.load(self._media_sample_rate())

    def _media_sample_rate(self) -> int:
        if self.sample_rate_hz is None:
            raise ValueError("the model's processor has no sample rate: the model does not take audio")
        return self.sample_rate_hz

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a response, without special tokens."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def render_messages(processor: Any, messages: Sequence[Message], **options: bool) -> str:
    """Render messages with the chat template of a processor.

    Args:
        processor: processor of transformers.
        messages: the conversation.
        options: `add_generation_prompt` (end with the beginning of a response) or `continue_final_message` (end with the text
            of the last turn).

    Raises:
        TemplateError: if the template rejects the messages (unknown role, unexpected order of turns), or fails.
    """
    import jinja2

    turns = [{"role": m.role, "content": [_content(part) for part in m.parts]} for m in messages]
    try:
        text: str = processor.apply_chat_template(turns, tokenize=False, **options)
        return text
    except jinja2.TemplateError as error:
        raise TemplateError(f"the chat template rejects the messages: {error}") from error
    # Errors of the template's own code.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise TemplateError(f"the chat template fails: {type(error).__name__}: {error}") from error


def _default_preamble(processor: Any) -> str:
    """Return the system text that a processor would add before a conversation: Janus' processor has one."""
    text: str = getattr(sys.modules[type(processor).__module__], "DEFAULT_SYSTEM_PROMPT", "")
    return text


def _content(part: str | ImagePart | AudioPart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image"} if isinstance(part, ImagePart) else {"type": "audio", "audio": ""}


def _open_image(image: ImagePart) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(image.data))


def _blank_media(input: MediaType, size: tuple[int, ...]) -> Any:
    if input == "audio":
        return np.zeros(size[0], np.float32)
    from PIL import Image

    return Image.new("RGB", (size[0], size[1]))


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, frozenset[int]]:
    """Return the token that ends a response, and all tokens that may end a response."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    end_tokens = [configured] if isinstance(configured, int) else list(configured or [])
    if tokenizer.eos_token_id is not None:
        end_tokens = (
            [tokenizer.eos_token_id, *end_tokens]
            if tokenizer.eos_token_id in end_tokens or not end_tokens
            else end_tokens
        )
    if not end_tokens:
        raise ValueError("the model has no token that ends a response (eos_token_id); use another model")
    return end_tokens[0], frozenset(end_tokens)
