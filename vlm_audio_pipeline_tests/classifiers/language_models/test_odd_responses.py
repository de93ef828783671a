"""Variants of the odd responses of servers, in the forms of many providers: live requests and batches read them with the same rules."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchResult
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.results import read_result
from vlm_audio_pipeline.classifiers.language_models.endpoint.fatal_failures import fatal_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import Dialect
from vlm_audio_pipeline_tests.classifiers.language_models.test_endpoint_failures import chat

ENDPOINT = Endpoint(url="http://127.0.0.1:1/v1")


def read(status, body):
    return read_result(BatchResult("x", status, body), Dialect.from_endpoint(ENDPOINT), "m", ENDPOINT, None)


def answer_body(content="dog", finish="stop", **message):
    return chat(content, finish=finish, **message)[1]


def with_usage(body, **usage):
    return {**body, "usage": usage}


@pytest.mark.parametrize(
    ("finish", "outcome"),
    [
        ("STOP", "answered"),
        ("FinishReason.STOP", "answered"),
        ("FINISH_REASON_STOP", "answered"),
        (" stop ", "answered"),
        ("done", "answered"),
        ("MAX_TOKENS", "truncated"),
        ("FINISH_REASON_MAX_TOKENS", "truncated"),
        ("max_new_tokens", "truncated"),
        ("context_length", "truncated"),
        ("model_context_window_exceeded", "truncated"),
        ("RECITATION", "refused"),
        ("SPII", "refused"),
        ("IMAGE_SAFETY", "refused"),
        ("guardrail_intervened", "refused"),
        ("sensitive", "refused"),
        ("content_filtered", "refused"),
        ("OTHER", "error"),
        ("MALFORMED_FUNCTION_CALL", "error"),
        ("insufficient_system_resource", "error"),
        ("network_error", "error"),
        ("timeout", "error"),
        ("cancelled", "error"),
        ("function_call", "error"),
    ],
)
def test_the_end_of_a_response_is_read_in_the_words_of_every_provider(finish, outcome):
    reply = read(200, answer_body(finish=finish)).reply
    assert reply.outcome == outcome
    assert (finish.strip() in str(reply.error)) == (outcome == "error")


@pytest.mark.parametrize(
    ("body", "outcome", "text", "reasoning"),
    [
        (answer_body(["dog"]), "answered", "dog", None),
        (answer_body({"type": "text", "text": "dog"}), "answered", "dog", None),
        (answer_body("dog", thinking="rain?"), "answered", "dog", "rain?"),
        (
            answer_body("dog", reasoning_details=[{"type": "reasoning.text", "text": "rain?"}]),
            "answered",
            "dog",
            "rain?",
        ),
        (answer_body(None, refusal="I cannot"), "refused", "I cannot", None),
        (answer_body([{"type": "refusal", "refusal": "I cannot"}]), "refused", "I cannot", None),
        ({"choices": [], "prompt_feedback": {"block_reason": "SAFETY"}}, "refused", None, None),
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "refused", None, None),
        (answer_body("", reasoning_content="dog"), "error", None, None),
        (with_usage(answer_body(""), prompt_tokens=300, completion_tokens=0), "error", None, None),
        (with_usage(answer_body(""), prompt_tokens=300, completion_tokens=1), "answered", "", None),
    ],
)
def test_texts_reasoning_and_refusals_are_read_where_servers_put_them(body, outcome, text, reasoning):
    reply = read(200, body).reply
    assert (reply.outcome, reply.text, reply.reasoning) == (outcome, text, reasoning)


UPSTREAM = {
    "message": "Provider returned error",
    "code": 429,
    "metadata": {"raw": "busy upstream", "provider_name": "p"},
}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": "model runner has stopped"}, "HTTP 502 (model runner has stopped)"),
        ({"error": True, "message": "out of memory"}, "HTTP 502 (out of memory)"),
        ({"object": "error", "message": "too busy", "code": 40903}, "HTTP 502 (too busy)"),
        ({"detail": "Not authenticated"}, "HTTP 502 (Not authenticated)"),
        ({"success": False, "errors": [{"code": 7, "message": "no capacity"}]}, "HTTP 502 (no capacity)"),
        (
            {"error_code": 18, "error_msg": "Open api qps request limit reached"},
            "HTTP 502 (Open api qps request limit reached)",
        ),
        ({"error": UPSTREAM}, "HTTP 429 (Provider returned error: busy upstream)"),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "quota"}}, "HTTP 429 (quota)"),
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}}, "HTTP 503 (Overloaded)"),
        ({"error": {"code": "server_error", "message": "bad day"}}, "HTTP 500 (server_error: bad day)"),
    ],
)
def test_a_failure_in_a_200_keeps_the_words_of_the_provider(body, reason):
    result = read(200, body)
    assert result.reply.outcome == "error" and result.reply.error == reason
    assert not result.is_charged and result.failure.is_temporary


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "content_policy_violation", "message": "no"}),
        (400, {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
        (400, {"code": "invalid_prompt", "message": "Your prompt was flagged as potentially violating our usage policy."}),
        (400, {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}),
        (403, {"code": 403, "message": "m requires moderation on Bedrock. Your input was flagged for \"violence\"."}),
        (403, {"message": "Content violates usage guidelines."}),
        (422, {"message": "The request was blocked by our safety system."}),
    ],
)  # fmt: skip
def test_an_error_of_a_safety_filter_is_a_refusal(status, error):
    assert read(status, {"error": error}).reply.outcome == "refused"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "Your account was suspended because it violates our usage policies."),
        (403, "The API key has no access to this content"),
        (400, "the prompt is too long"),
        (429, "Rate limit reached for the safety system"),
    ],
)
def test_other_errors_are_no_refusals(status, message):
    assert read(status, {"error": {"message": message}}).reply.outcome == "error"


FORBIDDEN = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        ({"error": {"message": "invalid temperature: only 1 is allowed for this model"}}, ("temperature",)),
        ({"error": {"message": "`temperature` may only be set to 1 when thinking is enabled."}}, ("temperature",)),
        ({"error": {"message": "`top_p` must be unset when thinking is enabled"}}, ("top_p",)),
        ({"error": {"message": "temperature and top_p are mutually exclusive"}}, ("top_p",)),
        ({"error": "Input validation error: `top_p` must be > 0.0 and < 1.0"}, ("top_p",)),
        ({"error": "Input validation error: `temperature` must be strictly positive"}, ("temperature",)),
        ({"error": {"message": "temperature must be between 0.01 and 1"}}, ("temperature",)),
        ({"error": {"message": "top_p is out of range"}}, ("top_p",)),
        ({"error": {"message": "Argument not supported on this model: seed"}}, ("seed",)),
        ({"error": [{"message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}]}, ("seed",)),
        ({"object": "error", "message": {"detail": FORBIDDEN}, "type": "invalid_request_error"}, ("seed",)),
        ({"detail": FORBIDDEN}, ("seed",)),
        ({"error": {"message": "Unknown parameter: 'messages[0].content[1].image_url.detail'."}}, ("detail",)),
        ({"error": {"message": "This response_format type is unavailable now"}}, ("response_format",)),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": '{"message": "n is not supported"}'}}}, ("n",)),
        ({"error": {"message": "the request is invalid: parameter n does not allow other values"}}, ("n",)),
    ],
)  # fmt: skip
def test_a_refused_parameter_is_left_out_in_whatever_words(body, parameters):
    result = read(400, body)
    assert result.rejection is not None, result
    assert Dialect.from_endpoint(ENDPOINT).adapt(*result.rejection).rejected_parameters == parameters


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 99999. This model supports at most 16384 completion tokens",
        "max_tokens must be less than 4096",
        "the context length must be less than 8192 tokens, temperature of the GPU is fine",
        "messages must be in the format of the API",
    ],
)
def test_other_limits_change_no_parameter(message):
    result = read(400, {"error": {"message": message}})
    assert result.rejection is None
    assert (result.reply.outcome, result.reply.error) == ("error", f"HTTP 400 ({message})")


def test_an_error_at_the_maximum_length_is_a_truncated_response():
    """OpenAI: https://community.openai.com/t/max-tokens-or-model-output-limit-was-reached/1018590."""
    words = "Could not finish the message because max_tokens or model output limit was reached. Please try again with higher max_tokens."
    assert read(400, {"error": {"message": words}}).reply.outcome == "truncated"


@pytest.mark.parametrize(
    ("status", "code", "message", "words"),
    [
        (410, "", "Gone", "does not exist or is not available"),
        (400, "model_decommissioned", "The model `x-8b` has been decommissioned", "rejects the key or the model"),
        (400, "", "model x is no longer available", "rejects the key or the model"),
        (429, "", "Your account org-1 is suspended, please check your plan", "needs credit"),
        (403, "", "Insufficient balance", "needs credit"),
        (400, "billing_hard_limit_reached", "Billing hard limit has been reached", "needs credit"),
        (404, "", "model 'x' not found, try pulling it first", "does not exist or is not available"),
    ],
)
def test_a_failure_of_every_request_is_recognised(status, code, message, words):
    reason = fatal_reason("m", ENDPOINT, status, code, f"HTTP {status} ({message})", has_response=False)
    assert reason is not None and words in reason


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "You exceeded your current quota: 5 requests per minute"),
        (400, "the prompt is too long"),
        (503, "loading"),
    ],
)
def test_a_failure_of_one_request_is_not_that_of_every_request(status, message):
    assert fatal_reason("m", ENDPOINT, status, "", f"HTTP {status} ({message})", has_response=False) is None
