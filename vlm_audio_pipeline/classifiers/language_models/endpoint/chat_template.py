"""Render prompts on this machine with the chat template of a model that a server runs. The model's weights are not needed."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.local.conversation import render_messages
from vlm_audio_pipeline.classifiers.language_models.local.loading import read_processor
from vlm_audio_pipeline.classifiers.language_models.messages import Message
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders.weights import Weights


class ChatTemplate:
    """The chat template and the tokenizer of a model; read when they are needed.

    Args:
        model: hub id or folder.
    """

    def __init__(self, model: str):
        self.model = model

    @cached_property
    def _processor(self) -> Any:
        weights = Weights(self.model, tensors=("tokenizer_config.json",))  # instead of the files with tensors
        if weights.missing() is not None:
            raise NotAvailable(
                f"the chat template of {self.model} must be on this machine, but its files are not in the hub's cache; run "
                f"`hf download {self.model} --exclude '*.safetensors' --exclude '*.bin'`, or set `processor` to a folder"
            )
        try:
            return read_processor(weights.snapshot(), weights)
        except VlmAudioError as error:
            raise NotAvailable(str(error)) from error

    def render(self, messages: Sequence[Message]) -> str:
        """Return the text of a prompt up to the beginning of the response, without the token that the server adds first.

        Raises:
            NotAvailable: if the chat template is missing or rejects the messages.
        """
        return self._render(messages, add_generation_prompt=True)

    def continuation(
        self, messages: Sequence[Message], question: str, label: str, end_token: str
    ) -> tuple[str, list[int]]:
        """Return the text of a prompt with a label as the response, and the tokens of the label with its end token.

        Args:
            messages: the conversation.
            question: its text from `render`.
            label: the response.
            end_token: text of the token that ends a response.

        Raises:
            NotAvailable: if the prompt does not begin with the question, or the end token is not one token.
        """
        response = Message("assistant", (label + end_token,))
        prompt = self._render([*messages, response], continue_final_message=True)
        question_tokens, prompt_tokens = self._tokenise(question), self._tokenise(prompt)
        if not prompt.startswith(question) or prompt_tokens[: len(question_tokens)] != question_tokens:
            raise NotAvailable(
                f"the prompt with the response '{label}' must begin with the prompt without it, but the chat template of "
                f"{self.model} changes the prompt when a response follows; use the backend transformers"
            )
        response_tokens = prompt_tokens[len(question_tokens) :]
        closed = self._render([*messages, Message("assistant", (label,))], add_generation_prompt=False)
        following = closed.removeprefix(prompt.removesuffix(end_token)).strip()
        if following and following != closed.strip() and not following.startswith(end_token):
            raise NotAvailable(
                f"end_token must be the token that ends a response, got '{end_token}', but the chat template of {self.model} "
                f"writes '{following[:40]}' after a response; correct `end_token`"
            )
        if self._tokenise(end_token) != response_tokens[-1:]:
            raise NotAvailable(
                f"end_token must be one token of {self.model}, got '{end_token}'; set `end_token` to the token that ends a "
                "response in the chat template"
            )
        return prompt, response_tokens

    def _render(self, messages: Sequence[Message], **options: bool) -> str:
        try:
            text = render_messages(self._processor, messages, **options)
        except ValueError as error:
            raise NotAvailable(str(error)) from error
        return text.removeprefix(self._processor.tokenizer.bos_token or "")

    def _tokenise(self, text: str) -> list[int]:
        tokens: list[int] = self._processor.tokenizer(text, add_special_tokens=False).input_ids
        return tokens
