"""Errors, batches and usage of a local backend."""

import importlib.util
import json
import logging
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from vlm_audio_pipeline.classifiers.language_models.local import batching
from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
from vlm_audio_pipeline.classifiers.language_models.local.kv_cache import can_share_prefix
from vlm_audio_pipeline.classifiers.language_models.local.shared_prefix import SharedPrefix
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, Reply, Request
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import (
    CONTEXT,
    JANUS,
    LABELS,
    QWEN2_AUDIO,
    QWEN2_VL,
    TRAINED_ON_COLOURS,
)
from vlm_audio_pipeline_tests.encoders.checkpoints import AST, checkpoint, publish


def ask_all(backend: LocalBackend, requests: list[Request]) -> list[Reply]:
    replies: dict[int, Reply] = {}
    backend.ask(requests, replies.__setitem__)
    return [replies[i] for i in range(len(requests))]


def few_shot_requests(n: int, shots: int = 3, **sampling) -> list[Request]:
    examples = tuple((checkpoints.image(100 + i), LABELS[i % len(LABELS)]) for i in range(shots))
    return [checkpoints.request(checkpoints.image(i), examples, **sampling) for i in range(n)]


def test_a_prompt_that_exceeds_the_context_is_refused_before_computation_with_the_token_counts(local):
    loaded = local()
    fits, too_long = few_shot_requests(1, 2)[0], few_shot_requests(1, 80)[0]
    total = loaded.prompt_tokens(too_long) + 32
    reported = []
    with pytest.raises(VlmAudioError, match="must fit") as error:
        loaded.ask([fits, too_long], lambda i, _: reported.append(i))
    text = total - 81 * 4 - 32
    assert (
        f"{CONTEXT} tokens, got 81 images x 4 + {text} of text + 32 of the response = {total}; use fewer examples"
        in str(error.value)
    )
    assert loaded.token_counts()["tokens_computed"] == 0
    assert reported == []


def test_a_prompt_that_fills_the_context_exactly_is_answered(local):
    loaded = local()
    request = few_shot_requests(1, 60)[0]
    remaining_tokens = CONTEXT - loaded.prompt_tokens(request)
    [reply] = ask_all(loaded, [replace(request, sampling=replace(request.sampling, max_tokens=remaining_tokens))])
    assert reply.outcome in checkpoints.RESPONDED
    with pytest.raises(VlmAudioError, match=f"= {CONTEXT + 1}; "):
        ask_all(loaded, [replace(request, sampling=replace(request.sampling, max_tokens=remaining_tokens + 1))])


def test_one_bad_request_is_an_error_and_the_others_are_answered(local):
    good = few_shot_requests(4)
    bad = replace(good[1], messages=(Message("user", ("What?", ImagePart(b"no image", "image/png", "0"))),))
    truncated = checkpoints.image(7)
    truncated = replace(truncated, data=truncated.data[:200], sha256="1")  # a header without the rest
    truncated_query = checkpoints.request(truncated, tuple((checkpoints.image(100 + i), LABELS[i]) for i in range(3)))
    loaded = local(batch_size=4)
    replies = ask_all(loaded, [good[0], bad, truncated_query, good[2], good[3]])
    assert [r.outcome in checkpoints.RESPONDED for r in replies] == [True, False, False, True, True]
    assert [replies[i].outcome for i in (1, 2)] == ["error", "error"]
    assert "UnidentifiedImageError" in replies[1].error
    assert "OSError" in replies[2].error
    assert replies[1].text is None
    assert replies[1].log_probabilities is None
    expected = ask_all(local(), [good[0], good[2], good[3]])
    np.testing.assert_allclose(
        [replies[i].log_probabilities for i in (0, 3, 4)], [r.log_probabilities for r in expected], atol=1e-4
    )
    assert loaded.sharing_disabled_reason is None


def test_a_bad_first_request_does_not_disable_sharing(local):
    truncated = replace(checkpoints.image(7), data=checkpoints.image(7).data[:200], sha256="1")
    loaded = local()
    replies = ask_all(loaded, [checkpoints.request(truncated), *few_shot_requests(1)])
    assert replies[0].outcome == "error" and replies[1].outcome in checkpoints.RESPONDED
    assert loaded.sharing_disabled_reason is None


def test_a_missing_recording_is_an_error_of_its_request(local):
    def load_missing(rate: int) -> np.ndarray:
        raise VlmAudioError("clip must be there, got no file; restore it")

    loaded = local(QWEN2_AUDIO)
    requests = [checkpoints.request(checkpoints.audio(1)), checkpoints.request(AudioPart(load_missing, "missing", 0.5))]
    replies = ask_all(loaded, requests)
    assert replies[0].outcome in checkpoints.RESPONDED and replies[1].outcome == "error"
    assert "restore it" in replies[1].error


