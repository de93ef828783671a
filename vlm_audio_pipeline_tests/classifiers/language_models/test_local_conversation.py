"""Prompts in the formats of the chat templates, and the tokens of a response."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoProcessor

from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Reply, Request
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompts import build_messages
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import (
    AUDIO_MODELS,
    GEMMA3,
    JANUS,
    LLAVA,
    QUESTION,
    QWEN2_AUDIO,
    QWEN2_VL,
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


MODEL_ATTRIBUTES = {
    "generation_config": SimpleNamespace(eos_token_id=None),
    "config": SimpleNamespace(),
    "base_model": SimpleNamespace(),
}
"""The parts of a model that a conversation reads, for a test of texts."""


@pytest.mark.parametrize("model", AS_SENT)
def test_messages_and_responses_have_the_format_of_the_template(local, model):
    loaded = local(model)
    make = checkpoints.audio if model in AUDIO_MODELS else checkpoints.image
    request = checkpoints.request(make(1), ((make(2), "dog"),))
    assert loaded.render_messages(request) == AS_SENT[model]
    prompt = loaded.conversation.prompt(request)
    assert "".join(s.text for s in prompt.pieces) == AS_SENT[model]
    assert [s.media for s in prompt.pieces] == [None, make(2), make(1)] or model in AUDIO_MODELS
    tokenizer = loaded.conversation.tokenizer
    assert tokenizer.decode(prompt.label_sequences[4]) == ENDS[model]
    assert prompt.label_sequences[4][-1] in loaded.conversation.end_tokens


def test_the_beginning_of_a_sequence_is_marked_once(local):
    for model, marks in ((JANUS, 1), (GEMMA3, 1), (QWEN2_VL, 0)):
        loaded = local(model)
        request = checkpoints.request(checkpoints.image(1), ((checkpoints.image(2), "dog"),))
        pieces = loaded.conversation.prompt(request).pieces
        ids = [token for s in pieces for token in loaded.conversation.tokens(s).ids]
        bos = loaded.conversation.tokenizer.bos_token_id
        assert ids.count(bos) == marks
        assert not marks or ids[0] == bos
        assert loaded.conversation.checked_inputs(pieces)["input_ids"][0].tolist() == ids


def test_no_preamble_of_the_model_is_put_before_the_prompt(local):
    """The processor of Janus can add a default system prompt that is not in the template."""
    loaded = local(JANUS)
    loaded.conversation.processor.use_default_system_prompt = True
    request = checkpoints.request(checkpoints.image(1))
    assert loaded.prompt_tokens(request) > 50
    assert local(JANUS).conversation.processor.use_default_system_prompt is False


# typed from https://github.com/deepseek-ai/Janus: the system text of VLChatProcessor, two line breaks, the turns
PREAMBLE = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language.\n\n"
)


def test_the_notebook_prompt_gives_the_text_that_the_original_sends_to_janus():
    """`demo-janus` has the template of Janus, which strips the text of a turn, as VLChatProcessor does."""
    conversation = Conversation(
        AutoProcessor.from_pretrained(Weights("demo-janus").snapshot()), SimpleNamespace(**MODEL_ATTRIBUTES), "image"
    )
    prompt = PROMPTS["notebook"]
    messages = build_messages(prompt, prompt.order_classes(ESC10), query=checkpoints.image(1))
    request = Request(messages, ESC10, frozenset({"generation"}), preamble=prompt.preamble)
    question = (
        "This is an image of a spectrogram. Which of the following classes does this spectrogram best represent: [chainsaw, "
        "clock_tick, crackling_fire, crying_baby, dog, helicopter, rain, rooster, sea_waves, sneezing]\n"
        "Your response should be one word, the name of the class and nothing else."
    )
    assert conversation.prompt_text(request) == f"{PREAMBLE}<|User|>: <image_placeholder>\n{question}\n\n<|Assistant|>:"
    without = replace(request, preamble=False)
    assert conversation.prompt_text(without) == conversation.prompt_text(request).removeprefix(PREAMBLE)


def test_the_preamble_is_that_of_the_processor_and_part_of_the_shared_prefix(local):
    loaded, separate_model = local(JANUS, batch_size=2), local(JANUS, share=False)
    requests = [replace(checkpoints.request(checkpoints.image(i), max_tokens=2), preamble=True) for i in range(3)]
    plain = checkpoints.request(checkpoints.image(0), max_tokens=2)
    shared: dict[int, Reply] = {}
    loaded.ask(requests, shared.__setitem__)
    separate: dict[int, Reply] = {}
    separate_model.ask([*requests, plain], separate.__setitem__)
    for i in range(3):
        np.testing.assert_allclose(shared[i].log_probabilities, separate[i].log_probabilities, atol=1e-4)
    assert separate[0].log_probabilities != separate[3].log_probabilities
    assert loaded.sharing_disabled_reason is None
    # the processor itself, at its default of the original, puts the same text before the prompt
    processor = loaded.conversation.processor
    processor.use_default_system_prompt = True
    expected = processor(
        text=[loaded.render_messages(plain)], images=[loaded.conversation._decode_media(checkpoints.image(0))]
    )
    ids = [t for s in loaded.conversation.prompt(requests[0]).pieces for t in loaded.conversation.tokens(s).ids]
    processor.use_default_system_prompt = False
    assert ids == list(expected["input_ids"][0])


def test_models_without_a_default_preamble_ignore_it(local):
    loaded = local(QWEN2_VL)
    request = checkpoints.request(checkpoints.image(1))
    assert loaded.render_messages(replace(request, preamble=True)) == loaded.render_messages(request)


def test_pieces_that_differ_only_in_the_image_are_prepared_once(local, monkeypatch):
    loaded = local(JANUS)
    calls = []
    process = loaded.conversation._process
    monkeypatch.setattr(loaded.conversation, "_process", lambda *args: calls.append(args) or process(*args))
    counts = {loaded.prompt_tokens(checkpoints.request(checkpoints.image(i))) for i in range(20)}
    assert len(counts) == 1
    assert len(calls) == 2  # the text before the image, the image with the text after it


def test_a_template_that_drops_an_image_is_refused(local):
    loaded = local(JANUS)
    loaded.conversation.processor.chat_template = "{{ messages[0]['content'][0]['text'] }}"
    with pytest.raises(ValueError, match="writes 0 placeholders \\(image\\) instead of 1"):
        loaded.conversation.prompt(checkpoints.request(checkpoints.image(1)))


@pytest.mark.parametrize("model", [JANUS, QWEN2_VL, LLAVA, GEMMA3])
def test_a_prompt_without_images(local, model):
    """As with the control no_image. Janus puts a start token before a prompt; it must not be repeated in a row."""
    loaded = local(model, batch_size=4)
    with_image = checkpoints.request(checkpoints.image(1), max_tokens=3)
    requests = [replace(with_image, messages=(Message("user", (text,)),)) for text in (QUESTION, "Guess.", QUESTION)]
    shared: dict[int, Reply] = {}
    loaded.ask([*requests, with_image], shared.__setitem__)
    separate: dict[int, Reply] = {}
    local(model, share=False).ask([*requests, with_image], separate.__setitem__)
    assert {r.outcome for r in shared.values()} <= set(checkpoints.RESPONDED)
    for i in range(4):
        np.testing.assert_allclose(shared[i].log_probabilities, separate[i].log_probabilities, atol=1e-4)
        assert shared[i].text == separate[i].text
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
    shared: dict[int, Reply] = {}
    loaded.ask(requests, shared.__setitem__)
    assert {r.outcome for r in shared.values()} <= set(checkpoints.RESPONDED)
    assert loaded.sharing_disabled_reason is None
    assert len({r.log_probabilities for r in shared.values()}) == 3


def test_a_template_exception_is_an_error_of_the_request(local):
    loaded = local(GEMMA3)
    loaded.conversation.processor.chat_template = "{{ raise_exception('Conversation roles must alternate') }}"
    shared: dict[int, Reply] = {}
    loaded.ask([checkpoints.request(checkpoints.image(1))], shared.__setitem__)
    assert shared[0].outcome == "error"
    assert "Conversation roles must alternate" in shared[0].error


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('Conversation roles must alternate') }}", "Conversation roles must alternate"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{{ messages[0].nothing.more }}", "no attribute 'nothing'"),
        ("{% if %}", "chat template"),
        ("no image", "0 placeholders"),
    ],
)
def test_a_model_whose_template_fails_on_every_request_is_not_run(local, template, reason):
    loaded = local(GEMMA3)
    loaded.conversation.processor.chat_template = template
    replies: dict[int, Reply] = {}
    with pytest.raises(NotAvailable, match="chat template fails on every request") as error:
        loaded.ask([checkpoints.request(checkpoints.image(i)) for i in range(2)], replies.__setitem__)
    assert reason in str(error.value)
    assert not replies


def test_a_template_that_fails_on_one_request_is_an_error_of_that_request(local):
    loaded = local(GEMMA3)
    template = loaded.conversation.processor.chat_template
    loaded.conversation.processor.chat_template = (
        "{% if 'forbidden' in messages | string %}{{ raise_exception('a forbidden word') }}{% endif %}" + template
    )
    request = checkpoints.request(checkpoints.image(1), max_tokens=1)
    forbidden = replace(request, messages=(Message("user", ("forbidden",)),))
    replies: dict[int, Reply] = {}
    loaded.ask([forbidden, request], replies.__setitem__)
    assert "a forbidden word" in replies[0].error
    assert replies[1].outcome in checkpoints.RESPONDED
