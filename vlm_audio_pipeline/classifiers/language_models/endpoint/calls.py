"""The HTTP calls that answer a request, one class per form: chat completions, Anthropic's messages, prompt log-probabilities.

Belongs here: address, headers and body of each form. Does not belong here: attempts (`meter`), failures (`backend`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vlm_audio_pipeline.classifiers.language_models.endpoint.anthropic_wire import (
    ANTHROPIC_VERSION,
    messages_request,
    omitted_parameters,
    parse_message,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.prompt_logprobs import (
    parse_input_logprobs,
    parse_prompt_logprobs,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, data_url, parse_reply
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Reply, Request

if TYPE_CHECKING:
    import openai


class Call(Protocol):
    """One HTTP call to an endpoint, which may take several attempts."""

    async def send(self, client: "openai.AsyncOpenAI", model: str, endpoint: Endpoint, dialect: Dialect) -> Any:
        """Send the call and return the HTTP response.

        Raises:
            openai.OpenAIError: if there is no response, or its status is that of an error.
            ValueError: if the form cannot carry the request.
        """
        ...

    def parse(self, body: Any, model_suffix: str) -> Reply:
        """Convert the response body, which is not trusted, to a reply without time and price."""
        ...


def first_dialect(endpoint: Endpoint) -> Dialect:
    """Return the dialect of the first request to an endpoint."""
    if endpoint.protocol == "anthropic":
        return Dialect("max_tokens", omitted_parameters(endpoint), is_limit_renamed=True)
    return Dialect.from_endpoint(endpoint)


def generation_call(request: Request, endpoint: Endpoint) -> "Call":
    """Return the call that generates the text of a request."""
    return MessagesCall(request) if endpoint.protocol == "anthropic" else ChatCall(request)


@dataclass(frozen=True)
class ChatCall:
    """A chat completion."""

    request: Request

    async def send(self, client: "openai.AsyncOpenAI", model: str, endpoint: Endpoint, dialect: Dialect) -> Any:
        """Send the call; see `Call`."""
        parameters: Any = dialect.parameters(self.request, endpoint)
        raw: Any = await client.chat.completions.with_raw_response.create(model=model, **parameters)
        return raw.http_response

    def parse(self, body: Any, model_suffix: str) -> Reply:
        """Convert the response body; see `Call`."""
        return parse_reply(body, model_suffix, self.request.labels if "first_token" in self.request.scorings else ())


@dataclass(frozen=True)
class MessagesCall:
    """A message of Anthropic's Messages API."""

    request: Request

    async def send(self, client: "openai.AsyncOpenAI", model: str, endpoint: Endpoint, dialect: Dialect) -> Any:
        """Send the call; see `Call`. The API key is sent as `x-api-key`."""
        body = messages_request(model, self.request, endpoint, dialect.rejected_parameters)
        headers = {"anthropic-version": ANTHROPIC_VERSION, "x-api-key": client.api_key}
        return await post(client, "/messages", body, headers)

    def parse(self, body: Any, model_suffix: str) -> Reply:
        """Convert the response body; see `Call`."""
        return parse_message(body, model_suffix)


@dataclass(frozen=True)
class PromptLogprobsCall:
    """A chat completion of vLLM that returns the log-probabilities of its prompt.

    Attributes:
        request: the request.
        response: text of the assistant's turn, which is part of the prompt; None: the prompt ends where the response begins.
        is_open: whether the prompt ends with the text of `response`; False: the chat template ends the turn.
    """

    request: Request
    response: str | None = None
    is_open: bool = True

    async def send(self, client: "openai.AsyncOpenAI", model: str, endpoint: Endpoint, dialect: Dialect) -> Any:
        """Send the call; see `Call`."""
        parameters: Any = dialect.parameters(self.request, endpoint)
        parameters.pop("response_format", None)
        parameters[dialect.limit_name] = 1
        if self.response is not None:
            parameters["messages"] = [*parameters["messages"], {"role": "assistant", "content": self.response}]
        parameters["extra_body"] = {
            **parameters.get("extra_body", {}),
            "prompt_logprobs": 0,  # 0: of the tokens of the prompt alone, without alternatives
            "return_token_ids": True,
            "add_generation_prompt": self.response is None,
            "continue_final_message": self.response is not None and self.is_open,
        }
        raw: Any = await client.chat.completions.with_raw_response.create(model=model, **parameters)
        return raw.http_response

    def parse(self, body: Any, model_suffix: str) -> Reply:
        """Convert the response body; see `Call`."""
        return parse_prompt_logprobs(body, model_suffix)


@dataclass(frozen=True)
class GenerateCall:
    """A call of SGLang's `/generate`, which returns the log-probabilities of its prompt and generates nothing.

    Attributes:
        request: the request, for its images or audio.
        prompt: text of the chat template with placeholders.
        start: position of the first token whose log-probability is returned; the tokens before it may come from the cache.
            None: no log-probabilities, only the number of tokens.
    """

    request: Request
    prompt: str
    start: int | None = None

    async def send(self, client: "openai.AsyncOpenAI", model: str, endpoint: Endpoint, dialect: Dialect) -> Any:
        """Send the call; see `Call`. SGLang serves one model, so the name of the model is not sent."""
        media = [part for message in self.request.messages for part in message.parts if not isinstance(part, str)]
        body: dict[str, Any] = {"text": self.prompt, "sampling_params": {"max_new_tokens": 0, "temperature": 0}}
        if images := [data_url(part, endpoint) for part in media if isinstance(part, ImagePart)]:
            body["image_data"] = images
        if audio := [data_url(part, endpoint) for part in media if isinstance(part, AudioPart)]:
            body["audio_data"] = audio
        if self.start is not None:
            body |= {"return_logprob": True, "logprob_start_len": self.start, "return_text_in_logprobs": True}
        key = {"Authorization": f"Bearer {client.api_key}"} if endpoint.key_variable else {}
        return await post(client, endpoint.url.removesuffix("/v1") + "/generate", {**body, **endpoint.extra_body}, key)

    def parse(self, body: Any, model_suffix: str) -> Reply:
        """Convert the response body; see `Call`."""
        return parse_input_logprobs(body, self.start is not None)


async def post(client: "openai.AsyncOpenAI", address: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
    """Send a JSON body to a path of the endpoint, or to a complete address; the API key is sent only as part of `headers`."""
    import openai

    options: Any = {"headers": {"Authorization": openai.Omit(), **headers}}
    response = await client.post(address, body=body, cast_to=openai.HttpxBinaryResponseContent, options=options)
    return response.response
