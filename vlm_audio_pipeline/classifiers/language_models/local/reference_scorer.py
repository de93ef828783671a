"""Compute each request alone, with the forward call and `generate` of transformers.

Slow, but correct for every family. The shared computation is checked against it, and models whose cache cannot be cropped
are computed this way.
"""

from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward, append_tokens
from vlm_audio_pipeline.classifiers.language_models.local.prompt_result import PromptResult
from vlm_audio_pipeline.classifiers.language_models.local.sampling import token_chooser
from vlm_audio_pipeline.classifiers.language_models.local.segments import SegmentedPrompt
from vlm_audio_pipeline.classifiers.language_models.messages import Sampling

if TYPE_CHECKING:
    import torch


class ReferenceScorer:
    """Computation of one request at a time, without a cache between requests.

    Args:
        forward: the model.
        conversation: conversion of prompts to tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation

    def compute(self, prompt: SegmentedPrompt) -> PromptResult:
        """Score every label and generate a response, as far as the request wants them."""
        inputs = self.conversation.inputs(prompt.segments)
        scorings = prompt.request.scorings
        scores = [self._score(inputs, a) for a in prompt.answers] if "likelihood" in scorings else []
        response = self._generate(inputs, prompt.request.sampling) if "generation" in scorings else None
        return PromptResult(tuple(scores), response, inputs["input_ids"].shape[1], 0)

    def score(self, prompt: SegmentedPrompt, label: int) -> float:
        """Return the log-probability of one label's answer."""
        return self._score(self.conversation.inputs(prompt.segments), prompt.answers[label])

    def _score(self, inputs: dict[str, "torch.Tensor"], answer: tuple[int, ...]) -> float:
        import torch

        length = inputs["input_ids"].shape[1]
        indices = range(length - 1, length + len(answer) - 1)
        logits = self.forward.logits(append_tokens(inputs, answer), indices, use_cache=False)
        log_probabilities = torch.log_softmax(logits, -1)[range(len(answer)), list(answer)]
        return float(log_probabilities.double().sum())

    def _generate(self, inputs: dict[str, "torch.Tensor"], sampling: Sampling) -> tuple[int, ...]:
        import torch
        from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

        end_tokens = sorted(self.conversation.end_tokens)
        config = GenerationConfig(  # every setting, because the model's own config would fill the gaps
            do_sample=False,
            num_beams=1,
            max_new_tokens=sampling.max_tokens,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            eos_token_id=end_tokens,
            pad_token_id=self.conversation.end_token,
        )
        device_inputs = self.forward.to_device(inputs)
        length = device_inputs["input_ids"].shape[1]
        choose = token_chooser(sampling)

        def keep_chosen(_: Any, scores: torch.Tensor) -> torch.Tensor:
            kept = torch.full_like(scores, float("-inf"))
            kept[0, choose(scores[0].float())] = 0
            return kept

        generate: Any = GenerationMixin.generate  # not the family's own: that of Janus drops the logits processors
        generated = generate(
            self.forward.model,
            **device_inputs,
            attention_mask=torch.ones_like(device_inputs["input_ids"]),
            generation_config=config,
            logits_processor=LogitsProcessorList([keep_chosen]),
        )
        response = tuple(generated[0, length:].tolist())
        self.forward.computed += length + len(response)
        return response
