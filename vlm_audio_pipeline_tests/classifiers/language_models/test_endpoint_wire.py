"""The wire format: requests, responses, and parameters that an endpoint refuses."""

import base64
import io
import json
import math

import jsonschema
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.endpoint.prompt_logprobs import (
    parse_input_logprobs,
    parse_prompt_logprobs,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, encode_wav, parse_reply
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, Request, Sampling

LOCAL = Endpoint(url="http://127.0.0.1:8000/v1")
GENERATION = frozenset({"generation"})


def audio_part(samples):
    return AudioPart(lambda rate: np.asarray(samples, np.float32), "00", 1.0)


def test_all_parameters_are_sent_and_parts_keep_their_order():
    image = ImagePart(b"\x89PNG", "image/png", "00")
    request = Request(
        (Message("system", ("Be ", "brief.")), Message("user", ("This is", image, "What?"))),
        ("dog", "cat"),
        GENERATION,
        Sampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=3),
    )
    endpoint = Endpoint(url="http://127.0.0.1:8000/v1", detail="low")
    assert Dialect.from_endpoint(endpoint).parameters(request, endpoint) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "This is"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "low"}},
                    {"type": "text", "text": "What?"},
                ],
            },
        ],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 5,
        "seed": 3,
        "n": 1,
    }
    assert Dialect.from_endpoint(Endpoint()).parameters(request, Endpoint())["max_completion_tokens"] == 5


def test_audio_is_sent_as_16_bit_wav_at_the_sample_rate_of_the_endpoint():
    requested_rates = []

    def load(rate):
        requested_rates.append(rate)
        return np.sin(np.arange(rate) / 10).astype(np.float32)

    request = Request((Message("user", (AudioPart(load, "00", 1.0), "What?")),), (), GENERATION)
    part = Dialect.from_endpoint(LOCAL).parameters(request, LOCAL)["messages"][0]["content"][0]
    assert (part["type"], part["input_audio"]["format"]) == ("input_audio", "wav")
    file = io.BytesIO(base64.b64decode(part["input_audio"]["data"]))
    with soundfile.SoundFile(file) as opened:
        assert (opened.samplerate, opened.channels, opened.subtype) == (24_000, 1, "PCM_16")
        np.testing.assert_allclose(opened.read(), np.sin(np.arange(24_000) / 10), atol=1 / 32768)
    assert requested_rates == [24_000]


def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap_around():
    """With 16 bits, full scale is 32,767 and -32,768."""
    samples, _ = soundfile.read(io.BytesIO(encode_wav(audio_part([0, 1.5, -1.5, 0.5]), 8000)), dtype="int16")
    assert samples.tolist() == [0, 32767, -32768, 16384]


def test_responses_can_be_restricted_to_the_labels():
    endpoint = Endpoint(url="http://127.0.0.1:8000/v1", structured=True)
    request = Request((Message("user", ("What?",)),), ("dog", "cat", "dog"), GENERATION)
    form = Dialect.from_endpoint(endpoint).parameters(request, endpoint)["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    schema = form["json_schema"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    allowed = jsonschema.Draft202012Validator(schema).is_valid
    assert allowed({"label": "cat"})
    assert not any(map(allowed, ({"label": "rain"}, {}, {"label": "cat", "why": ""}, "cat")))


UNSUPPORTED = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)


@pytest.mark.parametrize(
    ("code", "parameter", "message", "limit_name", "rejected_parameters"),
    [
        # messages of real endpoints: OpenAI, Gemini, vLLM
        ("unsupported_parameter", "max_tokens", UNSUPPORTED, "max_completion_tokens", ()),
        ("invalid_request_body", "", UNSUPPORTED, "max_completion_tokens", ()),
        ("", "", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', "max_tokens", ("seed",)),
        (
            "",
            "",
            'Invalid JSON payload received. Unknown name "n": Cannot find field.\nUnknown name "seed": Cannot find field.',
            "max_tokens",
            ("n", "seed"),
        ),
        (
            "unsupported_value",
            "temperature",
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
            "max_tokens",
            ("temperature",),
        ),
        (
            "",
            "",
            "[{'type': 'extra_forbidden', 'loc': ('body', 'top_p'), 'msg': 'Extra inputs are not permitted'}]",
            "max_tokens",
            ("top_p",),
        ),
        (
            "",
            "response_format",
            "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
            "max_tokens",
            ("response_format",),
        ),
        (
            "",
            "messages[0].content[1].image_url.detail",
            "Unknown parameter: 'messages[0].content[1].image_url.detail'.",
            "max_tokens",
            ("detail",),
        ),
    ],
)
def test_a_refused_parameter_is_renamed_or_left_out(code, parameter, message, limit_name, rejected_parameters):
    adapted = Dialect.from_endpoint(LOCAL).adapt(code, parameter, message)
    assert (adapted.limit_name, adapted.rejected_parameters) == (limit_name, rejected_parameters)
    assert adapted.adapt(code, parameter, message) is None  # adapted only once
    assert adapted.model_suffix() == (f" without {', '.join(rejected_parameters)}" if rejected_parameters else "")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens, got 9000; reduce 'max_tokens'.",
        ),
        ("invalid_image", "Unsupported image: only png, jpeg, gif and webp."),
        ("", "'messages' must not be empty"),
        ("unsupported_parameter", "Unsupported parameter: 'messages'"),
        ("model_not_found", "unknown model"),
        ("", ""),
    ],
)
def test_an_error_about_the_request_content_does_not_change_the_dialect(code, message):
    assert Dialect.from_endpoint(LOCAL).adapt(code, "", message) is None


