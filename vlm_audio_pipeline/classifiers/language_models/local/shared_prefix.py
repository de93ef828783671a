"""Many requests in one row: what they have in common is computed once, and their labels as a tree.

What belongs here: the cache of the common beginning, packing what comes after it, masks and positions. What does not: which
requests go together (`backend`), and making sure that the result is right (also there).

A prompt is a path in a tree of tokens: the common beginning, then each request's own part, then its labels. All that
comes after the cached beginning is one row of tokens in which a mask lets each token see what is above it, and nothing
else: no copy of the cache for each request, no padding, and one pass for everything. (RadixAttention,
https://arxiv.org/abs/2312.07104, shares beginnings; SpecInfer, https://arxiv.org/abs/2305.09781, masks trees.)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.answer import Answer
from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation, Prompt, Segment
from vlm_audio_pipeline.classifiers.language_models.local.features import Features
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward, followed_by
from vlm_audio_pipeline.classifiers.language_models.local.label_tree import LabelTree
from vlm_audio_pipeline.classifiers.language_models.local.packing import Packing, packed
from vlm_audio_pipeline.classifiers.language_models.local.sampling import chooser

if TYPE_CHECKING:
    import torch


def common(one: Sequence[Segment], other: Sequence[Segment]) -> int:
    """Count the segments with which both begin."""
    n = 0
    while n < min(len(one), len(other)) and one[n].key == other[n].key:
        n += 1
    return n


def shareable(config: Any) -> bool:
    """Say whether every layer of a model keeps the keys and values of every token, and so can be cut back."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


class SharedPrefix:
    """A model with one prompt's beginning in its cache.

    Args:
        forward: the model.
        conversation: its tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation
        self.features = Features(forward, conversation)
        self.forget()

    def forget(self) -> None:
        """Empty the cache, and what is held of pictures."""
        self.features.forget()
        self._cache = _buffers()
        self.known: tuple[Segment, ...] = ()

    def answer(self, prompts: Sequence[Prompt], shared: int) -> list[Answer]:
        """Answer prompts whose first `shared` segments are the same; less than any of them has.

        Whatever was cached and is not among those segments is forgotten; what is missing of them is computed.
        """
        cached = self._begin(prompts[0].segments[:shared])
        return self._finish(prompts, shared, cached)

    def _begin(self, segments: tuple[Segment, ...]) -> int:
        """Make the cache hold these segments; give how many tokens it held already."""
        kept = common(self.known, segments)
        cached = self._length(segments[:kept])
        self._cut(cached)
        self.known = segments[:kept]
        fresh = segments[kept:]
        if self._length(fresh):
            inputs, seen = self.features.row(fresh)
            positions = self._positions(fresh, self._next(segments[:kept]))
            self.forward.states(
                inputs,
                **seen,
                position_ids=_as_the_model_has_them(positions).to(self.forward.device),
                past_key_values=self._cache,
                use_cache=True,
            )
        self.known = segments
        return cached

    def _finish(self, prompts: Sequence[Prompt], shared: int, cached: int) -> list[Answer]:
        """Compute the rest of each prompt and its labels in one row; generate from there."""
        import torch

        prefix, begin = self._length(self.known), self._next(self.known)
        rests = [p.segments[shared:] for p in prompts]
        trees = [LabelTree(p.answers) for p in prompts]
        lengths = [self._length(rest) for rest in rests]
        row = packed(lengths, trees)
        sees = torch.from_numpy(row.sees)

        inputs, seen = self.features.row([segment for rest in rests for segment in rest])
        inputs = followed_by(inputs, [token for tree in trees for token in tree.tokens])
        afters = [self._next(rest, begin) for rest in rests]
        places = [self._positions(rest, begin) for rest in rests]
        for tree, after in zip(trees, afters, strict=True):
            places.append((torch.tensor(tree.depths, dtype=torch.long) + after).expand(len(places[0]), -1))

        logits = self._run(inputs, torch.cat(places, 1), sees, [n for nodes in row.nodes for n in nodes], **seen)
        parts = logits.split([len(nodes) for nodes in row.nodes])
        scores = [_scores(tree, part) for tree, part in zip(trees, parts, strict=True)]
        said = self._generate(prompts, trees, parts, row, afters)
        self._cut(prefix)
        return [Answer(scores[i], said[i], prefix + lengths[i], prefix if i else cached) for i in range(len(prompts))]

    def _generate(
        self,
        prompts: Sequence[Prompt],
        trees: Sequence[LabelTree],
        logits: Sequence["torch.Tensor"],
        row: Packing,
        afters: Sequence[int],
    ) -> list[tuple[int, ...] | None]:
        """Let each prompt's answer walk along its labels; where one leaves them, go on token by token, all together."""
        import torch

        ends = self.conversation.ends
        said: dict[int, list[int]] = {}
        choose = [chooser(p.request.sampling) for p in prompts]
        going: list[tuple[int, torch.Tensor]] = []  # a prompt, and what the last token sees that the cache holds of it
        for i, prompt in enumerate(prompts):
            if "generation" in prompt.request.wants:
                pick = partial(_pick, choose[i], logits[i])
                said[i], left = trees[i].walk(pick, ends, prompt.request.sampling.max_tokens)
                if left is not None:
                    going.append((i, torch.from_numpy(row.sees[row.nodes[i][left]])))
        total = len(row.sees)
        while going:
            sees = torch.zeros(len(going), total + len(going), dtype=torch.bool)
            for k, (_, before) in enumerate(going):
                sees[k, : len(before)] = before
                sees[k, total + k] = True
            last = torch.tensor([[said[i][-1] for i, _ in going]])
            places = torch.tensor([[afters[i] + len(said[i]) - 1 for i, _ in going]])
            after = self._run({"input_ids": last}, places, sees, range(len(going)))
            total += len(going)
            for k, (i, _) in enumerate(going):
                said[i].append(choose[i](after[k]))
            going = [
                (i, sees[k])
                for k, (i, _) in enumerate(going)
                if said[i][-1] not in ends and len(said[i]) < prompts[i].request.sampling.max_tokens
            ]
        return [tuple(said[i]) if i in said else None for i in range(len(prompts))]

    def _run(
        self,
        inputs: dict[str, "torch.Tensor"],
        positions: "torch.Tensor",
        sees: "torch.Tensor",
        rows: Sequence[int],
        **seen: Any,
    ) -> "torch.Tensor":
        """Compute tokens after the cached beginning.

        Args:
            inputs: the row.
            positions: (1, n) or (3, n).
            sees: (n, m) bool: which of the m tokens after the beginning each of the n new ones sees; all see the beginning.
            rows: whose logits are wanted.
            **seen: pictures' features.
        """
        import torch

        dtype, device = self.forward.dtype, self.forward.device
        prefix = self._length(self.known)
        # additive: under eager attention a boolean mask would be added as 0 and 1, silently
        mask = torch.zeros(1, 1, sees.shape[0], prefix + sees.shape[1], dtype=dtype, device=device)
        mask[0, 0, :, prefix:].masked_fill_(~sees.to(device), torch.finfo(dtype).min)
        return self.forward.logits(
            inputs,
            rows,
            **seen,
            position_ids=_as_the_model_has_them(positions).to(device),
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
        )

    def _length(self, segments: Sequence[Segment]) -> int:
        return sum(len(self.conversation.tokens(s).ids) for s in segments)

    def _next(self, segments: Sequence[Segment], begin: int = 0) -> int:
        return begin + sum(self.conversation.tokens(s).next for s in segments)

    def _positions(self, segments: Sequence[Segment], begin: int) -> "torch.Tensor":
        """Give positions of consecutive segments, (1, n), or (3, n) where pictures have rows and columns."""
        import torch

        parts = []
        for segment in segments:
            known = self.conversation.tokens(segment)
            parts.append(known.positions + begin)
            begin += known.next
        return torch.cat(parts, 1)

    def _cut(self, length: int) -> None:
        if extra := self._cache.get_seq_length() - length:
            self._cache.crop(-extra)
        if self._cache.get_seq_length() != length:
            raise RuntimeError(f"the cache must hold {length} tokens, got {self._cache.get_seq_length()}")


