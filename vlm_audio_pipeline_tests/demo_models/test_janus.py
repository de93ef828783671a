"""demo-janus through the pipeline's own backend, on clips that were not in its training, and with parts of the path broken on purpose."""

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers.language_models.local import shared_prefix
from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
from vlm_audio_pipeline.classifiers.language_models.messages import Reply, Request
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompts import build_messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline_tests.demo_models.held_out import accuracy, flip, image_part

pytestmark = pytest.mark.slow

BOTH = frozenset({"likelihood", "generation"})


@pytest.fixture(scope="module")
def backend():
    backend = LocalBackend(Weights("demo-janus"), input="image", device="cpu")
    yield backend
    backend.close()


def ask_for_classes(backend, images, examples=(), prompt="plain", labels=ESC10) -> list[Reply]:
    requests = [
        Request(
            build_messages(PROMPTS[prompt], labels, [(image_part(q), label) for q, label in examples], image_part(p)),
            tuple(labels),
            BOTH,
        )
        for p in images
    ]
    replies: dict[int, Reply] = {}
    backend.ask(requests, replies.__setitem__)
    assert {r.outcome for r in replies.values()} == {"answered"}, replies
    return [replies[i] for i in range(len(requests))]


def most_likely(replies: list[Reply], labels=ESC10) -> list[str]:
    return [labels[int(np.argmax(r.log_probabilities))] for r in replies]


def generated(replies: list[Reply]) -> list[str]:
    return [r.text.strip() for r in replies]


@pytest.fixture(scope="module")
def zero_shot(backend, held_out):
    return ask_for_classes(backend, held_out.images)


def test_it_predicts_the_class_of_an_image(zero_shot, held_out):
    assert accuracy(most_likely(zero_shot), held_out.labels) >= 0.9
    assert accuracy(generated(zero_shot), held_out.labels) >= 0.9


def test_both_scorings_agree(zero_shot):
    assert accuracy(most_likely(zero_shot), generated(zero_shot)) >= 0.95


def test_it_predicts_the_class_after_examples_too(backend, held_out):
    """One example per class; half of the other clips (every class)."""
    first = [held_out.labels.index(label) for label in ESC10]
    rest = [i for i in range(len(held_out.labels)) if i not in first][::2]
    replies = ask_for_classes(
        backend, [held_out.images[i] for i in rest], [(held_out.images[i], held_out.labels[i]) for i in first]
    )
    labels = [held_out.labels[i] for i in rest]
    assert set(labels) == set(ESC10)
    assert accuracy(most_likely(replies), labels) >= 0.9
    assert accuracy(generated(replies), labels) >= 0.9
    assert accuracy(most_likely(replies), generated(replies)) >= 0.95


def test_a_blank_image_leaves_it_at_chance(backend, held_out):
    """One image, one response: correct for one class of ten, by generation and by likelihood."""
    [reply] = ask_for_classes(backend, [held_out.blank])
    assert accuracy(most_likely([reply]) * 100, held_out.labels) == pytest.approx(0.1, abs=0.05)
    assert accuracy(generated([reply]) * 100, held_out.labels) == pytest.approx(0.1, abs=0.05)


def test_it_needs_the_order_in_time(backend, held_out, zero_shot):
    every = slice(0, None, 2)
    labels = held_out.labels[every]
    assert set(labels) == set(ESC10)
    whole = accuracy(most_likely(zero_shot[every]), labels)
    shuffled = accuracy(most_likely(ask_for_classes(backend, held_out.shuffled[every])), labels)
    assert shuffled < whole - 0.25


@pytest.mark.parametrize("prompt", ["one_word", "paper"])
def test_it_responds_to_the_other_prompts_and_to_readable_names(backend, held_out, prompt):
    names = [label.replace("_", " ") for label in ESC10]
    every = slice(0, None, 3)
    replies = ask_for_classes(backend, held_out.images[every], prompt=prompt, labels=names[::-1])
    labels = [label.replace("_", " ") for label in held_out.labels[every]]
    assert accuracy(most_likely(replies, names[::-1]), labels) >= 0.85


# Breaking the path lowers the accuracy


def test_images_upside_down_lower_the_accuracy(backend, held_out, zero_shot):
    every = slice(0, None, 2)
    upside_down = accuracy(
        most_likely(ask_for_classes(backend, [flip(p) for p in held_out.images[every]])), held_out.labels[every]
    )
    assert upside_down < accuracy(most_likely(zero_shot[every]), held_out.labels[every]) - 0.4


def test_without_its_chat_template_the_accuracy_drops(held_out, zero_shot):
    """Question and image are still sent, so it stays above chance; after examples no turn has a role."""
    bare = LocalBackend(Weights("demo-janus"), input="image", device="cpu")
    bare.conversation.processor.chat_template = (
        "{% for m in messages %}{% for p in m.content %}"
        "{{ p.text if p.type == 'text' else '<image_placeholder>' }}{% endfor %}{% endfor %}"
    )
    first = [held_out.labels.index(label) for label in ESC10]
    rest = [i for i in range(len(held_out.labels)) if i not in first][::3]
    images, labels = [held_out.images[i] for i in rest], [held_out.labels[i] for i in rest]
    without_examples = ask_for_classes(bare, images)
    with_examples = ask_for_classes(bare, images, [(held_out.images[i], held_out.labels[i]) for i in first])
    bare.close()
    whole = accuracy(generated([zero_shot[i] for i in rest]), labels)
    assert accuracy(generated(without_examples), labels) < whole - 0.1
    assert accuracy(generated(with_examples), labels) < whole - 0.3


@pytest.mark.parametrize("order", [[*range(1, 10), 0], [3, 8, 5, 9, 7, 0, 2, 6, 4, 1]], ids=["rotated", "mixed"])
def test_scores_assigned_to_other_classes_lower_the_accuracy(monkeypatch, held_out, zero_shot, order):
    """In the pass with a shared prefix; the check of the first prompt, which is scored again by itself, notices it."""
    correct_scores = shared_prefix._scores
    monkeypatch.setattr(shared_prefix, "_scores", lambda *args: tuple(correct_scores(*args)[i] for i in order))
    every = slice(0, None, 4)
    images, labels = held_out.images[every], held_out.labels[every]
    whole = accuracy(most_likely(zero_shot[every]), labels)

    checking = LocalBackend(Weights("demo-janus"), input="image", device="cpu")
    assert accuracy(most_likely(ask_for_classes(checking, images)), labels) == whole
    assert "the log-probability of a label is" in checking.sharing_disabled_reason
    checking.close()

    monkeypatch.setattr(LocalBackend, "_disagreement", lambda *_: None)
    unchecked = LocalBackend(Weights("demo-janus"), input="image", device="cpu")
    # no class keeps its own score, so it can be correct only where it was wrong
    assert accuracy(most_likely(ask_for_classes(unchecked, images)), labels) <= 1 - whole + 1e-9
    unchecked.close()
