"""Likelihoods from servers in the forms of vLLM and SGLang, compared with the local backend on the same tiny checkpoints."""

import contextlib
import math
from dataclasses import replace

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import cost_bound
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import Message
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import (
    GEMMA3,
    JANUS,
    LABELS,
    LLAVA,
    QUESTION,
    QWEN2_VL,
    image,
    request,
)
from vlm_audio_pipeline_tests.classifiers.language_models.logprob_server import LogprobServer, serving

END_TOKENS = {JANUS: "<|end▁of▁sentence|>", QWEN2_VL: "<|im_end|>", LLAVA: "</s>", GEMMA3: "<end_of_turn>"}
VLLM, SGLANG = "prompt_logprobs", "input_token_logprobs"
TOLERANCE = 1e-3
EXAMPLES = ((image(1), "rain"), (image(2), "sea waves"))


def likelihood(query=3, examples=()):
    return request(image(query), examples).with_scorings("likelihood")


def server_of(backend, **values) -> LogprobServer:
    return LogprobServer(backend.model, backend.conversation.processor, **values)


def endpoint(server, model, form=VLLM, **values):
    # The templates of Janus and LLaVA do not write the token that begins a text; the local backend adds it.
    special = {"extra_body": {"add_special_tokens": True}} if form == VLLM and model in (JANUS, LLAVA) else {}
    defaults = {"end_token": END_TOKENS[model], "retries": 0}
    return Endpoint(url=server.url, likelihood=form, **(defaults | special | values))


def ask(backend, requests):
    """Return the last reply to each request, and the reason of a stop."""
    replies = {}
    stop_reason = backend.ask(requests, replies.__setitem__)
    return [replies[i] for i in range(len(requests))], stop_reason


def ask_server(server, model, requests, form=VLLM, **values):
    return ask(EndpointBackend(model, endpoint(server, model, form, **values), None, "c"), requests)[0]


@pytest.mark.parametrize(
    ("model", "form"),
    [
        (JANUS, VLLM),
        (QWEN2_VL, SGLANG),
        *(
            pytest.param(model, form, marks=pytest.mark.slow)
            for model, form in (
                (QWEN2_VL, VLLM),
                (JANUS, SGLANG),
                (LLAVA, VLLM),
                (LLAVA, SGLANG),
                (GEMMA3, VLLM),
                (GEMMA3, SGLANG),
            )
        ),
    ],
)
def test_likelihoods_equal_those_of_the_local_backend(local, model, form):
    """Templates with and without an end token, a beginning token and a system text; labels that share a prefix."""
    backend = local(model)
    requests = [likelihood(3, EXAMPLES), likelihood(4)]
    expected, _ = ask(backend, requests)
    with serving(server_of(backend)) as server:
        scored = ask_server(server, model, requests, form)
    for here, there in zip(expected, scored, strict=True):
        assert there.outcome == "answered", there.error
        assert there.log_probabilities == pytest.approx(here.log_probabilities, abs=TOLERANCE)
        assert there.label_tokens == here.label_tokens
        assert there.text is None
    assert len({tuple(r.log_probabilities) for r in scored}) == 2  # they depend on the image


def test_one_call_per_label_begins_with_the_same_prompt(local):
    """A prompt without a response, five labels, and once a check of the end token."""
    with serving(server_of(local(JANUS))) as server:
        first, second = ask_server(server, JANUS, [likelihood(3), likelihood(4)], concurrency=1)
    assert len(server.calls) == 2 * (1 + len(LABELS)) + 1
    question = server.bodies[0]["messages"]
    assert [b["messages"][:-1] for b in server.bodies[1:6]] == [question] * 5
    assert [b["messages"][-1]["content"] for b in server.bodies[1:6]] == [label + END_TOKENS[JANUS] for label in LABELS]
    assert {(b["max_tokens"], b["prompt_logprobs"], b["continue_final_message"]) for b in server.bodies[1:6]} == {
        (1, 0, True)
    }
    assert first.usage.input_tokens > second.usage.input_tokens > 6 * 20
    assert second.usage.seconds > 0


def test_the_prefix_cache_of_sglang_holds_the_question_while_its_labels_are_scored(local):
    with serving(server_of(local(QWEN2_VL))) as server:
        (reply,) = ask_server(server, QWEN2_VL, [likelihood(3)], SGLANG)
    question, *labels = server.bodies
    assert "return_logprob" not in question
    length = reply.usage.input_tokens // 7  # of the question; labels have a few tokens more
    assert all(cached >= length for cached in server.cached[1:])
    assert reply.usage.cached_tokens == sum(server.cached)
    assert {b["logprob_start_len"] for b in labels} == {server.cached[1]}


@pytest.mark.parametrize("form", [VLLM, SGLANG])
def test_a_server_without_log_probabilities_is_not_available(local, form):
    with serving(server_of(local(JANUS), gives_logprobs=False)) as server, pytest.raises(NotAvailable) as error:
        ask_server(server, JANUS, [likelihood(), likelihood(4)], form, concurrency=1)
    assert "returned no log-probabilities of the prompt" in str(error.value)
    assert "`scoring: [generation]`" in str(error.value)
    assert len(server.calls) <= 3


def test_a_server_that_refuses_the_parameter_is_not_available(local):
    refusing = server_of(local(JANUS), refuses="Unrecognized request arguments: prompt_logprobs")
    with (
        serving(refusing) as server,
        pytest.raises(NotAvailable, match="Unrecognized request arguments: prompt_logprobs"),
    ):
        ask_server(server, JANUS, [likelihood()])


