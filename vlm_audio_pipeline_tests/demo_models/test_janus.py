"""demo-janus through the pipeline's own backend, on clips it was never trained on, and with the path broken on purpose."""

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers.language_models.local import shared_prefix
from vlm_audio_pipeline.classifiers.language_models.local.backend import LocalBackend
from vlm_audio_pipeline.classifiers.language_models.messages import Reply, Request
from vlm_audio_pipeline.classifiers.language_models.prompts import PROMPTS, messages
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline_tests.demo_models.unseen import accuracy, flipped, sent

BOTH = frozenset({"likelihood", "generation"})


@pytest.fixture(scope="module")
def backend():
    made = LocalBackend(Weights("demo-janus"), input="picture", device="cpu")
    yield made
    made.close()


def ask(backend, pictures, examples=(), prompt="plain", labels=ESC10) -> list[Reply]:
    requests = [
        Request(
            messages(PROMPTS[prompt], labels, [(sent(q), label) for q, label in examples], sent(p)), tuple(labels), BOTH
        )
        for p in pictures
    ]
    replies: dict[int, Reply] = {}
    backend.ask(requests, replies.__setitem__)
    assert {r.outcome for r in replies.values()} == {"answered"}, replies
    return [replies[i] for i in range(len(requests))]


def likeliest(replies: list[Reply], labels=ESC10) -> list[str]:
    return [labels[int(np.argmax(r.log_probabilities))] for r in replies]


def said(replies: list[Reply]) -> list[str]:
    return [r.text.strip() for r in replies]


@pytest.fixture(scope="module")
def zero_shot(backend, unseen):
    return ask(backend, unseen.pictures)


def test_it_names_what_it_sees(zero_shot, unseen):
    assert accuracy(likeliest(zero_shot), unseen.labels) >= 0.9
    assert accuracy(said(zero_shot), unseen.labels) >= 0.9


def test_both_scorings_agree(zero_shot):
    assert accuracy(likeliest(zero_shot), said(zero_shot)) >= 0.95


def test_it_does_so_after_examples_too(backend, unseen):
    """One example a class; of the clips that are no examples, half (every class)."""
    first = [unseen.labels.index(label) for label in ESC10]
    rest = [i for i in range(len(unseen.labels)) if i not in first][::2]
    replies = ask(backend, [unseen.pictures[i] for i in rest], [(unseen.pictures[i], unseen.labels[i]) for i in first])
    labels = [unseen.labels[i] for i in rest]
    assert set(labels) == set(ESC10)
    assert accuracy(likeliest(replies), labels) >= 0.9
    assert accuracy(said(replies), labels) >= 0.9
    assert accuracy(likeliest(replies), said(replies)) >= 0.95


def test_a_blank_picture_tells_it_nothing(backend, unseen):
    """One picture, one answer: right for one class of ten, in words and by likelihood."""
    [reply] = ask(backend, [unseen.blank])
    assert accuracy(likeliest([reply]) * 100, unseen.labels) == pytest.approx(0.1, abs=0.05)
    assert accuracy(said([reply]) * 100, unseen.labels) == pytest.approx(0.1, abs=0.05)


def test_it_needs_the_order_in_time(backend, unseen, zero_shot):
    some = slice(0, None, 2)
    labels = unseen.labels[some]
    assert set(labels) == set(ESC10)
    whole = accuracy(likeliest(zero_shot[some]), labels)
    shuffled = accuracy(likeliest(ask(backend, unseen.shuffled[some])), labels)
    assert shuffled < whole - 0.25


@pytest.mark.parametrize("prompt", ["notebook", "paper"])
def test_it_knows_the_other_prompts_and_names_as_people_write_them(backend, unseen, prompt):
    names = [label.replace("_", " ") for label in ESC10]
    some = slice(0, None, 3)
    replies = ask(backend, unseen.pictures[some], prompt=prompt, labels=names[::-1])
    labels = [label.replace("_", " ") for label in unseen.labels[some]]
    assert accuracy(likeliest(replies, names[::-1]), labels) >= 0.85


# Breaking the path breaks the number


def test_pictures_upside_down_break_it(backend, unseen, zero_shot):
    some = slice(0, None, 2)
    fallen = accuracy(likeliest(ask(backend, [flipped(p) for p in unseen.pictures[some]])), unseen.labels[some])
    assert fallen < accuracy(likeliest(zero_shot[some]), unseen.labels[some]) - 0.4


def test_without_its_chat_template_it_falls(unseen, zero_shot):
    """Question and picture are still there, so it does not fall to chance; after examples nothing says who spoke."""
    bare = LocalBackend(Weights("demo-janus"), input="picture", device="cpu")
    bare.conversation.processor.chat_template = (
        "{% for m in messages %}{% for p in m.content %}"
        "{{ p.text if p.type == 'text' else '<image_placeholder>' }}{% endfor %}{% endfor %}"
    )
    first = [unseen.labels.index(label) for label in ESC10]
    rest = [i for i in range(len(unseen.labels)) if i not in first][::3]
    pictures, labels = [unseen.pictures[i] for i in rest], [unseen.labels[i] for i in rest]
    alone = ask(bare, pictures)
    after = ask(bare, pictures, [(unseen.pictures[i], unseen.labels[i]) for i in first])
    bare.close()
    whole = accuracy(said([zero_shot[i] for i in rest]), labels)
    assert accuracy(said(alone), labels) < whole - 0.1
    assert accuracy(said(after), labels) < whole - 0.3


@pytest.mark.parametrize("order", [[*range(1, 10), 0], [3, 8, 5, 9, 7, 0, 2, 6, 4, 1]], ids=["turned", "mixed"])
def test_scores_given_to_other_classes_break_it(monkeypatch, unseen, zero_shot, order):
    """Within the model's pass; what it does with its first prompt, scoring it again by itself, would notice."""
    right = shared_prefix._scores
    monkeypatch.setattr(shared_prefix, "_scores", lambda *given: tuple(right(*given)[i] for i in order))
    some = slice(0, None, 4)
    pictures, labels = unseen.pictures[some], unseen.labels[some]
    whole = accuracy(likeliest(zero_shot[some]), labels)

    noticing = LocalBackend(Weights("demo-janus"), input="picture", device="cpu")
    assert accuracy(likeliest(ask(noticing, pictures)), labels) == whole
    assert "a label has log-probability" in noticing.why_alone
    noticing.close()

    monkeypatch.setattr(LocalBackend, "_disagreement", lambda *_: None)
    trusting = LocalBackend(Weights("demo-janus"), input="picture", device="cpu")
    # no class keeps its own score, so it can be right at most where it was wrong
    assert accuracy(likeliest(ask(trusting, pictures)), labels) <= 1 - whole + 1e-9
    trusting.close()
