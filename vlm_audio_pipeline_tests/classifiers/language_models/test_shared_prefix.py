"""What is computed once, for many, in one row, is what each request computed by itself would be.

The plain loops here know nothing of this package but the model and the processor: whole prompts, one label at a time.
"""

import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, Reply, Request
from vlm_audio_pipeline_tests.classifiers.language_models import checkpoints
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import (
    GEMMA3,
    JANUS,
    KNOWS_COLOURS,
    LABELS,
    LLAVA,
    QWEN2_AUDIO,
    QWEN2_VL,
    SLIDING,
    SOUNDS,
)

ANSWERS = {
    JANUS: " {}<|end▁of▁sentence|>",
    KNOWS_COLOURS: " {}<|end▁of▁sentence|>",
    QWEN2_VL: "{}<|im_end|>",
    LLAVA: " {}</s>",
    SLIDING: " {}</s>",
    QWEN2_AUDIO: "{}<|im_end|>",
    GEMMA3: "{}<end_of_turn>",
}
"""What each template makes of an answer, read off the template."""
SHARING = (JANUS, QWEN2_VL, LLAVA, QWEN2_AUDIO)
EVERY = (*SHARING, SLIDING, GEMMA3)


def ask_all(backend: LocalBackend, requests: Sequence[Request]) -> list[Reply]:
    replies: dict[int, Reply] = {}

    def on_reply(index: int, reply: Reply) -> None:
        assert index not in replies
        assert reply.outcome == "answered", reply.error
        replies[index] = reply

    assert backend.ask(requests, on_reply) is None
    return [replies[i] for i in range(len(requests))]


def scores(replies: Sequence[Reply]) -> np.ndarray:
    return np.array([r.log_probabilities for r in replies])


def media_part(model: str, seed: int) -> ImagePart | AudioPart:
    return checkpoints.audio(seed) if model in SOUNDS else checkpoints.image(seed)


def examples(model: str, seed: int = 100) -> tuple:
    return tuple((media_part(model, seed + i), label) for i, label in enumerate(LABELS))


def inputs(backend: LocalBackend, request: Request, answer: str = ""):
    """Process a whole prompt, as a model's card says."""
    processor, turns, media = backend.conversation.processor, [], []
    for message in request.messages:
        content = []
        for part in message.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            elif isinstance(part, ImagePart):
                content.append({"type": "image"})
                media.append(Image.open(io.BytesIO(part.data)).convert("RGB"))
            else:
                content.append({"type": "audio", "audio": ""})
                media.append(part.load(16000))
        turns.append({"role": message.role, "content": content})
    text = processor.apply_chat_template(turns, add_generation_prompt=True) + answer
    kwargs = {"audio": media, "sampling_rate": 16000} if isinstance(media[0], np.ndarray) else {"images": media}
    bos = processor.tokenizer.bos_token
    special = not (bos and text.startswith(bos))
    return processor(text=[text], return_tensors="pt", add_special_tokens=special, **kwargs)


@torch.no_grad()
def plain_scores(backend: LocalBackend, request: Request, template: str) -> list[float]:
    """Run a whole forward call for each label and add up the log-probabilities of its tokens."""
    length = inputs(backend, request)["input_ids"].shape[1]
    found = []
    for label in request.labels:
        made = inputs(backend, request, template.format(label))
        logits = backend.model(**made).logits[0].double()
        ids = made["input_ids"][0]
        found.append(sum(float(torch.log_softmax(logits[i - 1], -1)[ids[i]]) for i in range(length, len(ids))))
    return found