def test_a_log_probability_that_is_not_finite_is_an_error(local):
    loaded = local()
    ask_all(loaded, few_shot_requests(1))
    with torch.no_grad():
        loaded.model.lm_head.weight[0] = float("nan")
    (reply,) = ask_all(loaded, few_shot_requests(1))
    assert reply.outcome == "error"
    assert "the log-probability of 'dog' is not finite: nan" in reply.error


def test_the_batch_halves_when_memory_runs_out(local, monkeypatch):
    loaded = local(batch_size=8)
    expected = ask_all(local(), few_shot_requests(8))
    max_tokens = 100  # tokens in one call: a whole prompt with a label, or some six queries
    logits = loaded._forward.logits

    def short_of_memory(inputs, rows, **kwargs):
        if inputs["input_ids"].shape[1] > max_tokens:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return logits(inputs, rows, **kwargs)

    monkeypatch.setattr(loaded._forward, "logits", short_of_memory)
    replies = ask_all(loaded, few_shot_requests(8))
    assert 1 <= loaded._batcher.size < 8
    np.testing.assert_allclose(
        [r.log_probabilities for r in replies], [r.log_probabilities for r in expected], atol=1e-4
    )
    assert [r.text for r in replies] == [r.text for r in expected]


def test_one_request_that_does_not_fit_into_memory_is_an_error(local, monkeypatch):
    loaded = local(batch_size=4)

    def no_memory(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loaded._forward, "logits", no_memory)
    with pytest.raises(VlmAudioError, match="does not fit into memory, even in a batch of 1"):
        ask_all(loaded, few_shot_requests(2))


@pytest.mark.parametrize("wrong", ["positions", "mask", "tokens", "crash"])
def test_if_a_shared_prefix_gives_wrong_results_each_request_is_computed_separately(local, monkeypatch, caplog, wrong):
    """Possible faults of an unknown family: other positions, other masks, tokens that merge, an unsupported argument."""
    expected = ask_all(local(share=False), few_shot_requests(3))
    loaded = local(batch_size=2)
    shared = loaded._shared
    if wrong == "positions":
        positions = SharedPrefix._positions
        monkeypatch.setattr(shared, "_positions", lambda s, begin: positions(shared, s, begin + (3 if begin else 0)))
    elif wrong == "mask":
        run = shared._run
        monkeypatch.setattr(shared, "_run", lambda i, p, visible, nodes: run(i, p, torch.ones_like(visible), nodes))
    elif wrong == "tokens":

        def checked_inputs(pieces):
            raise ValueError("tokens merge")

        monkeypatch.setattr(loaded.conversation, "checked_inputs", checked_inputs)
    else:

        def crash(*args, **kwargs):
            raise TypeError("forward() got an unexpected keyword argument 'past_key_values'")

        monkeypatch.setattr(loaded._forward, "fill_cache", crash)
    with caplog.at_level(logging.WARNING):
        replies = ask_all(loaded, few_shot_requests(3))
    assert [r.log_probabilities for r in replies] == [r.log_probabilities for r in expected]
    assert [r.text for r in replies] == [r.text for r in expected]
    assert loaded.sharing_disabled_reason
    assert len(caplog.records) == 1
    assert "computed one by one" in caplog.text


def test_models_with_a_sliding_window_do_not_share_a_prefix():
    from transformers import LlamaConfig, MistralConfig, Qwen2Config

    assert can_share_prefix(LlamaConfig())
    assert can_share_prefix(Qwen2Config(use_sliding_window=False))
    assert not can_share_prefix(MistralConfig(sliding_window=4096))


def test_usage_has_the_time_and_tokens_of_a_reply(local):
    loaded = local()
    replies = ask_all(loaded, few_shot_requests(2, max_tokens=5))
    assert all(r.usage.seconds > 0 for r in replies)
    assert replies[0].usage.output_tokens == 5
    assert replies[1].usage.cached_tokens > replies[0].usage.cached_tokens == 0
    assert replies[0].usage.usd is None
    (scored,) = ask_all(loaded, [few_shot_requests(1)[0].with_scorings("likelihood")])
    assert scored.text is None
    assert scored.usage.output_tokens is None
    (generated,) = ask_all(loaded, [few_shot_requests(1)[0].with_scorings("generation")])
    assert generated.log_probabilities is None
    assert generated.label_tokens is None


