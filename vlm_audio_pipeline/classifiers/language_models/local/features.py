"""What the model's eye makes of each picture, computed once however often the picture is shown.

What belongs here: pictures' features and the rows of tokens they go into. What does not: sounds, and the families that take
no features: their processor prepares each row as a whole.

Where examples are chosen for each query, the same few pictures come again after other beginnings: the language model has
to read them anew, the eye has not, and nothing is decoded and resized again.
"""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation, Segment
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward

if TYPE_CHECKING:
    import torch

TOGETHER = 8
"""Pictures looked at in one pass, at most."""
MOST = 256
"""Pictures whose features are held: of Janus-Pro-1B in bfloat16, 2.4 MB each."""


class Features:
    """Prepares consecutive segments for the model.

    Args:
        forward: the model.
        conversation: its tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation
        encode = getattr(forward.model.base_model, "get_image_features", None)
        takes = "mm_encoder_outputs" in inspect.signature(forward.model.forward).parameters
        self._encode = encode if takes and conversation.input == "picture" else None
        self.forget()

    def forget(self) -> None:
        """Give back memory."""
        self._held: OrderedDict[str, Any] = OrderedDict()

    def row(self, segments: Sequence[Segment]) -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
        """Give the tokens of consecutive segments as one row, and what goes with them into the forward call."""
        import torch

        found = self._of([s for s in segments if s.media is not None]) if self._encode else []
        if self._encode is None:  # also where a picture turned out to have more than one kind of features
            return self.conversation.together(segments), {}
        ids = [token for s in segments for token in self.conversation.tokens(s).ids]
        inputs = {"input_ids": torch.tensor([ids], dtype=torch.long)}
        if not found:
            return inputs, {}
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        tensors = isinstance(found[0], torch.Tensor)
        pooled: Any = torch.cat(found) if tensors else [part for parts in found for part in parts]
        return inputs, {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)}}

    def _of(self, pictures: Sequence[Segment]) -> list[Any]:
        """Give each picture's features, a tensor or a sequence of them, as the family has it."""
        fresh = {_key(s): s for s in pictures if _key(s) not in self._held}
        seen = {key: self._held[key] for key in map(_key, pictures) if key in self._held}
        for _, alike in groupby(fresh.values(), key=self.conversation.size):
            while some := list(islice(alike, TOGETHER)):
                seen |= zip(map(_key, some), self._looked_at(some), strict=False)
        if self._encode is None:
            return []
        for key in map(_key, pictures):
            self._held[key] = seen[key]
            self._held.move_to_end(key)
        while len(self._held) > MOST:
            self._held.popitem(last=False)
        return [seen[key] for key in map(_key, pictures)]

    def _looked_at(self, pictures: Sequence[Segment]) -> list[Any]:
        """Compute features of pictures of one size, which have as many of them each."""
        if self._encode is None:
            return []
        wanted = inspect.signature(self._encode).parameters
        inputs = self.forward.moved(self.conversation.inputs(pictures))
        out = self._encode(**{k: v for k, v in inputs.items() if k in wanted}, return_dict=True)
        if getattr(out, "deepstack_features", None) is not None:
            self._encode = None
            return []
        found = out.pooler_output
        each, rest = divmod(len(found), len(pictures))
        if rest:
            raise ValueError(f"{len(pictures)} pictures of one size must have as many features each, got {len(found)}")
        return [found[i * each : (i + 1) * each] for i in range(len(pictures))]


def _key(segment: Segment) -> str:
    return segment.media.sha256 if segment.media else ""
