"""Arrange several prompts and their label trees in one row of tokens, with its attention mask.

The row holds the tokens of all prompts first, so that they are consecutive in the order of the processor, then the trees. Does
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
        trees: label tree of each prompt.

    >>> row = pack([2, 1], [LabelTree([(7, 0)]), LabelTree([(7, 0), (8, 0)])])
    >>> row.mask.astype(int).tolist()
    [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [0, 0, 1, 0, 1, 0], [0, 0, 1, 0, 0, 1]]
    >>> row.nodes
    [[1, 3], [2, 4, 5]]
    """
    sizes = [len(tree.tokens) for tree in trees]
    total, tree_begin, begin = sum(lengths) + sum(sizes), sum(lengths), 0
    mask, nodes = np.zeros((total, total), dtype=bool), []
    for length, size, tree in zip(lengths, sizes, trees, strict=True):
        end = begin + length
        mask[begin:end, begin:end] = np.tri(length, dtype=bool)
        mask[tree_begin : tree_begin + size, begin:end] = True
        mask[tree_begin : tree_begin + size, tree_begin : tree_begin + size] = tree.attention_mask()
        nodes.append([end - 1, *range(tree_begin, tree_begin + size)])
        begin, tree_begin = end, tree_begin + size
    return PackedRow(mask, nodes)
