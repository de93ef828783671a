"""Requests and replies of Anthropic's Messages API.

The expected formats are those of https://platform.claude.com/docs/en/api/messages and of its pages on thinking, stop reasons and
structured outputs.
"""

import base64
import json

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.anthropic_wire import (
    messages_request,
    omitted_parameters,
    parse_message,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, Request, Sampling

URL = "https://api.anthropic.com/v1"
MODEL = "claude-opus-4-6"
IMAGE = ImagePart(b"\x89PNG", "image/png", "00")
SHOTS = (
    Message("system", ("You classify sounds.",)),
    Message("user", ("Example:", IMAGE)),
    Message("assistant", ("dog",)),
    Message("user", (IMAGE, "Which class?")),
)


def endpoint(**values):
    return Endpoint(url=URL, protocol="anthropic", key="ANTHROPIC_API_KEY", **values)


def request(messages=SHOTS, **sampling):
    return Request(messages, ("dog", "rain"), frozenset({"generation"}), Sampling(**sampling))


def body(**values):
    spec = endpoint(**values)
    return messages_request(MODEL, request(max_tokens=2048), spec, omitted_parameters(spec))


def reply(*content, stop_reason="end_turn", **values):
    usage = {"input_tokens": 10, "output_tokens": 5}
    message = {"type": "message", "model": MODEL, "content": list(content), "stop_reason": stop_reason, "usage": usage}
    return parse_message(message | values)


def text(value):
    return {"type": "text", "text": value}


def test_the_system_text_stands_apart_and_images_are_base64_blocks():
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(IMAGE.data).decode()},
    }
    assert messages_request(MODEL, request(max_tokens=7), endpoint()) == {
        "model": MODEL,
        "max_tokens": 7,
        "temperature": 0.0,
        "system": [text("You classify sounds.")],
        "messages": [
            {"role": "user", "content": [text("Example:"), image]},
            {"role": "assistant", "content": [text("dog")]},
            {"role": "user", "content": [image, text("Which class?")]},
        ],
    }


def test_top_p_is_sent_only_below_1_and_refused_parameters_are_left_out():
    both = messages_request(MODEL, request(temperature=0.5, top_p=0.9), endpoint())
    assert (both["temperature"], both["top_p"]) == (0.5, 0.9)
    neither = messages_request(MODEL, request(top_p=0.9), endpoint(), ("temperature", "top_p"))
    assert not {"temperature", "top_p"} & neither.keys()
    assert not {"seed", "n"} & both.keys()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"thinking_budget": 1024}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ({"thinking_budget": 0}, {"thinking": {"type": "disabled"}, "temperature": 0.0}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}, "temperature": 0.0}),
        (
            {"reasoning_effort": "low"},
            {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "low"}},
        ),
        ({"extra_body": {"thinking": {"type": "adaptive"}}}, {"thinking": {"type": "adaptive"}}),
        ({"extra_body": {"top_k": 5}}, {"top_k": 5, "temperature": 0.0}),
    ],
)
def test_thinking_is_requested_in_the_form_of_the_api_without_temperature(values, expected):
    sent = body(**values)
    assert {k: v for k, v in sent.items() if k not in ("model", "max_tokens", "system", "messages")} == expected


def test_a_schema_restricts_the_response_beside_an_effort():
    sent = body(structured=True, reasoning_effort="high", extra_body={"output_config": {"task_budget": 9}})
    assert sent["output_config"] == {
        "effort": "high",
        "task_budget": 9,
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"label": {"type": "string", "enum": ["dog", "rain"]}},
                "required": ["label"],
                "additionalProperties": False,
            },
        },
    }


def test_audio_is_refused():
    audio = AudioPart(lambda rate: np.zeros(rate), "00", 1.0)
    with pytest.raises(ValueError, match="takes no audio"):
        messages_request(MODEL, request((Message("user", (audio,)),)), endpoint())


def test_thinking_is_stored_apart_and_cached_tokens_belong_to_the_prompt():
    """1,000 + 24 + 200 tokens of the prompt were read from the cache, written to it, or neither."""
    usage = {
        "input_tokens": 200,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 24,
        "output_tokens": 90,
        "output_tokens_details": {"thinking_tokens": 80},
    }
    thinking = [
        {"type": "thinking", "thinking": "Barks?", "signature": "x"},
        {"type": "redacted_thinking", "data": "y"},
    ]
    got = reply(*thinking, text("dog"), usage=usage)
    assert (got.outcome, got.text, got.reasoning, got.model) == ("answered", "dog", "Barks?", MODEL)
    assert (got.usage.input_tokens, got.usage.cached_tokens) == (1224, 1000)
    assert (got.usage.output_tokens, got.usage.reasoning_tokens) == (90, 80)


@pytest.mark.parametrize(
    ("stop_reason", "outcome"),
    [
        ("end_turn", "answered"),
        ("stop_sequence", "answered"),
        ("max_tokens", "truncated"),
        ("model_context_window_exceeded", "truncated"),
        ("refusal", "refused"),
        ("pause_turn", "error"),
        ("tool_use", "error"),
        (None, "error"),
        ("new_reason", "error"),
    ],
)
def test_only_a_response_that_ended_by_itself_is_answered(stop_reason, outcome):
    assert reply(text("dog"), stop_reason=stop_reason).outcome == outcome


def test_a_response_cut_off_while_thinking_is_truncated_and_a_refusal_keeps_its_explanation():
    cut_off = reply({"type": "thinking", "thinking": "Hm"}, stop_reason="max_tokens")
    assert (cut_off.outcome, cut_off.text, cut_off.reasoning) == ("truncated", "", "Hm")
    refused = reply(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "Not allowed."})
    assert (refused.outcome, refused.text) == ("refused", "Not allowed.")


@pytest.mark.parametrize(
    "message", [None, [], {}, {"content": "dog"}, {"type": "error", "error": {"type": "api_error"}}]
)
def test_anything_else_is_an_error(message):
    assert parse_message(message).outcome == "error"


def test_a_message_of_thinking_only_is_an_error_and_broken_values_do_no_harm():
    assert reply({"type": "thinking", "thinking": "Hm"}).outcome == "error"
    got = parse_message(
        json.loads('{"model": 3, "content": [1, {"type": "text", "text": 2}], "usage": {"input_tokens": -1}}')
    )
    assert (got.outcome, got.model, got.usage.input_tokens) == ("error", None, None)


def test_the_record_names_the_parameters_that_were_left_out():
    assert (
        parse_message({"model": MODEL, "content": []}, " without temperature").model == f"{MODEL} without temperature"
    )
