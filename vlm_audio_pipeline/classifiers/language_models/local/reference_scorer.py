"""Compute each request alone, with the forward call and `generate` of transformers.

This is slow, but correct for every model family. The shared computation is checked against it. Models whose cache cannot be
cropped are computed this way.
"""

from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.classifiers.language_models.local.conversation import Conversation
from vlm_audio_pipeline.classifiers.language_models.local.forward import Forward, append_tokens
from vlm_audio_pipeline.classifiers.language_models.local.prompt_pieces import PromptPieces
from vlm_audio_pipeline.classifiers.language_models.local.prompt_result import PromptResult
from vlm_audio_pipeline.classifiers.language_models.local.sampling import token_chooser
from vlm_audio_pipeline.classifiers.language_models.messages import Sampling

if TYPE_CHECKING:
    import torch


class ReferenceScorer:
    """Computes one request at a time, without a cache between requests.

    Args:
        forward: the model.
        conversation: conversion of prompts to tokens.
    """

    def __init__(self, forward: Forward, conversation: Conversation):
        self.forward = forward
        self.conversation = conversation

    def compute(self, prompt: PromptPieces) -> PromptResult:
        """Compute the scorings of a request: the log-probability of every label, the generated response, or both."""
        inputs = self.conversation.inputs(prompt.pieces)
        scorings = prompt.request.scorings
        scores = (
            [self._score(inputs, sequence) for sequence in prompt.label_sequences] if "likelihood" in scorings else []
        )
        response = self._generate(inputs, prompt.request.sampling) if "generation" in scorings else None
        return PromptResult(tuple(scores), response, inputs["input_ids"].shape[1], 0)

    def score(self, prompt: PromptPieces, label: int) -> float:
        """Return the log-probability of one label."""
        return self._score(self.conversation.inputs(prompt.pieces), prompt.label_sequences[label])

    def _score(self, inputs: dict[str, "torch.Tensor"], sequence: tuple[int, ...]) -> float:
        import torch

        length = inputs["input_ids"].shape[1]
        indices = range(length - 1, length + len(sequence) - 1)
        logits = self.forward.logits(append_tokens(inputs, sequence), indices, use_cache=False)
        log_probabilities = torch.log_softmax(logits, -1)[range(len(sequence)), list(sequence)]
        return float(log_probabilities.double().sum())

    def _generate(self, inputs: dict[str, "torch.Tensor"], sampling: Sampling) -> tuple[int, ...]:
        import torch
        from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

        end_tokens = sorted(self.conversation.end_tokens)
        # All options are set, because the model's own config would set the missing ones.
        config = GenerationConfig(  # transformers has no types here
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

        def mask_other_tokens(_: Any, scores: torch.Tensor) -> torch.Tensor:
            masked = torch.full_like(scores, float("-inf"))
            masked[0, choose(scores[0].float())] = 0
            return masked

        generate: Any = GenerationMixin.generate  # not the family's own: that of Janus drops the logits processors
        generated = generate(
            self.forward.model,
            **device_inputs,
            attention_mask=torch.ones_like(device_inputs["input_ids"]),
            generation_config=config,
            logits_processor=LogitsProcessorList([mask_other_tokens]),
        )
        response = tuple(generated[0, length:].tolist())
        self.forward.computed += length + len(response)
        return response
