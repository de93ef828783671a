"""The answers of all labels as one tree of tokens, so that one pass gives the probability of each.

Answers that begin alike share their first tokens. Each node of the tree is computed once and attends only to the prompt and
the tokens above it (tree attention, as in SpecInfer, https://arxiv.org/abs/2305.09781). The last token of an answer is only
predicted, so it needs no node. Does not import torch.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np

ROOT = 0


class LabelTree:
    """Possible answers to a prompt.

    Node 0 is the last token of the prompt. Nodes 1 to `len(tokens)` are tokens after which some answer continues, parents
    before children. Row r of logits belongs to node r.

    Attributes:
        tokens: token of each node but the root.
        parents: node above each node but the root.
        depths: tokens between the prompt and each node but the root; 0 is right after the prompt.

    >>> tree = LabelTree([(7, 8, 2), (7, 9, 2), (5, 2)])
    >>> tree.tokens, tree.parents, tree.depths
    ([7, 8, 9, 5], [0, 1, 1, 0], [0, 1, 1, 0])
    """

    def __init__(self, answers: Sequence[Sequence[int]]):
        """Build the tree.

        Args:
            answers: tokens of each answer, its end token included; none may be empty.
        """
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._children: dict[tuple[int, int], int] = {}
        self._steps: list[list[tuple[int, int]]] = []
        for answer in answers:
            node, steps = ROOT, []
            for depth, token in enumerate(answer):
                steps.append((node, token))
                if depth + 1 < len(answer):
                    node = self._grow(node, token, depth)
            self._steps.append(steps)

    def _grow(self, node: int, token: int, depth: int) -> int:
        if (node, token) not in self._children:
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(depth)
            self._children[node, token] = len(self.tokens)
        return self._children[node, token]

    def visible(self) -> np.ndarray:
        """Return which node (row) attends to which (column), without the root: itself and those above it; (n, n) bool."""
        mask = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                mask[node] |= mask[parent - 1]
        return mask

    def steps(self) -> tuple[list[list[tuple[int, int]]], list[int]]:
        """Return (node, next token) for every token of every answer, and the number of tokens of each answer."""
        return self._steps, [len(s) for s in self._steps]

    def walk(
        self, choose: Callable[[int], int], ends: Collection[int], max_tokens: int
    ) -> tuple[list[int], int | None]:
        """Generate tokens as long as they stay within the tree.

        Args:
            choose: node -> the token that the model chooses after it.
            ends: tokens that end a response.
            max_tokens: longest response, tokens.

        Returns:
            The tokens, and the node after which the last of them left the tree; None if the response is complete.

        >>> LabelTree([(7, 8, 2), (5, 2)]).walk({0: 7, 1: 8, 2: 2}.get, {2}, 10)
        ([7, 8, 2], None)
        >>> LabelTree([(7, 8, 2), (5, 2)]).walk({0: 7, 1: 6}.get, {2}, 10)
        ([7, 6], 1)
        """
        response: list[int] = []
        node = ROOT
        while True:
            response.append(choose(node))
            if response[-1] in ends or len(response) >= max_tokens:
                return response, None
            if (node, response[-1]) not in self._children:
                return response, node
            node = self._children[node, response[-1]]