def test_the_token_limit_is_never_left_out():
    adapted = Dialect.from_endpoint(LOCAL).adapt("unsupported_parameter", "max_tokens", "unsupported")
    assert adapted.adapt("unsupported_parameter", "max_completion_tokens", "unsupported") is None
    request = Request((Message("user", ("What?",)),), (), GENERATION)
    assert "max_completion_tokens" in adapted.parameters(request, LOCAL)


def body(content="dog", finish="stop", **other):
    message = {"role": "assistant", "content": content} | other.pop("message", {})
    return {"model": "m-1", "choices": [{"index": 0, "finish_reason": finish, "message": message}]} | other


def outcome(body):
    reply = parse_reply(body)
    return reply.outcome, reply.text, reply.error


def test_a_response_is_parsed_verbatim_with_model_fingerprint_and_usage():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    reply = parse_reply(body(" Dog.\n", system_fingerprint="fp_1", usage=usage), " without seed")
    assert (reply.outcome, reply.text, reply.model) == ("answered", " Dog.\n", "m-1 fp_1 without seed")
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (9, 4, 2)


def test_reasoning_tokens_that_are_only_in_the_total_are_charged():
    reply = parse_reply(body(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 61}))
    assert reply.usage.output_tokens == 52


@pytest.mark.parametrize(
    ("endpoint_output", "expected"),
    [
        (body(""), ("answered", "", None)),
        (body("It is a d", finish="length"), ("truncated", "It is a d", None)),
        (body("It is a d", finish="MAX_TOKENS"), ("truncated", "It is a d", None)),
        (body([{"type": "text", "text": "do"}, {"type": "text", "text": "g"}]), ("answered", "dog", None)),
        (body(None, message={"refusal": "I cannot."}), ("refused", "I cannot.", None)),
        (body("", message={"refusal": ""}), ("answered", "", None)),
        (body(None, finish="content_filter"), ("refused", None, None)),
        (body("half an", finish="content_filter"), ("refused", "half an", None)),
        (body("cut \ud83d"), ("answered", "cut ?", None)),
        (body("", finish="length"), ("truncated", "", None)),
        (body(None), ("error", None, "the endpoint returned a choice without text")),
        (body(None, finish="length"), ("truncated", "", None)),
        (body("dog", finish="end_turn"), ("answered", "dog", None)),
        (body("dog", finish=None), ("answered", "dog", None)),
        *(
            (body(None, finish=reason), ("refused", None, None))
            for reason in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII")
        ),
        *(
            (body("do", finish=reason), ("error", None, f"the endpoint ended the response for the reason '{reason}'"))
            for reason in ("error", "abort", "tool_calls", "OTHER")
        ),
        (
            body(None, message={"reasoning_content": "dog"}),
            (
                "error",
                None,
                "the endpoint returned no text: the answer stands in the reasoning field; correct the reasoning parser of the server",
            ),
        ),
        (body() | {"choices": []}, ("error", None, "the endpoint returned no choice")),
        (body() | {"choices": [None]}, ("error", None, "the endpoint returned a choice without text")),
        ({"error": "x"}, ("error", None, "the endpoint returned something other than a chat completion")),
    ],
)
def test_outcomes(endpoint_output, expected):
    assert outcome(endpoint_output) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "usage", "model", "refusal", "finish_reason", "prompt_tokens"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_endpoint_output_becomes_a_reply_that_can_be_stored(endpoint_output):
    reply = parse_reply(endpoint_output)
    assert (reply.error is not None) == (reply.outcome == "error")
    json.dumps([reply.text, reply.error, reply.model]).encode()
    for text in (reply.text, reply.error, reply.model):
        assert text is None or text.encode()
    for count in (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cached_tokens):
        assert count is None or 0 <= count < 2**53


@pytest.mark.parametrize("logprob", [1000, 0.5, 10**400, math.nan, math.inf, -math.inf, True, "x"])
def test_an_impossible_log_probability_of_a_first_token_is_not_used(logprob):
    top = [{"token": "dog", "logprob": logprob}, {"token": "rain", "logprob": -1.0}]
    endpoint_output = body("dog")
    endpoint_output["choices"][0]["logprobs"] = {"content": [{"token": "dog", "top_logprobs": top}]}
    first = parse_reply(endpoint_output, first_token_labels=("dog", "rain")).first_tokens
    assert first.probabilities == (None, pytest.approx(0.36787944))  # exp(-1)


@pytest.mark.parametrize("logprob", [1000, 0.5, 10**400, math.nan, math.inf])
def test_an_impossible_log_probability_of_a_prompt_is_no_number(logprob):
    prompt = [None, {"7": {"logprob": logprob, "decoded_token": "dog"}}]
    reply = parse_prompt_logprobs({**body("dog"), "prompt_logprobs": prompt})
    assert math.isnan(reply.prompt[1].log_probability)
    meta = {"prompt_tokens": 2, "input_token_logprobs": [[None, 1, "a"], [logprob, 7, "dog"]]}
    reply = parse_input_logprobs({"meta_info": meta}, True)
    assert math.isnan(reply.prompt[1].log_probability) and reply.prompt[0].log_probability is None


@pytest.mark.parametrize("token", ["\u00b2", "9" * 5000, "-1", "1.0"])
def test_a_token_of_a_prompt_that_is_no_number_gives_an_error(token):
    prompt = [None, {token: {"logprob": -1.0, "decoded_token": "dog"}}]
    assert parse_prompt_logprobs({**body("dog"), "prompt_logprobs": prompt}).outcome == "error"
