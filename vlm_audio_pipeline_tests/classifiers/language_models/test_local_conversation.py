"""Prompts as the families' templates write them, and what an answer is made of."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Request
from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import (
    GEMMA3,
    JANUS,
    LLAVA,
    QUESTION,
    QWEN2_AUDIO,
    QWEN2_VL,
    SOUNDS,
)


@pytest.fixture
def backend(monkeypatch):
    def load(model: str) -> LocalBackend:
        weights = checkpoints.weights(monkeypatch, model)
        return LocalBackend(weights, input="audio" if model in SOUNDS else "picture", device="cpu", dtype="float32")

    return load


AS_SENT = {
    JANUS: f"<|User|>: {QUESTION}\n<image_placeholder>\n\n<|Assistant|>: dog<|end▁of▁sentence|>"
    "<|User|>: <image_placeholder>\n\n<|Assistant|>:",
    QWEN2_VL: "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n{QUESTION}<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
    "<|im_start|>assistant\ndog<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n",
    LLAVA: f"USER: <image>\n{QUESTION} ASSISTANT: dog USER: <image>\nASSISTANT:",
    QWEN2_AUDIO: "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n{QUESTION}<|audio_bos|><|AUDIO|><|audio_eos|>\n<|im_end|>\n"
    "<|im_start|>assistant\ndog<|im_end|>\n"
    "<|im_start|>user\n<|audio_bos|><|AUDIO|><|audio_eos|>\n<|im_end|>\n<|im_start|>assistant\n",
    GEMMA3: f"<bos><start_of_turn>user\n{QUESTION}<start_of_image><end_of_turn>\n<start_of_turn>model\ndog<end_of_turn>\n"
    "<start_of_turn>user\n<start_of_image><end_of_turn>\n<start_of_turn>model\n",
}
ENDS = {
    JANUS: " dog barking<|end▁of▁sentence|>",
    QWEN2_VL: "dog barking<|im_end|>",
    LLAVA: " dog barking</s>",
    QWEN2_AUDIO: "dog barking<|im_end|>",
    GEMMA3: "dog barking<end_of_turn>",
}


@pytest.mark.parametrize("model", AS_SENT)
def test_messages_as_sent_and_as_answered(backend, model):
    local = backend(model)
    make = checkpoints.sound if model in SOUNDS else checkpoints.picture
    request = checkpoints.request(make(1), ((make(2), "dog"),))
    assert local.messages_as_sent(request) == AS_SENT[model]
    prompt = local.conversation.prompt(request)
    assert "".join(s.text for s in prompt.segments) == AS_SENT[model]
    assert [s.media for s in prompt.segments] == [None, make(2), make(1)] or model in SOUNDS
    tokenizer = local.conversation.tokenizer
    assert tokenizer.decode(prompt.answers[4]) == ENDS[model]
    assert prompt.answers[4][-1] in local.conversation.ends


def test_the_beginning_of_a_sequence_is_marked_once(backend):
    for model, marks in ((JANUS, 1), (GEMMA3, 1), (QWEN2_VL, 0)):
        local = backend(model)
        request = checkpoints.request(checkpoints.picture(1), ((checkpoints.picture(2), "dog"),))
        segments = local.conversation.prompt(request).segments
        ids = [token for s in segments for token in local.conversation.tokens(s).ids]
        bos = local.conversation.tokenizer.bos_token_id
        assert ids.count(bos) == marks
        assert not marks or ids[0] == bos
        assert local.conversation.together(segments)["input_ids"][0].tolist() == ids


def test_no_preamble_of_the_model_is_put_before_the_prompt(backend):
    """Janus' processor may add an English one, which the template does not show."""
    local = backend(JANUS)
    local.conversation.processor.use_default_system_prompt = True
    request = checkpoints.request(checkpoints.picture(1))
    assert local.prompt_tokens(request) > 50
    assert backend(JANUS).conversation.processor.use_default_system_prompt is False


def test_what_only_the_picture_changes_is_prepared_once(backend, monkeypatch):
    local = backend(JANUS)
    calls = []
    process = local.conversation._process
    monkeypatch.setattr(local.conversation, "_process", lambda *args: calls.append(args) or process(*args))
    counts = {local.prompt_tokens(checkpoints.request(checkpoints.picture(i))) for i in range(20)}
    assert len(counts) == 1
    assert len(calls) == 2  # the text before the picture, the picture with the text after it


def test_a_template_that_loses_a_picture_is_refused(backend):
    local = backend(JANUS)
    local.conversation.processor.chat_template = "{{ messages[0]['content'][0]['text'] }}"
    with pytest.raises(ValueError, match="must mark 1 pictures, got 0"):
        local.conversation.prompt(checkpoints.request(checkpoints.picture(1)))


def test_a_question_without_pictures(backend):
    local = backend(QWEN2_VL)
    request = Request((Message("user", (QUESTION,)),), ("dog", "rain"), frozenset({"likelihood"}))
    told = {}
    local.ask([request, request], told.__setitem__)
    assert told[0].outcome == "answered"
    assert told[0].log_probabilities == pytest.approx(told[1].log_probabilities, abs=1e-4)
    assert local.why_alone is None
