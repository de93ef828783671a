"""The wire format: what is sent, what is read, and what an endpoint may refuse."""

import base64
import io
import json

import jsonschema
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect, encode_wav, parse_reply, redact
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, Request, Sampling

LOCAL = Endpoint(url="http://127.0.0.1:8000/v1")
GENERATION = frozenset({"generation"})


def sound(samples):
    return AudioPart(lambda rate: np.asarray(samples, np.float32), "00", 1.0)


def test_everything_is_sent_explicitly_in_the_order_in_which_it_is_read():
    image = ImagePart(b"\x89PNG", "image/png", "00")
    request = Request(
        (Message("system", ("Be ", "brief.")), Message("user", ("This is", image, "What?"))),
        ("dog", "cat"),
        GENERATION,
        Sampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=3),
    )
    endpoint = Endpoint(url="http://127.0.0.1:8000/v1", detail="low")
    assert Dialect.of(endpoint).parameters(request, endpoint) == {
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
    assert Dialect.of(Endpoint()).parameters(request, Endpoint())["max_completion_tokens"] == 5


def test_a_sound_is_sent_as_16_bit_wav_at_the_rate_of_the_endpoint():
    request_body = []

    def load(rate):
        request_body.append(rate)
        return np.sin(np.arange(rate) / 10).astype(np.float32)

    request = Request((Message("user", (AudioPart(load, "00", 1.0), "What?")),), (), GENERATION)
    part = Dialect.of(LOCAL).parameters(request, LOCAL)["messages"][0]["content"][0]
    assert (part["type"], part["input_audio"]["format"]) == ("input_audio", "wav")
    file = io.BytesIO(base64.b64decode(part["input_audio"]["data"]))
    with soundfile.SoundFile(file) as opened:
        assert (opened.samplerate, opened.channels, opened.subtype) == (24_000, 1, "PCM_16")
        np.testing.assert_allclose(opened.read(), np.sin(np.arange(24_000) / 10), atol=1 / 32768)
    assert request_body == [24_000]


def test_what_exceeds_full_scale_is_clipped_and_does_not_wrap_around():
    """16 bits: full scale is 32,767 up and 32,768 down."""
    samples, _ = soundfile.read(io.BytesIO(encode_wav(sound([0, 1.5, -1.5, 0.5]), 8000)), dtype="int16")
    assert samples.tolist() == [0, 32767, -32768, 16384]


def test_answers_can_be_held_to_the_labels():
    endpoint = Endpoint(url="http://127.0.0.1:8000/v1", structured=True)
    request = Request((Message("user", ("What?",)),), ("dog", "cat", "dog"), GENERATION)
    form = Dialect.of(endpoint).parameters(request, endpoint)["response_format"]
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
    ("code", "parameter", "message", "limit", "without"),
    [
        # as endpoints were seen to say it: OpenAI's, Gemini's, vLLM's
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
def test_a_refused_parameter_is_renamed_or_left_out(code, parameter, message, limit, without):
    learnt = Dialect.of(LOCAL).adapt(code, parameter, message)
    assert (learnt.limit, learnt.without) == (limit, without)
    assert learnt.adapt(code, parameter, message) is None  # once
    assert learnt.note() == (f" without {', '.join(without)}" if without else "")


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
def test_a_refusal_of_the_question_itself_teaches_nothing(code, message):
    assert Dialect.of(LOCAL).adapt(code, "", message) is None


def test_the_longest_answer_is_never_left_out_lest_money_be_without_bound():
    learnt = Dialect.of(LOCAL).adapt("unsupported_parameter", "max_tokens", "unsupported")
    assert learnt.adapt("unsupported_parameter", "max_completion_tokens", "unsupported") is None
    request = Request((Message("user", ("What?",)),), (), GENERATION)
    assert "max_completion_tokens" in learnt.parameters(request, LOCAL)


def body(content="dog", finish="stop", **other):
    message = {"role": "assistant", "content": content} | other.pop("message", {})
    return {"model": "m-1", "choices": [{"index": 0, "finish_reason": finish, "message": message}]} | other


def outcome(body):
    reply = parse_reply(body)
    return reply.outcome, reply.text, reply.error


def test_an_answer_is_read_verbatim_with_model_fingerprint_and_usage():
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    reply = parse_reply(body(" Dog.\n", system_fingerprint="fp_1", usage=usage), " without seed")
    assert (reply.outcome, reply.text, reply.model) == ("answered", " Dog.\n", "m-1 fp_1 without seed")
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (9, 4, 2)


def test_what_was_thought_and_counted_in_the_total_alone_is_charged():
    reply = parse_reply(body(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 61}))
    assert reply.usage.output_tokens == 52


@pytest.mark.parametrize(
    ("prompt_text", "read"),
    [
        (body(""), ("answered", "", None)),
        (body("It is a d", finish="length"), ("answered", "It is a d", None)),
        (body([{"type": "text", "text": "do"}, {"type": "text", "text": "g"}]), ("answered", "dog", None)),
        (body(None, message={"refusal": "I cannot."}), ("refused", "I cannot.", None)),
        (body("", message={"refusal": ""}), ("answered", "", None)),
        (body(None, finish="content_filter"), ("refused", None, None)),
        (body("half an", finish="content_filter"), ("refused", "half an", None)),
        (body("cut \ud83d"), ("answered", "cut ?", None)),
        (body("", finish="length"), ("error", None, "no text was generated within max_tokens; raise it")),
        (body(None), ("error", None, "the endpoint returned a choice without text")),
        (
            body(None, finish="length"),
            ("error", None, "the endpoint returned a choice without text (cut off: raise max_tokens)"),
        ),
        (body() | {"choices": []}, ("error", None, "the endpoint returned no choice")),
        (body() | {"choices": [None]}, ("error", None, "the endpoint returned a choice without text")),
        ({"error": "x"}, ("error", None, "the endpoint returned something other than a chat completion")),
    ],
)
def test_outcomes(prompt_text, read):
    assert outcome(prompt_text) == read


plain = st.recursive(
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


@given(plain)
def test_whatever_an_endpoint_says_becomes_a_reply_that_can_be_stored(prompt_text):
    reply = parse_reply(prompt_text)
    assert (reply.error is not None) == (reply.outcome == "error")
    json.dumps([reply.text, reply.error, reply.model]).encode()
    for text in (reply.text, reply.error, reply.model):
        assert text is None or text.encode()
    for count in (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.cached_tokens):
        assert count is None or 0 <= count < 2**53


KEY = "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8t"


@given(st.integers(0, len(KEY) - 8), st.integers(8, len(KEY)), st.text(max_size=30), st.text(max_size=30))
def test_no_piece_of_a_key_passes(start, length, before, after):
    cleaned = redact(before + KEY[start : start + length] + after, KEY)
    assert not any(KEY[i : i + 8] in cleaned for i in range(len(KEY) - 7))


def test_images_do_not_pass_and_words_are_cut():
    data = base64.b64encode(bytes(range(256))).decode()
    assert redact(f"bad image data:image/png;base64,{data} sent", None) == "bad image … sent"
    assert redact(f"bad {data}", KEY) == "bad …"
    assert len(redact("word " * 100, KEY)) == 200
    assert redact("Incorrect API key provided: sk-proj-********Rs8t.", KEY) == "Incorrect API key provided: …"
    assert redact(f"{KEY}", "") != ""
