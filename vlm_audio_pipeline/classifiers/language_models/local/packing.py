"""The order of several prompts and their label trees in one row of tokens, and the attention mask.

The row holds the tokens of all prompts first, so that they are consecutive as the processor wrote them, then the trees. Does
not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree


@dataclass(frozen=True)
class PackedRow:
    """A row of tokens.

    Attributes:
        mask: (n, n) bool: whether a token (row) attends to another (column); the shared prefix is not included.
        nodes: for each prompt, the index of each node of its tree in the row; the root is the prompt's last token.
    """

    mask: np.ndarray
    nodes: list[list[int]]


def pack(lengths: Sequence[int], trees: Sequence[LabelTree]) -> PackedRow:
    """Arrange prompts and trees in one row.

    Args:
        lengths: tokens of each prompt, 1 or more.
        trees: of each prompt.

    >>> row = pack([2, 1], [LabelTree([(7, 0)]), LabelTree([(7, 0), (8, 0)])])
    >>> row.mask.astype(int).tolist()
    [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 1]]
    >>> row.nodes
    [[1, 3], [2, 4, 5]]
    """
    sizes = [len(tree.tokens) for tree in trees]
    total, top, begin = sum(lengths) + sum(sizes), sum(lengths), 0
    mask, nodes = np.zeros((total, total), dtype=bool), []
    for length, size, tree in zip(lengths, sizes, trees, strict=True):
        end = begin + length
        mask[begin:end, begin:end] = np.tri(length, dtype=bool)
        mask[top : top + size, begin:end] = True
        mask[top : top + size, top : top + size] = tree.visible()
        nodes.append([end - 1, *range(top, top + size)])
        begin, top = end, top + size
    return PackedRow(mask, nodes)
