"""A row of several prompts: each token attends only to its own prompt and label."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree
from vlm_audio_pipeline.classifiers.language_models.local.packing import pack

ANSWERS = st.lists(st.lists(st.integers(1, 4), max_size=4).map(lambda tokens: (*tokens, 0)), min_size=1, max_size=6)


@given(st.lists(st.tuples(st.integers(1, 5), ANSWERS), min_size=1, max_size=4))
def test_each_token_attends_only_to_its_own_prompt_and_label(prompts):
    """Tokens are identified by ("p", prompt, position) or ("t", prompt, node)."""
    lengths = [length for length, _ in prompts]
    trees = [LabelTree(answers) for _, answers in prompts]
    row = pack(lengths, trees)
    names = [("p", i, at) for i, n in enumerate(lengths) for at in range(n)]
    names += [("t", i, node) for i, tree in enumerate(trees) for node in range(1, len(tree.tokens) + 1)]
    assert row.mask.shape == (len(names), len(names))
    for name, visible in zip(names, row.mask, strict=True):
        kind, i, at = name
        if kind == "p":
            expected = {("p", i, k) for k in range(at + 1)}
        else:
            expected = {("p", i, k) for k in range(lengths[i])}
            while at:
                expected.add(("t", i, at))
                at = trees[i].parents[at - 1]
        assert {names[k] for k in np.flatnonzero(visible)} == expected
    for i, nodes in enumerate(row.nodes):
        assert [names[k] for k in nodes] == [
            ("p", i, lengths[i] - 1),
            *(("t", i, node) for node in range(1, len(trees[i].tokens) + 1)),
        ]
