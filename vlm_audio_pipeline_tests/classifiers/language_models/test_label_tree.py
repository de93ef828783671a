"""The tree of answers: every answer is in it once, and nothing sees what it must not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree

END = 0
ANSWERS = st.lists(st.lists(st.integers(1, 4), max_size=5).map(lambda tokens: (*tokens, END)), min_size=1, max_size=12)


def test_shared_beginnings_are_computed_once():
    # "sea waves." = 5 6 0, "sea lion." = 5 7 0, "sea." = 5 0: sea once, waves and lion below it; ends need no computation
    tree = LabelTree([(5, 6, END), (5, 7, END), (5, END)])
    assert tree.tokens == [5, 6, 7]
    assert tree.parents == [0, 1, 1]
    assert tree.depths == [0, 1, 1]
    assert tree.visible().tolist() == [[True, False, False], [True, True, False], [True, False, True]]
    assert tree.steps() == ([[(0, 5), (1, 6), (2, END)], [(0, 5), (1, 7), (3, END)], [(0, 5), (1, END)]], [3, 3, 2])


@given(ANSWERS)
def test_every_step_of_an_answer_follows_its_own_tokens(answers):
    tree = LabelTree(answers)

    def above(node: int) -> list[int]:
        found = []
        while node:
            found.append(tree.tokens[node - 1])
            node = tree.parents[node - 1]
        return found[::-1]

    steps, lengths = tree.steps()
    assert lengths == [len(a) for a in answers]
    for answer, own in zip(answers, steps, strict=True):
        assert [token for _, token in own] == list(answer)
        assert [tuple(above(node)) for node, _ in own] == [answer[:i] for i in range(len(answer))]
    beginnings = {a[:i] for a in answers for i in range(1, len(a))}
    assert len(tree.tokens) == len(beginnings)  # each beginning once


@given(ANSWERS)
def test_a_node_sees_itself_and_what_is_above_it(answers):
    tree = LabelTree(answers)
    for node, seen in enumerate(tree.visible(), 1):
        expected, at = set(), node
        while at:
            expected.add(at - 1)
            at = tree.parents[at - 1]
        assert set(np.flatnonzero(seen)) == expected
        assert len(expected) == tree.depths[node - 1] + 1


@given(ANSWERS, st.data())
def test_walking_along_an_answer_says_it(answers, data):
    answer = data.draw(st.sampled_from(answers))
    said = iter(answer)
    assert LabelTree(answers).walk(lambda _: next(said), {END}, 99) == (list(answer), None)


@pytest.mark.parametrize(
    ("says", "most", "expected"),
    [
        ([5, 9], 99, ([5, 9], 1)),  # leaves after "sea"
        ([9], 99, ([9], 0)),  # leaves at once
        ([5, 8], 99, ([5, 8], None)),  # another token that ends answers
        ([5, 6], 2, ([5, 6], None)),  # as long as allowed
        ([5, 9], 2, ([5, 9], None)),
    ],
)
def test_a_walk_ends_where_the_model_leaves_ends_or_runs_out(says, most, expected):
    left = iter(says)
    assert LabelTree([(5, 6, END), (5, 7, END)]).walk(lambda _: next(left), {END, 8}, most) == expected
