"""The tree of labels: each prefix occurs once, and each node attends only to its ancestors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree

END = 0
LABEL_TOKENS = st.lists(
    st.lists(st.integers(1, 4), max_size=5).map(lambda tokens: (*tokens, END)), min_size=1, max_size=12
)


def test_shared_prefixes_of_labels_are_stored_once():
    # "sea waves." = 5 6 0, "sea lion." = 5 7 0, "sea." = 5 0: "sea" once, "waves" and "lion" below it; end tokens need no node
    tree = LabelTree([(5, 6, END), (5, 7, END), (5, END)])
    assert tree.tokens == [5, 6, 7]
    assert tree.parents == [0, 1, 1]
    assert tree.depths == [0, 1, 1]
    assert tree.attention_mask().tolist() == [[True, False, False], [True, True, False], [True, False, True]]
    assert tree.label_paths() == (
        [[(0, 5), (1, 6), (2, END)], [(0, 5), (1, 7), (3, END)], [(0, 5), (1, END)]],
        [3, 3, 2],
    )


@given(LABEL_TOKENS)
def test_each_step_of_a_label_follows_the_tokens_of_that_label(answers):
    tree = LabelTree(answers)

    def ancestor_tokens(node: int) -> list[int]:
        tokens = []
        while node:
            tokens.append(tree.tokens[node - 1])
            node = tree.parents[node - 1]
        return tokens[::-1]

    paths, lengths = tree.label_paths()
    assert lengths == [len(a) for a in answers]
    for answer, own in zip(answers, paths, strict=True):
        assert [token for _, token in own] == list(answer)
        assert [tuple(ancestor_tokens(node)) for node, _ in own] == [answer[:i] for i in range(len(answer))]
    prefixes = {a[:i] for a in answers for i in range(1, len(a))}
    assert len(tree.tokens) == len(prefixes)  # each prefix once


@given(LABEL_TOKENS)
def test_a_node_attends_to_itself_and_its_ancestors(answers):
    tree = LabelTree(answers)
    for node, visible in enumerate(tree.attention_mask(), 1):
        expected, at = set(), node
        while at:
            expected.add(at - 1)
            at = tree.parents[at - 1]
        assert set(np.flatnonzero(visible)) == expected
        assert len(expected) == tree.depths[node - 1] + 1


@given(LABEL_TOKENS, st.data())
def test_a_walk_along_a_label_returns_its_tokens(answers, data):
    answer = data.draw(st.sampled_from(answers))
    next_tokens = iter(answer)
    assert LabelTree(answers).walk(lambda _: next(next_tokens), {END}, 99) == (list(answer), None)


@pytest.mark.parametrize(
    ("generated", "max_tokens", "expected"),
    [
        ([5, 9], 99, ([5, 9], 1)),  # leaves the tree after "sea"
        ([9], 99, ([9], 0)),  # leaves the tree at once
        ([5, 8], 99, ([5, 8], None)),  # another end token
        ([5, 6], 2, ([5, 6], None)),  # the maximum number of tokens
        ([5, 9], 2, ([5, 9], None)),
    ],
)
def test_a_walk_stops_outside_the_tree_at_an_end_token_or_at_the_token_limit(generated, max_tokens, expected):
    next_tokens = iter(generated)
    assert LabelTree([(5, 6, END), (5, 7, END)]).walk(lambda _: next(next_tokens), {END, 8}, max_tokens) == expected
