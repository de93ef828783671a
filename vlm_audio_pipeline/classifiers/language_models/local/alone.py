"""Each request by itself, with nothing but what every model of transformers can do.

What belongs here: a whole forward call for each label, and `generate`. Slow, and right for every family: what is shared is
held against it, and models with a memory that cannot be cut back are asked this way. What does not: sharing.
"""

from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.answer import Answer
from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation, Prompt
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward, followed_by
from vlm_audio_pipeline.classifiers.language_models.local.sampling import chooser
from vlm_audio_pipeline.classifiers.language_models.messages import Sampling

if TYPE_CHECKING:
    import torch


class Alone:
    """A model that keeps nothing between requests.

    Args:
        forward: the model.
        conversation: its tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation

    def answer(self, prompt: Prompt) -> Answer:
        """Score every label where that is wanted, and generate where that is."""
        inputs = self.conversation.inputs(prompt.segments)
        wants = prompt.request.wants
        scores = [self._score(inputs, a) for a in prompt.answers] if "likelihood" in wants else []
        said = self._generate(inputs, prompt.request.sampling) if "generation" in wants else None
        return Answer(tuple(scores), said, inputs["input_ids"].shape[1], 0)

    def score(self, prompt: Prompt, label: int) -> float:
        """Give the log-probability of one label's answer."""
        return self._score(self.conversation.inputs(prompt.segments), prompt.answers[label])

    def _score(self, inputs: dict[str, "torch.Tensor"], answer: tuple[int, ...]) -> float:
        import torch

        length = inputs["input_ids"].shape[1]
        rows = range(length - 1, length + len(answer) - 1)
        logits = self.forward.logits(followed_by(inputs, answer), rows, use_cache=False)
        found = torch.log_softmax(logits, -1)[range(len(answer)), list(answer)]
        return float(found.double().sum())

    def _generate(self, inputs: dict[str, "torch.Tensor"], sampling: Sampling) -> tuple[int, ...]:
        import torch
        from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

        ends = sorted(self.conversation.ends)
        config = GenerationConfig(  # all of it, or the model's own settings would fill the gaps
            do_sample=False,
            num_beams=1,
            max_new_tokens=sampling.max_tokens,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=ends,
            pad_token_id=self.conversation.end,
        )
        moved = self.forward.moved(inputs)
        length = moved["input_ids"].shape[1]
        choose = chooser(sampling)

        def only(_: Any, scores: torch.Tensor) -> torch.Tensor:
            kept = torch.full_like(scores, float("-inf"))
            kept[0, choose(scores[0].float())] = 0
            return kept

        generate: Any = GenerationMixin.generate  # a family's own, as that of Janus, may drop the processors
        made = generate(
            self.forward.model,
            **moved,
            attention_mask=torch.ones_like(moved["input_ids"]),
            generation_config=config,
            logits_processor=LogitsProcessorList([only]),
        )
        said = tuple(made[0, length:].tolist())
        self.forward.computed += length + len(said)
        return said