def _as_the_model_has_them(positions: "torch.Tensor") -> "torch.Tensor":
    """Give positions of one row: (1, n) as they are, (3, n) as (3, 1, n)."""
    return positions if len(positions) == 1 else positions[:, None]


def _pick(choose: Callable[["torch.Tensor"], int], logits: "torch.Tensor", node: int) -> int:
    return choose(logits[node])


def _scores(tree: LabelTree, logits: "torch.Tensor") -> tuple[float, ...]:
    """Give the log-probability of each of the tree's answers from the logits of its nodes, (nodes, vocabulary)."""
    import torch

    steps, lengths = tree.steps()
    if not steps:
        return ()
    nodes, tokens = zip(*(step for answer in steps for step in answer), strict=True)
    found = torch.log_softmax(logits, -1)[list(nodes), list(tokens)].double().cpu()
    return tuple(float(part.sum()) for part in found.split(lengths))


def _buffers() -> Any:
    """Give an empty cache that is written in place: a pass after the beginning copies nothing of the beginning."""
    from transformers.cache_utils import Cache, DynamicLayer

    class Buffer(DynamicLayer):
        used = 0

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            end = self.used + key_states.shape[-2]
            self.keys = self._with(self.keys, key_states, end)
            self.values = self._with(self.values, value_states, end)
            self.used = end
            return self.keys[:, :, :end], self.values[:, :, :end]

        def _with(self, old: Any, new: Any, end: int) -> Any:
            if old.ndim != new.ndim or old.shape[-2] < end:
                room = new.new_empty(*new.shape[:-2], end + SPARE, new.shape[-1])
                if self.used:
                    room[:, :, : self.used] = old[:, :, : self.used]
                old = room
            old[:, :, self.used : end] = new
            return old

        def get_seq_length(self) -> int:
            return self.used

        def crop(self, tokens_to_remove: int) -> None:
            self.used -= abs(tokens_to_remove)

    return Cache(layer_class_to_replicate=Buffer)


SPARE = 1024
"""Tokens for which room is made beyond what is needed now."""
