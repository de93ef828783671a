"""Compute several requests in one row of tokens: their shared prefix is computed once, and the labels of each request form a tree.

Belongs here: the cached prefix, masks and positions. Does not belong here: which requests form a row and the check of the
result (`backend`).

A prompt is a path in a tree of tokens: the shared prefix, the rest of the request, its labels. Everything after the cached
prefix is one packed row of tokens, with a mask that lets each token attend only to its ancestors in the tree of tokens. So, after
the prefix, all labels of all prompts need one pass, no copy of the cache per request and no padding. Generated tokens outside the
label trees follow one by one. (RadixAttention, https://arxiv.org/abs/2312.07104, shares prefixes; SpecInfer,
https://arxiv.org/abs/2305.09781, masks trees.)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation
from vlm_audio_pipeline.classifiers.language_models.local.features import ImageFeatures
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward, append_tokens
from vlm_audio_pipeline.classifiers.language_models.local.kv_cache import new_cache
from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree
from vlm_audio_pipeline.classifiers.language_models.local.packing import PackedRow, pack
from vlm_audio_pipeline.classifiers.language_models.local.prompt_pieces import PromptPiece, PromptPieces, common_length
from vlm_audio_pipeline.classifiers.language_models.local.prompt_result import PromptResult
from vlm_audio_pipeline.classifiers.language_models.local.sampling import token_chooser

if TYPE_CHECKING:
    import torch


class SharedPrefix:
    """Computes prompts with a cache that contains the shared prefix of the last prompts.

    Args:
        forward: the model.
        conversation: conversion of prompts to tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation
        self.image_features = ImageFeatures(forward, conversation)
        self.clear()

    def clear(self) -> None:
        """Empty the cache and the image features."""
        self.image_features.clear()
        self._chunk_prefix: tuple[PromptPiece, ...] = ()
        self._empty_cache()

    def _empty_cache(self) -> None:
        self._cache = new_cache()
        self.cached_pieces: tuple[PromptPiece, ...] = ()

    def begin_chunk(self, prefix: tuple[PromptPiece, ...]) -> None:
        """Set the cache to a state that depends only on the chunk, so that its results do not depend on earlier requests.

        The last digits of a result depend on how the prefix was computed: in one pass or in several. If the previous chunk had
        the same prefix and the cache still has it, it is kept; otherwise the cache is emptied.

        Args:
            prefix: the pieces that all prompts of the chunk share.
        """
        if prefix != self._chunk_prefix or self.cached_pieces[: len(prefix)] != prefix:
            self._empty_cache()
        else:
            self._crop_cache(self._length(prefix))
            self.cached_pieces = prefix
        self._chunk_prefix = prefix

    def compute(self, prompts: Sequence[PromptPieces], shared: int) -> list[PromptResult]:
        """Compute prompts whose first `shared` pieces are equal. Every prompt has more pieces than these.

        Shared pieces that are already in the cache are reused; missing pieces are computed; all other tokens are dropped.
        """
        cached = self._fill_prefix(prompts[0].pieces[:shared])
        return self._compute_rest(prompts, shared, cached)

    def _fill_prefix(self, pieces: tuple[PromptPiece, ...]) -> int:
        """Fill the cache with these pieces; return how many of their tokens were already in it."""
        cached = self._length(pieces[: common_length(self.cached_pieces, pieces)])
        chunk_prefix = pieces[: common_length(self._chunk_prefix, pieces)]
        if len(chunk_prefix) > len(self.cached_pieces):
            self._extend_cache(chunk_prefix)  # in a pass of its own, as if the previous chunk had computed it
        self._extend_cache(pieces)
        return cached

    def _extend_cache(self, pieces: tuple[PromptPiece, ...]) -> None:
        """Set the cache to these pieces; only those that are not in the cache yet are computed."""
        common = common_length(self.cached_pieces, pieces)
        self._crop_cache(self._length(pieces[:common]))
        self.cached_pieces = pieces[:common]
        missing = pieces[common:]
        if self._length(missing):
            inputs, features = self.image_features.prepare(missing)
            positions = self._positions(missing, self._next_position(pieces[:common]))
            self.forward.fill_cache(
                inputs,
                **features,
                position_ids=_model_positions(positions).to(self.forward.device),
                past_key_values=self._cache,
                use_cache=True,
            )
        self.cached_pieces = pieces

    def _compute_rest(self, prompts: Sequence[PromptPieces], shared: int, cached: int) -> list[PromptResult]:
        """Compute the rest of each prompt and its labels in one packed row, then generate."""
        import torch

        prefix, begin = self._length(self.cached_pieces), self._next_position(self.cached_pieces)
        rests = [p.pieces[shared:] for p in prompts]
        trees = [LabelTree(p.label_sequences) for p in prompts]
        lengths = [self._length(rest) for rest in rests]
        row = pack(lengths, trees)

        inputs, features = self.image_features.prepare([piece for rest in rests for piece in rest])
        inputs = append_tokens(inputs, [token for tree in trees for token in tree.tokens])
        next_positions = [self._next_position(rest, begin) for rest in rests]
        positions = [self._positions(rest, begin) for rest in rests]
        for tree, after in zip(trees, next_positions, strict=True):
            positions.append((torch.tensor(tree.depths, dtype=torch.long) + after).expand(len(positions[0]), -1))

        visible, all_nodes = torch.from_numpy(row.mask), [node for nodes in row.nodes for node in nodes]
        all_logits = self._run(inputs, torch.cat(positions, 1), visible, all_nodes, **features)
        logits_by_prompt = torch.split(all_logits, [len(nodes) for nodes in row.nodes])
        scores = [_scores(tree, logits) for tree, logits in zip(trees, logits_by_prompt, strict=True)]
        responses = self._generate(prompts, trees, logits_by_prompt, row, next_positions)
        self._crop_cache(prefix)
        return [
            PromptResult(scores[i], responses[i], prefix + lengths[i], prefix if i else cached)
            for i in range(len(prompts))
        ]

    def _generate(
        self,
        prompts: Sequence[PromptPieces],
        trees: Sequence[LabelTree],
        logits: Sequence["torch.Tensor"],
        row: PackedRow,
        next_positions: Sequence[int],
    ) -> list[tuple[int, ...] | None]:
        """Generate a response for each prompt that requests one.

        As long as a response stays in its label tree, its logits are already computed. Responses that leave the label tree
        continue token by token; each pass computes the next token of all of them in one row.
        """
        import torch

        end_tokens = self.conversation.end_tokens
        responses: dict[int, list[int]] = {}
        choosers = [token_chooser(p.request.sampling) for p in prompts]
        running: list[tuple[int, torch.Tensor]] = []  # index of a prompt, and the tokens that its last token attends to
        for i, prompt in enumerate(prompts):
            if "generation" in prompt.request.scorings:
                choose = partial(_choose_after_node, choosers[i], logits[i])
                responses[i], last_node = trees[i].walk(choose, end_tokens, prompt.request.sampling.max_tokens)
                if last_node is not None:
                    running.append((i, torch.from_numpy(row.mask[row.nodes[i][last_node]])))
        total = len(row.mask)
        while running:
            visible = torch.zeros(len(running), total + len(running), dtype=torch.bool)
            for k, (_, before) in enumerate(running):
                visible[k, : len(before)] = before
                visible[k, total + k] = True
            last = torch.tensor([[responses[i][-1] for i, _ in running]])
            positions = torch.tensor([[next_positions[i] + len(responses[i]) - 1 for i, _ in running]])
            next_logits = self._run({"input_ids": last}, positions, visible, range(len(running)))
            total += len(running)
            for k, (i, _) in enumerate(running):
                responses[i].append(choosers[i](next_logits[k]))
            running = [
                (i, visible[k])
                for k, (i, _) in enumerate(running)
                if responses[i][-1] not in end_tokens and len(responses[i]) < prompts[i].request.sampling.max_tokens
            ]
        return [tuple(responses[i]) if i in responses else None for i in range(len(prompts))]

    def _run(
        self,
        inputs: dict[str, "torch.Tensor"],
        positions: "torch.Tensor",
        visible: "torch.Tensor",
        nodes: Sequence[int],
        **features: Any,
    ) -> "torch.Tensor":
        """Compute tokens after the cached prefix.

        Args:
            inputs: the row of tokens.
            positions: (1, n) or (3, n).
            visible: (n, m) bool: which of the m tokens after the prefix each of the n new tokens attends to; all n tokens
                attend to the prefix.
            nodes: indices of the tokens whose logits are returned.
            **features: image features.
        """
        import torch

        dtype, device = self.forward.dtype, self.forward.device
        prefix = self._length(self.cached_pieces)
        # Additive mask: eager attention would silently add a boolean mask as 0 and 1.
        mask = torch.zeros(1, 1, visible.shape[0], prefix + visible.shape[1], dtype=dtype, device=device)
        mask[0, 0, :, prefix:].masked_fill_(~visible.to(device), torch.finfo(dtype).min)
        return self.forward.logits(
            inputs,
            nodes,
            **features,
            position_ids=_model_positions(positions).to(device),
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
        )

    def _length(self, pieces: Sequence[PromptPiece]) -> int:
        return sum(len(self.conversation.tokens(s).ids) for s in pieces)

    def _next_position(self, pieces: Sequence[PromptPiece], begin: int = 0) -> int:
        return begin + sum(self.conversation.tokens(s).next_position for s in pieces)

    def _positions(self, pieces: Sequence[PromptPiece], begin: int) -> "torch.Tensor":
        """Return positions of consecutive pieces: (1, n), or (3, n) for models with time, row and column positions."""
        import torch

        positions = []
        for piece in pieces:
            tokens = self.conversation.tokens(piece)
            positions.append(tokens.positions + begin)
            begin += tokens.next_position
        return torch.cat(positions, 1)

    def _crop_cache(self, length: int) -> None:
        if extra := self._cache.get_seq_length() - length:
            self._cache.crop(-extra)
        if self._cache.get_seq_length() != length:
            raise RuntimeError(
                f"the cache must hold {length} tokens after cropping, got {self._cache.get_seq_length()}"
            )


def _model_positions(positions: "torch.Tensor") -> "torch.Tensor":
    """Add the batch axis that the model expects: (1, n) stays, (3, n) becomes (3, 1, n)."""
    return positions if len(positions) == 1 else positions[:, None]


def _choose_after_node(choose: Callable[["torch.Tensor"], int], logits: "torch.Tensor", node: int) -> int:
    return choose(logits[node])


def _scores(tree: LabelTree, logits: "torch.Tensor") -> tuple[float, ...]:
    """Return the log-probability of each label of a label tree from the logits of its nodes, (nodes, vocabulary)."""
    import torch

    paths, lengths = tree.label_paths()
    if not paths:
        return ()
    nodes, tokens = zip(*(pair for path in paths for pair in path), strict=True)
    log_probabilities = torch.log_softmax(logits, -1)[list(nodes), list(tokens)].double().cpu()
    return tuple(float(token_values.sum()) for token_values in torch.split(log_probabilities, lengths))
