"""The token sequences of all labels as one tree, so that one pass gives the probability of each label.

Sequences with equal first tokens share these tokens. Each node of the tree is computed once and attends only to the prompt and
the tokens above it (tree attention, as in SpecInfer, https://arxiv.org/abs/2305.09781). The last token of a sequence is only
predicted, so it needs no node. Does not import torch.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np

ROOT = 0


class LabelTree:
    """The token sequences of the labels of a prompt, as a tree.

    Node 0 is the last token of the prompt. Nodes 1 to `len(tokens)` are tokens after which a sequence continues, parents
    before children. Row r of logits belongs to node r.

    Attributes:
        tokens: token of each node except the root.
        parents: parent of each node except the root.
        depths: number of tokens between the prompt and each node except the root; 0 directly after the prompt.

    >>> tree = LabelTree([(7, 8, 2), (7, 9, 2), (5, 2)])
    >>> tree.tokens, tree.parents, tree.depths
    ([7, 8, 9, 5], [0, 1, 1, 0], [0, 1, 1, 0])
    """

    def __init__(self, label_sequences: Sequence[Sequence[int]]):
        """Build the tree.

        Args:
            label_sequences: tokens of each label with its end token; none may be empty.
        """
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._children: dict[tuple[int, int], int] = {}
        self._label_paths: list[list[tuple[int, int]]] = []
        for sequence in label_sequences:
            node, path = ROOT, []
            for depth, token in enumerate(sequence):
                path.append((node, token))
                if depth + 1 < len(sequence):
                    node = self._add_node(node, token, depth)
            self._label_paths.append(path)

    def _add_node(self, node: int, token: int, depth: int) -> int:
        if (node, token) not in self._children:
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(depth)
            self._children[node, token] = len(self.tokens)
        return self._children[node, token]

    def attention_mask(self) -> np.ndarray:
        """Return which node (row) attends to which node (column): itself and its ancestors except the root; (n, n) bool."""
        mask = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                mask[node] |= mask[parent - 1]
        return mask

    def label_paths(self) -> tuple[list[list[tuple[int, int]]], list[int]]:
        """Return (node, next token) for every token of every label, and the number of tokens of each label."""
        return self._label_paths, [len(path) for path in self._label_paths]

    def walk(
        self, choose: Callable[[int], int], end_tokens: Collection[int], max_tokens: int
    ) -> tuple[list[int], int | None]:
        """Generate a response as long as its tokens stay within the tree.

        Args:
            choose: node -> the token that the model chooses after it.
            end_tokens: tokens that end a response.
            max_tokens: maximum length of the response, tokens.

        Returns:
            The tokens, and the node after which the last token leaves the tree; None if the response is complete.

        >>> LabelTree([(7, 8, 2), (5, 2)]).walk({0: 7, 1: 8, 2: 2}.get, {2}, 10)
        ([7, 8, 2], None)
        >>> LabelTree([(7, 8, 2), (5, 2)]).walk({0: 7, 1: 6}.get, {2}, 10)
        ([7, 6], 1)
        """
        response: list[int] = []
        node = ROOT
        while True:
            response.append(choose(node))
            if response[-1] in end_tokens or len(response) >= max_tokens:
                return response, None
            if (node, response[-1]) not in self._children:
                return response, node
            node = self._children[node, response[-1]]
