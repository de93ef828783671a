"""Prompts as the families' templates write them, and what an answer is made of."""

from dataclasses import replace

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers.language_models.messages import Message, Reply, Request
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
def test_messages_as_sent_and_as_answered(local, model):
    loaded = local(model)
    make = checkpoints.audio if model in SOUNDS else checkpoints.image
    request = checkpoints.request(make(1), ((make(2), "dog"),))
    assert loaded.messages_as_sent(request) == AS_SENT[model]
    prompt = loaded.conversation.prompt(request)
    assert "".join(s.text for s in prompt.segments) == AS_SENT[model]
    assert [s.media for s in prompt.segments] == [None, make(2), make(1)] or model in SOUNDS
    tokenizer = loaded.conversation.tokenizer
    assert tokenizer.decode(prompt.answers[4]) == ENDS[model]
    assert prompt.answers[4][-1] in loaded.conversation.end_tokens


def test_the_beginning_of_a_sequence_is_marked_once(local):
    for model, marks in ((JANUS, 1), (GEMMA3, 1), (QWEN2_VL, 0)):
        loaded = local(model)
        request = checkpoints.request(checkpoints.image(1), ((checkpoints.image(2), "dog"),))
        segments = loaded.conversation.prompt(request).segments
        ids = [token for s in segments for token in loaded.conversation.tokens(s).ids]
        bos = loaded.conversation.tokenizer.bos_token_id
        assert ids.count(bos) == marks
        assert not marks or ids[0] == bos
        assert loaded.conversation.checked_inputs(segments)["input_ids"][0].tolist() == ids


def test_no_preamble_of_the_model_is_put_before_the_prompt(local):
    """Janus' processor may add an English one, which the template does not show."""
    loaded = local(JANUS)
    loaded.conversation.processor.use_default_system_prompt = True
    request = checkpoints.request(checkpoints.image(1))
    assert loaded.prompt_tokens(request) > 50
    assert local(JANUS).conversation.processor.use_default_system_prompt is False


def test_what_only_the_image_changes_is_prepared_once(local, monkeypatch):
    loaded = local(JANUS)
    calls = []
    process = loaded.conversation._process
    monkeypatch.setattr(loaded.conversation, "_process", lambda *args: calls.append(args) or process(*args))
    counts = {loaded.prompt_tokens(checkpoints.request(checkpoints.image(i))) for i in range(20)}
    assert len(counts) == 1
    assert len(calls) == 2  # the text before the image, the image with the text after it


def test_a_template_that_loses_a_image_is_refused(local):
    loaded = local(JANUS)
    loaded.conversation.processor.chat_template = "{{ messages[0]['content'][0]['text'] }}"
    with pytest.raises(ValueError, match="must write 1 placeholders \\(image\\), got 0"):
        loaded.conversation.prompt(checkpoints.request(checkpoints.image(1)))


@pytest.mark.parametrize("model", [JANUS, QWEN2_VL, LLAVA, GEMMA3])
def test_a_question_without_images(local, model):
    """As under the control that shows nothing; Janus puts a mark before a prompt, which is not to be there once a row."""
    loaded = local(model, batch_size=4)
    pictured = checkpoints.request(checkpoints.image(1), max_tokens=3)
    requests = [replace(pictured, messages=(Message("user", (text,)),)) for text in (QUESTION, "Guess.", QUESTION)]
    told: dict[int, Reply] = {}
    loaded.ask([*requests, pictured], told.__setitem__)
    alone: dict[int, Reply] = {}
    local(model, share=False).ask([*requests, pictured], alone.__setitem__)
    assert {r.outcome for r in told.values()} == {"answered"}
    for i in range(4):
        np.testing.assert_allclose(told[i].log_probabilities, alone[i].log_probabilities, atol=1e-4)
        assert told[i].text == alone[i].text
    assert (loaded.sharing_disabled_reason is None) == (model != GEMMA3)


def test_a_prompt_that_begins_with_its_image(local):
    loaded = local(QWEN2_VL, batch_size=2)
    loaded.conversation.processor.chat_template = (
        "{% for m in messages %}{% for c in m['content'] %}{{ '<|image_pad|>' if c['type'] == 'image' else c['text'] }}"
        "{% endfor %}{% if m['role'] == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
    )
    requests = [
        Request((Message("user", (checkpoints.image(i), QUESTION)),), ("dog", "rain"), frozenset({"likelihood"}))
        for i in range(3)
    ]
    told: dict[int, Reply] = {}
    loaded.ask(requests, told.__setitem__)
    assert [told[i].outcome for i in range(3)] == ["answered"] * 3
    assert loaded.sharing_disabled_reason is None
    assert len({r.log_probabilities for r in told.values()}) == 3


def test_what_a_template_refuses_is_an_error_of_the_request(local):
    loaded = local(GEMMA3)
    loaded.conversation.processor.chat_template = "{{ raise_exception('Conversation roles must alternate') }}"
    told: dict[int, Reply] = {}
    loaded.ask([checkpoints.request(checkpoints.image(1))], told.__setitem__)
    assert told[0].outcome == "error"
    assert "Conversation roles must alternate" in told[0].error
