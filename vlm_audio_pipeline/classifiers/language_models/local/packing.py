"""Several prompts and their labels in one row: which token stands where, and sees what.

What belongs here: the layout of a row. What does not: running a model. Nothing here imports torch.

First come the prompts' own tokens, one prompt after the other, then their labels, one tree after the other: so the
processor's tokens of all prompts stand together, as it made them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree


@dataclass(frozen=True)
class Packing:
    """A row.

    Attributes:
        sees: (n, n) bool: whether a token (row) sees another (column); what all prompts begin with is not in it.
        nodes: for each prompt, where the nodes of its tree stand; the root is the prompt's last token.
    """

    sees: np.ndarray
    nodes: list[list[int]]


def packed(lengths: Sequence[int], trees: Sequence[LabelTree]) -> Packing:
    """Lay out a row.

    Args:
        lengths: tokens of each prompt, 1 or more.
        trees: of each prompt.

    >>> row = packed([2, 1], [LabelTree([(7, 0)]), LabelTree([(7, 0), (8, 0)])])
    >>> row.sees.astype(int).tolist()
    [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 1]]
    >>> row.nodes
    [[1, 3], [2, 4, 5]]
    """
    sizes = [len(tree.tokens) for tree in trees]
    total, top, begin = sum(lengths) + sum(sizes), sum(lengths), 0
    sees, nodes = np.zeros((total, total), dtype=bool), []
    for length, size, tree in zip(lengths, sizes, trees, strict=True):
        end = begin + length
        sees[begin:end, begin:end] = np.tri(length, dtype=bool)
        sees[top : top + size, begin:end] = True
        sees[top : top + size, top : top + size] = tree.visible()
        nodes.append([end - 1, *range(top, top + size)])
        begin, top = end, top + size
    return Packing(sees, nodes)
