"""Score every label of a request with a server that returns the log-probabilities of a prompt's tokens.

One call per label contains the label as the assistant's response, so that all calls of a request begin with the same prompt. The
score is the sum over the tokens of the label and its end token, as with a local model (`local/conversation.py`). Any doubt about
the boundary between prompt and label stops the classifier: a wrong boundary would give wrong scores for every clip.
"""

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from vlm_audio_pipeline.classifiers.language_models.endpoint.calls import Call, GenerateCall, PromptLogprobsCall
from vlm_audio_pipeline.classifiers.language_models.endpoint.chat_template import ChatTemplate
from vlm_audio_pipeline.classifiers.language_models.endpoint.prompt_logprobs import (
    NO_LOG_PROBABILITIES,
    PromptReply,
    PromptToken,
    sum_usage,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import Reply, Request
from vlm_audio_pipeline.contracts.errors import NotAvailable

Exchange = Callable[[Call], Awaitable[Reply]]
"""Sends a call and returns its reply, which may be an error."""
ADVICE = (
    "use a server that returns them (vLLM with `likelihood: prompt_logprobs`, SGLang with `likelihood: "
    "input_token_logprobs`), or set `scoring: [generation]` and remove `likelihood`"
)

_UNKNOWN_PARAMETER = re.compile("prompt_logprobs|continue_final_message|add_generation_prompt|return_token_ids")


class LabelScorer(Protocol):
    """Scores the labels of requests with one kind of server."""

    async def score(self, request: Request, exchange: Exchange) -> Reply:
        """Return a reply with the log-probability of every label, or the first error.

        Raises:
            NotAvailable: if the server does not return what is needed, so that no request can succeed.
        """
        ...


def label_scorer(model: str, endpoint: Endpoint) -> LabelScorer | None:
    """Return how labels are scored at an endpoint; None if it does not declare that it returns log-probabilities."""
    if endpoint.likelihood == "prompt_logprobs" and endpoint.end_token is not None:
        return PromptLogprobsScorer(endpoint.end_token)
    if endpoint.likelihood == "input_token_logprobs" and endpoint.end_token is not None:
        return InputLogprobsScorer(ChatTemplate(endpoint.processor or model), endpoint.end_token)
    return None


class PromptLogprobsScorer:
    """Scores labels with vLLM's `prompt_logprobs`.

    Args:
        end_token: text of the token that ends a response in the model's chat template, such as `<|im_end|>`.
    """

    def __init__(self, end_token: str):
        self.end_token = end_token
        self._is_end_token_checked = False

    async def score(self, request: Request, exchange: Exchange) -> Reply:
        """Score every label; see `LabelScorer`."""
        replies: list[Reply] = []

        async def prompt_of(call: PromptLogprobsCall) -> tuple[PromptToken | None, ...] | None:
            reply = await exchange(call)
            replies.append(reply)
            return reply.prompt if isinstance(reply, PromptReply) else None

        question = await prompt_of(PromptLogprobsCall(request))
        if question is None:
            return call_error(replies[-1])
        sequences: list[Sequence[PromptToken | None]] = []
        for label in request.labels:
            prompt = await prompt_of(PromptLogprobsCall(request, label + self.end_token))
            if prompt is None:
                return call_error(replies[-1])
            sequence = _continuation(question, prompt, label)
            if sequence[-1] is not None and sequence[-1].text not in (None, self.end_token):
                raise NotAvailable(
                    f"end_token must be one token of the model, got '{self.end_token}', which ends with the token "
                    f"'{sequence[-1].text}'; set `end_token` to the token that ends a response in the chat template"
                )
            sequences.append(sequence)
        if not self._is_end_token_checked:
            prompt = await prompt_of(PromptLogprobsCall(request, request.labels[0], is_open=False))
            if prompt is None:
                return call_error(replies[-1])
            self._check_end_token(len(question) + len(sequences[0]) - 1, prompt)
        return likelihood_reply(request, sequences, replies)

    def _check_end_token(self, position: int, prompt: Sequence[PromptToken | None]) -> None:
        """Compare the end token with the token that the chat template writes after a response, if it writes one."""
        following = prompt[position] if position < len(prompt) else None
        text = following.text if following is not None else None
        if text is not None and text.strip() and text != self.end_token:
            raise NotAvailable(
                f"end_token must be the token that ends a response, got '{self.end_token}', but the chat template writes "
                f"'{text}'; set `end_token: \"{text}\"`"
            )
        self._is_end_token_checked = True


class InputLogprobsScorer:
    """Scores labels with SGLang's `input_token_logprobs`.

    The server does not render chat templates for this, so this machine renders them. The tokens of the question come from the
    server's prefix cache after the first call.

    Args:
        template: the model's chat template.
        end_token: text of the token that ends a response in the chat template.
    """

    def __init__(self, template: ChatTemplate, end_token: str):
        self.template = template
        self.end_token = end_token

    async def score(self, request: Request, exchange: Exchange) -> Reply:
        """Score every label; see `LabelScorer`."""
        question = self.template.render(request.messages)
        replies = [await exchange(GenerateCall(request, question))]
        if not isinstance(replies[0], PromptReply):
            return call_error(replies[0])
        length = replies[0].prompt_tokens
        sequences: list[Sequence[PromptToken | None]] = []
        for label in request.labels:
            prompt, expected = self.template.continuation(request.messages, question, label, self.end_token)
            reply = await exchange(GenerateCall(request, prompt, start=max(length - 1, 0)))
            replies.append(reply)
            if not isinstance(reply, PromptReply):
                return call_error(reply)
            sequence = reply.prompt[-len(expected) :]
            if [t.token if t else None for t in sequence] != expected or reply.prompt_tokens != length + len(expected):
                raise NotAvailable(
                    f"the server must split the response '{label}' into the tokens {expected} of the processor "
                    f"{self.template.model}, got others; set `processor` to the model that the server runs"
                )
            sequences.append(sequence)
        return likelihood_reply(request, sequences, replies)


def _continuation(
    question: Sequence[PromptToken | None], prompt: Sequence[PromptToken | None], label: str
) -> Sequence[PromptToken | None]:
    """Return the tokens of a prompt after the question.

    Raises:
        NotAvailable: if the prompt does not begin with the tokens of the question.
    """
    first, second = ([t.token if t else None for t in tokens[1:]] for tokens in (question, prompt[: len(question)]))
    if first != second or len(prompt) <= len(question):
        raise NotAvailable(
            f"the prompt with the response '{label}' must begin with the tokens of the prompt without it, but does not: the "
            "chat template or the tokenizer changes the prompt when a response follows; use the backend transformers, or "
            "switch off what the template adds, such as `extra_body: {chat_template_kwargs: {enable_thinking: false}}`"
        )
    return prompt[len(question) :]


def likelihood_reply(
    request: Request, sequences: Sequence[Sequence[PromptToken | None]], replies: Sequence[Reply]
) -> Reply:
    """Return the reply with the summed log-probability of every label; an error if one is not finite."""
    sums = [
        math.fsum(-math.inf if t is None or t.log_probability is None else t.log_probability for t in sequence)
        for sequence in sequences
    ]
    model, usage = replies[-1].model, sum_usage(replies)
    for label, total in zip(request.labels, sums, strict=True):
        if not math.isfinite(total):
            reason = f"the log-probability of {label!r} is not finite: {total}"
            return Reply("error", error=reason, model=model, usage=usage)
    return Reply(
        "answered",
        log_probabilities=tuple(sums),
        label_tokens=tuple(map(len, sequences)),
        model=model,
        usage=usage,
    )


def call_error(reply: Reply) -> Reply:
    """Return the error of a call.

    Raises:
        NotAvailable: if the server does not return log-probabilities at all.
    """
    if reply.outcome != "error":
        return Reply("error", error="the endpoint refused to score a label", model=reply.model, usage=reply.usage)
    if reply.error == NO_LOG_PROBABILITIES or _UNKNOWN_PARAMETER.search(str(reply.error)):
        raise NotAvailable(f"{NO_LOG_PROBABILITIES}: {reply.error}; {ADVICE}")
    return reply
