"""Results with a shared prefix equal those of separate requests.

The plain loops here use only the model and the processor: whole prompts, one label at a time.
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
    AUDIO_MODELS,
    GEMMA3,
    JANUS,
    LABELS,
    LLAVA,
    QWEN2_AUDIO,
    QWEN2_VL,
    SLIDING,
    TRAINED_ON_COLOURS,
)

ANSWERS = {
    JANUS: " {}<|end▁of▁sentence|>",
    TRAINED_ON_COLOURS: " {}<|end▁of▁sentence|>",
    QWEN2_VL: "{}<|im_end|>",
    LLAVA: " {}</s>",
    SLIDING: " {}</s>",
    QWEN2_AUDIO: "{}<|im_end|>",
    GEMMA3: "{}<end_of_turn>",
}
"""The format of a response in each chat template."""
SHARING = (JANUS, QWEN2_VL, LLAVA, QWEN2_AUDIO)
ALL_MODELS = (*SHARING, SLIDING, GEMMA3)


def ask_all(backend: LocalBackend, requests: Sequence[Request]) -> list[Reply]:
    replies: dict[int, Reply] = {}

    def on_reply(index: int, reply: Reply) -> None:
        assert index not in replies
        assert reply.outcome in checkpoints.RESPONDED, reply.error
        replies[index] = reply

    assert backend.ask(requests, on_reply) is None
    return [replies[i] for i in range(len(requests))]


def scores(replies: Sequence[Reply]) -> np.ndarray:
    return np.array([r.log_probabilities for r in replies])


def media_part(model: str, seed: int) -> ImagePart | AudioPart:
    return checkpoints.audio(seed) if model in AUDIO_MODELS else checkpoints.image(seed)


def examples(model: str, seed: int = 100) -> tuple:
    return tuple((media_part(model, seed + i), label) for i, label in enumerate(LABELS))


def inputs(backend: LocalBackend, request: Request, answer: str = ""):
    """Process a whole prompt as in the model card."""
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
    sums = []
    for label in request.labels:
        tensors = inputs(backend, request, template.format(label))
        logits = backend.model(**tensors).logits[0].double()
        ids = tensors["input_ids"][0]
        sums.append(sum(float(torch.log_softmax(logits[i - 1], -1)[ids[i]]) for i in range(length, len(ids))))
    return sums


def plain_text(backend: LocalBackend, request: Request) -> str:
    """Return the text of the model's own `generate`, greedy."""
    tensors = inputs(backend, request)
    tokens = backend.model.generate(**tensors, do_sample=False, max_new_tokens=request.sampling.max_tokens)
    return backend.conversation.tokenizer.decode(tokens[0, tensors["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("few", [False, True], ids=["zero-shot", "few-shot"])
@pytest.mark.parametrize("model", ALL_MODELS)
def test_both_scorings_equal_those_of_plain_loops(local, model, few):
    loaded = local(model)
    requests = [
        checkpoints.request(media_part(model, i), examples(model) if few else (), max_tokens=6) for i in range(3)
    ]
    replies = ask_all(loaded, requests)
    assert (loaded.sharing_disabled_reason is None) == (model in SHARING)
    expected = [plain_scores(loaded, r, ANSWERS[model]) for r in requests]
    assert np.abs(np.diff(expected, axis=0)).max(1).min() > 0.01  # the scores depend on the query
    np.testing.assert_allclose(scores(replies), expected, atol=1e-4)
    assert [r.text for r in replies] == [plain_text(loaded, r) for r in requests]
    tokenizer = loaded.conversation.tokenizer
    lengths = tuple(len(tokenizer(ANSWERS[model].format(x), add_special_tokens=False).input_ids) for x in LABELS)
    assert replies[0].label_tokens == lengths
    assert replies[0].usage.input_tokens == inputs(loaded, requests[0])["input_ids"].shape[1]
    assert loaded.prompt_tokens(requests[0]) == replies[0].usage.input_tokens


@pytest.mark.parametrize("model", SHARING)
def test_a_shared_prefix_changes_nothing_with_eager_attention(local, model):
    loaded = local(model, batch_size=3)
    requests = [checkpoints.request(media_part(model, i), examples(model), max_tokens=6) for i in range(4)]
    usual = ask_all(loaded, requests)
    loaded.model.set_attn_implementation("eager")
    eager = ask_all(loaded, requests)
    assert loaded.sharing_disabled_reason is None
    expected = ask_all(local(model, share=False), requests)
    for results in (usual, eager):
        np.testing.assert_allclose(scores(results), scores(expected), atol=1e-4)
        assert [r.text for r in results] == [r.text for r in expected]


@pytest.mark.parametrize("model", SHARING)
def test_results_do_not_depend_on_batches_or_the_order_of_clips(local, model):
    requests = [checkpoints.request(media_part(model, i), examples(model), max_tokens=6) for i in range(8)]
    one_by_one = ask_all(local(model, batch_size=1), requests)
    eight = ask_all(local(model, batch_size=8), requests)
    order = np.random.default_rng(0).permutation(8)
    shuffled = ask_all(local(model, batch_size=3), [requests[i] for i in order])
    np.testing.assert_allclose(scores(eight), scores(one_by_one), atol=1e-4)
    np.testing.assert_allclose(scores(shuffled), scores(one_by_one)[order], atol=1e-4)
    assert [r.text for r in eight] == [r.text for r in one_by_one]
    assert [r.text for r in shuffled] == [one_by_one[i].text for i in order]


@pytest.mark.slow
@pytest.mark.parametrize("model", SHARING)
def test_results_are_correct_for_any_mix_of_shared_and_unshared_prefixes(local, model):
    """Changing folds, examples of each query, images of other sizes, repeated requests, and zero-shot requests in between."""
    loaded = local(model, batch_size=3)
    own = [media_part(model, i) for i in range(6)]
    wide = checkpoints.audio(50, seconds=0.8) if model in AUDIO_MODELS else checkpoints.image(50, width=64, height=24)
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
    results = ask_all(loaded, requests)
    assert loaded.sharing_disabled_reason is None
    expected = ask_all(local(model, share=False), requests)
    np.testing.assert_allclose(scores(results), scores(expected), atol=1e-4)
    assert [r.text for r in results] == [r.text for r in expected]


def test_a_trained_model_gives_the_correct_label_in_both_scorings(local):
    """With a wrong sign of the log-probabilities, the correct label would have the lowest score."""
    loaded = local(TRAINED_ON_COLOURS)
    colours = list(checkpoints.COLOURS)
    replies = ask_all(loaded, [checkpoints.request(checkpoints.colour_image(label)) for label in colours])
    assert [LABELS[int(np.argmax(r.log_probabilities))] for r in replies] == colours
    assert np.exp(scores(replies)).max(1).min() > 0.5  # high probability; all labels together have at most 1
    assert np.exp(scores(replies)).sum(1).max() <= 1 + 1e-6
    assert [r.text for r in replies] == [f" {label}" for label in colours]
    assert [r.usage.output_tokens for r in replies] == [2, 2, 3]  # the end token included


def test_generating_a_label_needs_no_more_computed_tokens_than_scoring(local):
    loaded = local(TRAINED_ON_COLOURS)
    requests = [checkpoints.request(checkpoints.colour_image(label)) for label in checkpoints.COLOURS]
    ask_all(loaded, requests[:2])  # includes the check after loading
    computed = [loaded.token_counts()["tokens_computed"]]
    for scorings in (("likelihood",), ("generation",), ("likelihood", "generation")):
        ask_all(loaded, [r.with_scorings(*scorings) for r in requests])
        computed.append(loaded.token_counts()["tokens_computed"])
    assert len(set(np.diff(computed))) == 1


def test_text_outside_the_labels_continues_as_in_generate(local):
    """Also in the middle of a label: the labels here are prefixes of the text that the model generates."""
    loaded = local(JANUS, batch_size=4)
    requests = [checkpoints.request(media_part(JANUS, i), examples(JANUS), max_tokens=12) for i in range(4)]
    expected_texts = [plain_text(loaded, r) for r in requests]
    tokenizer = loaded.conversation.tokenizer
    prefixes = []
    for request in requests:
        tensors = inputs(loaded, request)
        tokens = loaded.model.generate(**tensors, do_sample=False, max_new_tokens=12)[
            0, tensors["input_ids"].shape[1] :
        ]
        prefixes.append(tuple(int(t) for t in tokens))
    assert all(len(b) == 12 for b in prefixes)
    prompts = [loaded.conversation.prompt(r) for r in requests]
    from dataclasses import replace

    own = [
        replace(p, label_sequences=((*b[:n], tokenizer.eos_token_id),))
        for p, b, n in zip(prompts, prefixes, (0, 1, 3, 12), strict=True)
    ]
    with torch.inference_mode():
        results = loaded._shared.compute(own, 5)
    assert [r.tokens for r in results] == prefixes
    assert [loaded.conversation.decode(r.tokens) for r in results] == expected_texts


def test_a_seeded_response_does_not_depend_on_the_batch(local):
    def texts(loaded: LocalBackend, requests: Sequence[Request]) -> list[str | None]:
        return [r.text for r in ask_all(loaded, requests)]

    requests = [
        checkpoints.request(media_part(JANUS, i), examples(JANUS), temperature=1.0, top_p=0.9, seed=7 + i, max_tokens=6)
        for i in range(4)
    ]
    one_by_one = texts(local(JANUS, batch_size=1), requests)
    assert texts(local(JANUS, batch_size=4), requests) == one_by_one
    assert texts(local(JANUS, share=False), requests[::-1]) == one_by_one[::-1]
    seeded = [
        checkpoints.request(media_part(JANUS, 0), examples(JANUS), temperature=1.0, seed=seed, max_tokens=6)
        for seed in range(4)
    ]
    assert len(set(texts(local(JANUS), seeded))) > 1


def test_the_examples_are_computed_once(local):
    """Tokens are counted by hand: an image of Janus has 4 tokens between a begin and an end token."""
    loaded = local(JANUS, batch_size=2)
    requests = [checkpoints.request(media_part(JANUS, i), examples(JANUS)) for i in range(6)]
    prompt_length = inputs(loaded, requests[0])["input_ids"].shape[1]
    tokenizer = loaded.conversation.tokenizer
    tail = 4 + 2 + len(tokenizer("\n\n<|Assistant|>:", add_special_tokens=False).input_ids)
    labels = [tokenizer(ANSWERS[JANUS].format(x), add_special_tokens=False).input_ids for x in LABELS]
    inner = len({tuple(a[:i]) for a in labels for i in range(1, len(a))})
    requests = [r.with_scorings("likelihood") for r in requests]
    replies = ask_all(loaded, requests)
    check = prompt_length + max(map(len, labels))
    assert loaded.token_counts()["tokens_computed"] == (prompt_length - tail) + 6 * (tail + inner) + check
    assert loaded.token_counts()["tokens_naive"] == 6 * (prompt_length + sum(map(len, labels)))
    assert [r.usage.cached_tokens for r in replies] == [0] + [prompt_length - tail] * 5
    before = loaded.token_counts()["tokens_computed"]
    ask_all(loaded, requests)  # the examples are still in the cache
    assert loaded.token_counts()["tokens_computed"] == before + 6 * (tail + inner)


@pytest.mark.parametrize("model", [JANUS, QWEN2_VL, LLAVA])
def test_each_image_is_encoded_once(local, monkeypatch, model):
    """Also if every query has its own examples from the same few images: 5 examples and 6 queries here."""
    loaded = local(model, batch_size=2)
    features, images_per_call = loaded._shared.image_features, []
    encode = features._encode

    def counted(pixel_values, image_grid_thw=None, **kwargs):
        images_per_call.append(len(pixel_values) if image_grid_thw is None else len(image_grid_thw))
        own = {} if image_grid_thw is None else {"image_grid_thw": image_grid_thw}
        return encode(pixel_values, **own, **kwargs)

    monkeypatch.setattr(features, "_encode", counted)
    labelled_images = examples(model)
    requests = [
        checkpoints.request(
            media_part(model, i),
            (labelled_images[i % 5], labelled_images[(i + 2) % 5], labelled_images[(i + 1) % 5]),
            max_tokens=2,
        )
        for i in range(6)
    ]
    results = ask_all(loaded, requests)
    assert loaded.sharing_disabled_reason is None
    assert sum(images_per_call) == 5 + 6
    assert max(images_per_call) > 1, "new images of one row are encoded together"
    np.testing.assert_allclose(scores(results), scores(ask_all(local(model, share=False), requests)), atol=1e-4)
    ask_all(loaded, requests[::-1])
    assert sum(images_per_call) == 5 + 6


@pytest.mark.parametrize("model", [JANUS, QWEN2_VL, LLAVA])
def test_images_of_different_sizes_and_a_repeated_image(local, model):
    """If a family splits images by their size, only images of equal size have the same number of features."""
    sizes = [(48, 40), (48, 40), (96, 40), (48, 80), (96, 40)]
    labelled_images = [
        (checkpoints.image(i, *size), label) for i, (size, label) in enumerate(zip(sizes, LABELS, strict=True))
    ]
    requests = [
        checkpoints.request(
            labelled_images[i][0],
            (labelled_images[2], labelled_images[0], labelled_images[2], labelled_images[3], labelled_images[1]),
        )
        for i in range(5)
    ]
    loaded = local(model, batch_size=3)
    np.testing.assert_allclose(
        scores(ask_all(loaded, requests)), scores(ask_all(local(model, share=False), requests)), atol=1e-4
    )
    assert loaded.sharing_disabled_reason is None


def test_a_query_does_not_affect_the_next_query(local):
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
    requests = [checkpoints.request(checkpoints.colour_image(label)) for label in checkpoints.COLOURS]
    results = {}
    for dtype in ("float32", "bfloat16"):
        loaded = local(TRAINED_ON_COLOURS, dtype)
        results[dtype] = scores(ask_all(loaded, requests))
        assert loaded.sharing_disabled_reason is None
    assert (results["bfloat16"].argmax(1) == results["float32"].argmax(1)).all()
    # 8 bits of mantissa: a relative step of 2**-8 in each of some tens of operations
    np.testing.assert_allclose(results["bfloat16"], results["float32"], rtol=0.1, atol=0.3)


def test_a_conversation_with_a_system_turn(local):
    loaded = local(QWEN2_VL)
    request = checkpoints.request(media_part(QWEN2_VL, 1), max_tokens=4)
    request = Request(
        (Message("system", ("You listen.",)), *request.messages), LABELS, request.scorings, request.sampling
    )
    assert loaded.render_messages(request).startswith("<|im_start|>system\nYou listen.<|im_end|>\n<|im_start|>user\n")
    np.testing.assert_allclose(
        scores(ask_all(loaded, [request]))[0], plain_scores(loaded, request, ANSWERS[QWEN2_VL]), atol=1e-4
    )
