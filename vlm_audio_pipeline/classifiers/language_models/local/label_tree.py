"""The labels' answers as one tree of tokens, so that a single pass gives the probability of each.

What belongs here: the tree, its scores and walking along it. What does not: running a model. Nothing here imports torch.

Answers that begin alike share their first tokens. A token is computed once per place in the tree and sees only the prompt
and the tokens above it (tree attention, as in SpecInfer, https://arxiv.org/abs/2305.09781); what ends an answer is only
ever predicted, so leaves need no computation.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np

ROOT = 0


class LabelTree:
    """Answers that may come next after a prompt.

    Node 0 is the prompt's last token; nodes 1 to `len(tokens)` are tokens after which some answer goes on, parents before
    children. Where a model has computed logits for each node, row r of them belongs to node r.

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
        self._below: dict[tuple[int, int], int] = {}
        self._steps: list[list[tuple[int, int]]] = []
        for answer in answers:
            node, steps = ROOT, []
            for depth, token in enumerate(answer):
                steps.append((node, token))
                if depth + 1 < len(answer):
                    node = self._grow(node, token, depth)
            self._steps.append(steps)

    def _grow(self, node: int, token: int, depth: int) -> int:
        if (node, token) not in self._below:
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(depth)
            self._below[node, token] = len(self.tokens)
        return self._below[node, token]

    def visible(self) -> np.ndarray:
        """Give which node (row) sees which (column), the root left out: itself and those above it; (n, n) bool."""
        seen = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                seen[node] |= seen[parent - 1]
        return seen

    def steps(self) -> tuple[list[list[tuple[int, int]]], list[int]]:
        """Give (node, next token) of every token of every answer, and the number of tokens of each answer."""
        return self._steps, [len(s) for s in self._steps]

    def walk(self, choose: Callable[[int], int], ends: Collection[int], most: int) -> tuple[list[int], int | None]:
        """Say what a model says, as long as that stays within the tree.

        Args:
            choose: node -> the token the model says after it.
            ends: tokens that end an answer.
            most: longest answer, tokens.

        Returns:
            The tokens said, and the node after which the last of them left the tree; None where the answer is complete.

        >>> LabelTree([(7, 8, 2), (5, 2)]).walk({0: 7, 1: 8, 2: 2}.get, {2}, 10)
        ([7, 8, 2], None)
        >>> LabelTree([(7, 8, 2), (5, 2)]).walk({0: 7, 1: 6}.get, {2}, 10)
        ([7, 6], 1)
        """
        said: list[int] = []
        node = ROOT
        while True:
            said.append(choose(node))
            if said[-1] in ends or len(said) >= most:
                return said, None
            if (node, said[-1]) not in self._below:
                return said, node
            node = self._below[node, said[-1]]