@pytest.mark.parametrize(
    ("form", "end_token", "message"),
    [
        (VLLM, "</end>", "end_token must be one token of the model, got '</end>'"),
        (VLLM, "<|endoftext|>", "but the chat template writes '<|im_end|>'"),
        (SGLANG, "</end>", "end_token must be the token that ends a response, got '</end>'"),
        (SGLANG, "<|endoftext|>", "writes '<|im_end|>' after a response"),
    ],
)
def test_a_wrong_end_token_is_reported(local, form, end_token, message):
    with serving(server_of(local(QWEN2_VL))) as server, pytest.raises(NotAvailable) as error:
        ask_server(server, QWEN2_VL, [likelihood()], form, end_token=end_token)
    assert message in str(error.value)


def test_a_template_that_changes_the_prompt_when_a_response_follows_is_reported(local):
    """Like models that begin every response with reasoning, unless the conversation continues."""
    backend = local(QWEN2_VL)
    processor = backend.conversation.processor
    template = processor.tokenizer.chat_template or processor.chat_template
    changed = template.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>{% endif %}")
    assert changed != template
    processor.chat_template = changed
    with (
        serving(server_of(backend)) as server,
        pytest.raises(NotAvailable, match="must begin with the tokens of the prompt"),
    ):
        ask_server(server, QWEN2_VL, [likelihood()])


def test_sglang_with_the_processor_of_another_model_is_reported(local):
    """The tokens of the labels differ between the checkpoints, because they have other numbers of special tokens."""
    local(LLAVA)
    question = replace(likelihood(), messages=(Message("user", (QUESTION,)),))
    with (
        serving(server_of(local(JANUS))) as server,
        pytest.raises(NotAvailable, match="set `processor` to the model that"),
    ):
        ask_server(server, JANUS, [question], SGLANG, processor=LLAVA, end_token="</s>")


def test_sglang_without_the_files_of_the_processor_is_not_available(local):
    with serving(server_of(local(JANUS))) as server, pytest.raises(NotAvailable, match="hf download nobody/nothing"):
        ask_server(server, JANUS, [likelihood()], SGLANG, processor="nobody/nothing")


def test_text_and_likelihood_are_reported_as_two_replies(local):
    replies = []
    with serving(server_of(local(JANUS))) as server:
        backend = EndpointBackend(JANUS, endpoint(server, JANUS), None, "c")
        backend.ask([request(image(3))], lambda i, reply: replies.append(reply))
    assert [(set(r.scorings), r.text is None, r.log_probabilities is None) for r in replies] == [
        ({"generation"}, False, True),
        ({"likelihood"}, True, False),
    ]
    assert all(math.isfinite(value) for value in replies[1].log_probabilities)


@pytest.mark.parametrize("failures", [{}, {3: 429}, {3: 503}])
def test_every_call_is_charged_once_and_stays_within_the_bound(local, tmp_path, failures):
    """Prices of 1 USD per million tokens of the prompt; calls that are rejected and sent again cost nothing."""
    with (
        serving(server_of(local(QWEN2_VL), failures=failures)) as server,
        contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store,
    ):
        ledger = Ledger(store, "study", Budget(usd=1))
        spec = endpoint(server, QWEN2_VL, prices={"input": 1, "output": 0}, retries=2)
        ((reply,), _) = ask(EndpointBackend(QWEN2_VL, spec, ledger, "c"), [likelihood()])
        spent = ledger.spent_usd()
        ledger.close()
    assert len(server.calls) == 7 + len(failures)
    assert spent == pytest.approx(reply.usage.input_tokens / 1e6)
    assert reply.usage.usd == pytest.approx(spent)
    assert 0 < spent < cost_bound(likelihood(), QWEN2_VL, spec)[1]


def test_a_call_that_fails_makes_the_request_an_error_and_keeps_the_reservation(local, tmp_path):
    """After a status of 500 the provider may charge, so the bound of the request stays reserved."""
    with (
        serving(server_of(local(QWEN2_VL), failures={3: 500})) as server,
        contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store,
    ):
        ledger = Ledger(store, "study", Budget(usd=1))
        spec = endpoint(server, QWEN2_VL, prices={"input": 1, "output": 0})
        ((reply,), _) = ask(EndpointBackend(QWEN2_VL, spec, ledger, "c"), [likelihood()])
        spent = ledger.spent_usd()
        ledger.close()
    assert (reply.outcome, reply.log_probabilities) == ("error", None)
    assert spent == pytest.approx(cost_bound(likelihood(), QWEN2_VL, spec)[1])


def test_the_planned_bound_contains_every_call():
    """10 classes: 10 calls, one without a response and one check; each has the prompt of the generation."""
    model = {
        "model": "m",
        "rendering": "r",
        "endpoint": {"url": "http://127.0.0.1/v1", "prices": {"input": 1, "output": 0}},
    }
    model["endpoint"] |= {"likelihood": VLLM, "end_token": "</s>"}
    generated, scored, both = (
        EndpointLanguageModel(**model, scoring=scoring).cost(1, (64, 64), 10).usd
        for scoring in (("generation",), ("likelihood",), ("likelihood", "generation"))
    )
    assert 12 * generated < scored < 12 * generated * 1.1
    assert both == pytest.approx(generated + scored)