def test_a_chunk_has_the_same_bits_after_any_other_requests_and_on_any_number_of_threads(local):
    """25 requests in chunks of 8 are three chunks, the last of 9: each is asked alone, in reverse order, after other requests."""
    requests = few_shot_requests(25)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = [r.log_probabilities for r in ask_all(local(JANUS, batch_size=4), requests)]
    torch.set_num_threads(3)
    backend = local(JANUS, batch_size=4)
    parts = [
        ask_all(backend, few_shot_requests(3, shots=2)) and ask_all(backend, requests[a:b])
        for a, b in ((16, 25), (8, 16), (0, 8))
    ]
    assert torch.get_num_threads() == 3
    torch.set_num_threads(threads)
    assert [r.log_probabilities for part in reversed(parts) for r in part] == whole


def test_a_request_that_fails_does_not_move_later_requests_to_another_chunk(local, monkeypatch):
    loaded = local(JANUS, batch_size=4)
    requests = few_shot_requests(16)
    requests[2] = checkpoints.request(ImagePart(b"no image", "image/png", "0" * 64))
    chunks = []
    monkeypatch.setattr(loaded, "_ask_chunk", lambda pending: chunks.append([p.index for p in pending]))
    loaded.ask(requests, lambda i, reply: None)
    assert chunks == [[0, 1, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]]


def test_replies_are_reported_after_each_batch(local):
    loaded = local(batch_size=2)
    computed = []
    loaded.ask(few_shot_requests(6), lambda i, _: computed.append((i, loaded.token_counts()["tokens_computed"])))
    assert [i for i, _ in computed] == [0, 1, 2, 3, 4, 5]
    assert computed[1][1] < computed[2][1] < computed[4][1]


def test_a_batch_is_as_large_as_its_tokens_allow(local, monkeypatch):
    loaded = local(batch_size=8)
    requests = few_shot_requests(8)
    prompt = loaded.conversation.prompt(requests[0])
    rest = sum(loaded.conversation.count_tokens(prompt.pieces[-1]))
    monkeypatch.setattr(batching, "MAX_ROW_TOKENS", 3 * rest + 1)
    rows = []
    compute = loaded._shared.compute
    monkeypatch.setattr(loaded._shared, "compute", lambda p, s: rows.append(len(p)) or compute(p, s))
    ask_all(loaded, requests)
    assert rows == [3, 3, 2]


def test_close_releases_the_weights(local):
    loaded = local()
    ask_all(loaded, few_shot_requests(1))
    weights = weakref.ref(loaded.model)
    loaded.close()
    assert weights() is None


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotAvailable, match="weights of a/b missing"):
        LocalBackend(Weights("a/b"), input="image")


def test_weights_of_another_kind_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    publish(tmp_path, AST, checkpoint(AST))
    with pytest.raises(WrongWeights, match="cannot be loaded as AutoModelForImageTextToText"):
        LocalBackend(Weights(AST), input="image", device="cpu")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("chat_template.jinja", None, "has no chat template"),
        ("tokenizer.json", None, "tokenizer"),
    ],
)
def test_incomplete_checkpoints_are_refused(monkeypatch, tmp_path, name, text, expected):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in checkpoints.weights(monkeypatch, JANUS).snapshot().iterdir():
        if file.name != name:
            (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(WrongWeights, match=expected):
        LocalBackend(Weights(str(folder)), input="image", device="cpu")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is here")
def test_packages_that_a_processor_needs_are_named(monkeypatch, tmp_path):
    """The processor of SmolVLM needs its video part."""
    for file in checkpoints.weights(monkeypatch, QWEN2_VL).snapshot().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processor_class": "SmolVLMProcessor"}))
    with pytest.raises(NotAvailable, match="orchvision"):
        LocalBackend(Weights(str(tmp_path)), input="image", device="cpu")


def test_four_bit_weights_need_a_gpu(monkeypatch):
    weights = checkpoints.weights(monkeypatch, JANUS)
    with pytest.raises(NotAvailable, match="4-bit weights need a GPU and bitsandbytes, got device cpu"):
        LocalBackend(weights, input="image", device="cpu", quantization="4bit")


def test_a_response_that_reaches_the_maximum_length_is_truncated(local):
    """The trained Janus ends each response itself: " sea waves" is two tokens and the end token."""
    loaded = local(TRAINED_ON_COLOURS)
    image = checkpoints.colour_image("sea waves")
    [whole, cut] = ask_all(loaded, [checkpoints.request(image, max_tokens=n) for n in (3, 1)])
    assert (whole.outcome, whole.text) == ("answered", " sea waves")
    assert (cut.outcome, cut.text) == ("truncated", " sea")
    np.testing.assert_allclose(cut.log_probabilities, whole.log_probabilities, atol=1e-4)