def plain_answer(backend: LocalBackend, request: Request) -> str:
    """Let the model's own `generate` answer greedily."""
    made = inputs(backend, request)
    said = backend.model.generate(**made, do_sample=False, max_new_tokens=request.sampling.max_tokens)
    return backend.conversation.tokenizer.decode(said[0, made["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("few", [False, True], ids=["zero-shot", "few-shot"])
@pytest.mark.parametrize("model", EVERY)
def test_both_scorings_are_those_of_plain_loops(local, model, few):
    loaded = local(model)
    requests = [
        checkpoints.request(media_part(model, i), examples(model) if few else (), max_tokens=6) for i in range(3)
    ]
    replies = ask_all(loaded, requests)
    assert (loaded.sharing_disabled_reason is None) == (model in SHARING)
    expected = [plain_scores(loaded, r, ANSWERS[model]) for r in requests]
    assert np.abs(np.diff(expected, axis=0)).max(1).min() > 0.01  # it does matter what is shown
    np.testing.assert_allclose(scores(replies), expected, atol=1e-4)
    assert [r.text for r in replies] == [plain_answer(loaded, r) for r in requests]
    tokenizer = loaded.conversation.tokenizer
    lengths = tuple(len(tokenizer(ANSWERS[model].format(x), add_special_tokens=False).input_ids) for x in LABELS)
    assert replies[0].label_tokens == lengths
    assert replies[0].usage.input_tokens == inputs(loaded, requests[0])["input_ids"].shape[1]
    assert loaded.prompt_tokens(requests[0]) == replies[0].usage.input_tokens


@pytest.mark.parametrize("model", SHARING)
def test_shared_is_alone_also_under_eager_attention(local, model):
    loaded = local(model, batch_size=3)
    requests = [checkpoints.request(media_part(model, i), examples(model), max_tokens=6) for i in range(4)]
    usual = ask_all(loaded, requests)
    loaded.model.set_attn_implementation("eager")
    eager = ask_all(loaded, requests)
    assert loaded.sharing_disabled_reason is None
    expected = ask_all(local(model, share=False), requests)
    for found in (usual, eager):
        np.testing.assert_allclose(scores(found), scores(expected), atol=1e-4)
        assert [r.text for r in found] == [r.text for r in expected]


@pytest.mark.parametrize("model", SHARING)
def test_neither_batches_nor_the_order_of_clips_matter(local, model):
    requests = [checkpoints.request(media_part(model, i), examples(model), max_tokens=6) for i in range(8)]
    one = ask_all(local(model, batch_size=1), requests)
    eight = ask_all(local(model, batch_size=8), requests)
    order = np.random.default_rng(0).permutation(8)
    shuffled = ask_all(local(model, batch_size=3), [requests[i] for i in order])
    np.testing.assert_allclose(scores(eight), scores(one), atol=1e-4)
    np.testing.assert_allclose(scores(shuffled), scores(one)[order], atol=1e-4)
    assert [r.text for r in eight] == [r.text for r in one]
    assert [r.text for r in shuffled] == [one[i].text for i in order]


@pytest.mark.slow
@pytest.mark.parametrize("model", SHARING)
def test_whatever_requests_share_or_do_not(local, model):
    """Folds that change, examples chosen for each query, images of other sizes, repeats, zero-shot in between."""
    loaded = local(model, batch_size=3)
    own = [media_part(model, i) for i in range(6)]
    wide = checkpoints.audio(50, seconds=0.8) if model in SOUNDS else checkpoints.image(50, width=64, height=24)
    requests = [
        *(checkpoints.request(q, examples(model)) for q in own[:3]),
        *(checkpoints.request(q, examples(model, 200)) for q in own[:2]),
        *(checkpoints.request(q, examples(model, 300 + i)) for i, q in enumerate(own)),
        checkpoints.request(own[0]),
        checkpoints.request(own[0]),
        checkpoints.request(wide, examples(model)),
        checkpoints.request(own[3], ((wide, "dog"), *examples(model)[:2])),
        checkpoints.request(wide, ((wide, "dog"), *examples(model)[:2])),
    ]
    found = ask_all(loaded, requests)
    assert loaded.sharing_disabled_reason is None
    expected = ask_all(local(model, share=False), requests)
    np.testing.assert_allclose(scores(found), scores(expected), atol=1e-4)
    assert [r.text for r in found] == [r.text for r in expected]


def test_a_model_that_knows_is_right_and_says_so(local):
    """Were a sign wrong, or the likelihood a loss, the right answer would come last."""
    loaded = local(KNOWS_COLOURS)
    colours = list(checkpoints.COLOURS)
    replies = ask_all(loaded, [checkpoints.request(checkpoints.coloured(label)) for label in colours])
    assert [LABELS[int(np.argmax(r.log_probabilities))] for r in replies] == colours
    assert np.exp(scores(replies)).max(1).min() > 0.5  # and sure of it: all answers together have at most 1
    assert np.exp(scores(replies)).sum(1).max() <= 1 + 1e-6
    assert [r.text for r in replies] == [f" {label}" for label in colours]
    assert [r.usage.output_tokens for r in replies] == [2, 2, 3]  # the end token included


def test_saying_a_label_costs_nothing_more_than_scoring_it(local):
    loaded = local(KNOWS_COLOURS)
    requests = [checkpoints.request(checkpoints.coloured(label)) for label in checkpoints.COLOURS]
    ask_all(loaded, requests[:2])  # with the check of a load
    computed = [loaded.tokens.computed]
    for scorings in (("likelihood",), ("generation",), ("likelihood", "generation")):
        ask_all(loaded, [r.with_scorings(*scorings) for r in requests])
        computed.append(loaded.tokens.computed)
    assert len(set(np.diff(computed))) == 1


def test_where_an_answer_leaves_the_labels_it_goes_on_as_generate_does(local):
    """Half-way through a label, too: the labels here are the beginnings of what the model says."""
    loaded = local(JANUS, batch_size=4)
    requests = [checkpoints.request(media_part(JANUS, i), examples(JANUS), max_tokens=12) for i in range(4)]
    said = [plain_answer(loaded, r) for r in requests]
    tokenizer = loaded.conversation.tokenizer
    beginnings = []
    for request in requests:
        made = inputs(loaded, request)
        tokens = loaded.model.generate(**made, do_sample=False, max_new_tokens=12)[0, made["input_ids"].shape[1] :]
        beginnings.append(tuple(int(t) for t in tokens))
    assert all(len(b) == 12 for b in beginnings)
    prompts = [loaded.conversation.prompt(r) for r in requests]
    from dataclasses import replace

    own = [
        replace(p, answers=((*b[:n], tokenizer.eos_token_id),))
        for p, b, n in zip(prompts, beginnings, (0, 1, 3, 12), strict=True)
    ]
    with torch.inference_mode():
        results = loaded._shared.compute(own, 5)
    assert [r.tokens for r in results] == beginnings
    assert [loaded.conversation.decode(r.tokens) for r in results] == said


def test_a_seed_gives_the_same_answer_in_any_company(local):
    def texts(loaded: LocalBackend, requests: Sequence[Request]) -> list[str | None]:
        return [r.text for r in ask_all(loaded, requests)]

    requests = [
        checkpoints.request(media_part(JANUS, i), examples(JANUS), temperature=1.0, top_p=0.9, seed=7 + i, max_tokens=6)
        for i in range(4)
    ]
    one = texts(local(JANUS, batch_size=1), requests)
    assert texts(local(JANUS, batch_size=4), requests) == one
    assert texts(local(JANUS, share=False), requests[::-1]) == one[::-1]
    again = [
        checkpoints.request(media_part(JANUS, 0), examples(JANUS), temperature=1.0, seed=seed, max_tokens=6)
        for seed in range(4)
    ]
    assert len(set(texts(local(JANUS), again))) > 1


def test_the_examples_are_computed_once(local):
    """Tokens counted by hand: an image of Janus is 4 tokens between 2 others."""
    loaded = local(JANUS, batch_size=2)
    requests = [checkpoints.request(media_part(JANUS, i), examples(JANUS)) for i in range(6)]
    whole = inputs(loaded, requests[0])["input_ids"].shape[1]
    tokenizer = loaded.conversation.tokenizer
    tail = 4 + 2 + len(tokenizer("\n\n<|Assistant|>:", add_special_tokens=False).input_ids)
    labels = [tokenizer(ANSWERS[JANUS].format(x), add_special_tokens=False).input_ids for x in LABELS]
    inner = len({tuple(a[:i]) for a in labels for i in range(1, len(a))})
    requests = [r.with_scorings("likelihood") for r in requests]
    replies = ask_all(loaded, requests)
    check = whole + max(map(len, labels))
    assert loaded.tokens.computed == (whole - tail) + 6 * (tail + inner) + check
    assert loaded.tokens.naive == 6 * (whole + sum(map(len, labels)))
    assert [r.usage.cached_tokens for r in replies] == [0] + [whole - tail] * 5
    before = loaded.tokens.computed
    ask_all(loaded, requests)  # the examples are still there
    assert loaded.tokens.computed == before + 6 * (tail + inner)


@pytest.mark.parametrize("model", [JANUS, QWEN2_VL, LLAVA])
def test_each_image_is_looked_at_once(local, monkeypatch, model):
    """Also where every query has examples of its own, drawn from the same few images: 5 examples and 6 queries here."""
    loaded = local(model, batch_size=2)
    features, looks = loaded._shared.features, []
    encode = features._encode

    def counted(pixel_values, image_grid_thw=None, **kwargs):
        looks.append(len(pixel_values) if image_grid_thw is None else len(image_grid_thw))
        own = {} if image_grid_thw is None else {"image_grid_thw": image_grid_thw}
        return encode(pixel_values, **own, **kwargs)

    monkeypatch.setattr(features, "_encode", counted)
    some = examples(model)
    requests = [
        checkpoints.request(media_part(model, i), (some[i % 5], some[(i + 2) % 5], some[(i + 1) % 5]), max_tokens=2)
        for i in range(6)
    ]
    found = ask_all(loaded, requests)
    assert loaded.sharing_disabled_reason is None
    assert sum(looks) == 5 + 6
    assert max(looks) > 1, "new images of one row are looked at together"
    np.testing.assert_allclose(scores(found), scores(ask_all(local(model, share=False), requests)), atol=1e-4)
    ask_all(loaded, requests[::-1])
    assert sum(looks) == 5 + 6


@pytest.mark.parametrize("model", [JANUS, QWEN2_VL, LLAVA])
def test_images_of_several_sizes_and_the_same_one_again(local, model):
    """Where a family cuts images by their size, those of one size alone have as many features each."""
    sizes = [(48, 40), (48, 40), (96, 40), (48, 80), (96, 40)]
    some = [(checkpoints.image(i, *size), label) for i, (size, label) in enumerate(zip(sizes, LABELS, strict=True))]
    requests = [checkpoints.request(some[i][0], (some[2], some[0], some[2], some[3], some[1])) for i in range(5)]
    loaded = local(model, batch_size=3)
    np.testing.assert_allclose(
        scores(ask_all(loaded, requests)), scores(ask_all(local(model, share=False), requests)), atol=1e-4
    )
    assert loaded.sharing_disabled_reason is None


def test_nothing_of_one_query_is_left_for_the_next(local):
    loaded = local(JANUS)
    requests = [checkpoints.request(media_part(JANUS, i), examples(JANUS), max_tokens=4) for i in range(3)]
    first = ask_all(loaded, requests)
    layer = loaded._shared._cache.layers[0]
    length, keys = layer.get_seq_length(), layer.keys[:, :, : layer.get_seq_length()].clone()
    second = ask_all(loaded, requests)
    assert layer.get_seq_length() == length
    assert torch.equal(layer.keys[:, :, :length], keys)
    assert scores(first).tolist() == scores(second).tolist()


def test_bfloat16_is_near_float32(local):
    requests = [checkpoints.request(checkpoints.coloured(label)) for label in checkpoints.COLOURS]
    found = {}
    for dtype in ("float32", "bfloat16"):
        loaded = local(KNOWS_COLOURS, dtype)
        found[dtype] = scores(ask_all(loaded, requests))
        assert loaded.sharing_disabled_reason is None
    assert (found["bfloat16"].argmax(1) == found["float32"].argmax(1)).all()
    # 8 bits of mantissa: a relative step of 2**-8 in each of some tens of operations
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.1, atol=0.3)


def test_a_conversation_with_a_system_turn(local):
    loaded = local(QWEN2_VL)
    request = checkpoints.request(media_part(QWEN2_VL, 1), max_tokens=4)
    request = Request(
        (Message("system", ("You listen.",)), *request.messages), LABELS, request.scorings, request.sampling
    )
    assert loaded.messages_as_sent(request).startswith("<|im_start|>system\nYou listen.<|im_end|>\n<|im_start|>user\n")
    np.testing.assert_allclose(
        scores(ask_all(loaded, [request]))[0], plain_scores(loaded, request, ANSWERS[QWEN2_VL]), atol=1e-4
    )
