"""Janus learns to answer the questions the pipeline asks: about one picture, and after examples in earlier turns.

What belongs here: conversations, batches and the loss. What does not: the wording of questions and the layout of examples
(`classifiers.language_models.prompts`), which are those of a study, to the letter.

A third of the batches are single questions, the others conversations in which earlier pictures were answered rightly. The loss
is on answers alone, the end token included. Classes are listed in random orders. Examples are always labelled
truly, and the model could answer without them: that it heeds them is neither trained nor claimed.
"""

import random
from typing import Any

import numpy as np

from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.demo_models.architectures import build_janus
from vlm_audio_pipeline.demo_models.conversations import conversation, corpus, practised
from vlm_audio_pipeline.demo_models.fitting import Say, fit
from vlm_audio_pipeline.demo_models.material import Material, drawing
from vlm_audio_pipeline.demo_models.train_aimv2 import pixels, shifted

SINGLE, MANY = 32, 4
"""Conversations a batch: with one picture, and with up to a dozen."""


def train_janus(material: Material, steps: int, seed: int, say: Say) -> tuple[Any, Any]:
    """Train a new Janus.

    Args:
        material: clips to learn from.
        steps: batches.
        seed: of weights and batches.
        say: told how it goes.

    Returns:
        (JanusForConditionalGeneration, JanusProcessor).
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    r = random.Random(seed)
    model, processor = build_janus(corpus(seed))
    model.model.vqmodel.requires_grad_(False)
    pictures = torch.from_numpy(material.pictures)
    of_class = [np.flatnonzero(material.classes == at).tolist() for at in range(len(ESC10))]

    def loss(step: int) -> torch.Tensor:
        alone = step % 3 == 0
        prompt, examples = (
            practised(r),
            0 if alone else r.choice((3, 6, 10, 10, 12)),
        )  # one of each a batch: of one length
        texts, shown = [], []
        for _ in range(SINGLE if alone else MANY):
            text, classes = conversation(r, processor, prompt, examples)
            texts.append(text)
            rendering = drawing(r)  # a conversation keeps to one
            shown += [shifted(pictures[r.choice(of_class[c]), rendering], r) for c in classes]
        ids, answers = encoded(texts, processor)
        out = model.model(
            input_ids=ids,
            attention_mask=(ids != processor.tokenizer.pad_token_id).long(),
            pixel_values=pixels(torch.stack(shown), processor.image_processor),
            use_cache=False,
        ).last_hidden_state
        counted = answers[:, 1:]
        return F.cross_entropy(model.lm_head(out[:, :-1][counted]), ids[:, 1:][counted])

    fit(model, loss, steps, 1.5e-3, say)
    return model, processor


def encoded(texts: list[str], processor: Any) -> tuple[Any, Any]:
    """Turn conversations into tokens, as the processor does with a place for each picture.

    Args:
        texts: as the chat template gives them, each ending with an answer.
        processor: Janus's.

    Returns:
        ids, (conversations, tokens) int64, padded on the right; and which of them are answers, bool: label and end.
    """
    import torch

    tokenizer = processor.tokenizer
    place = processor.image_start_token + processor.image_token * processor.num_image_tokens + processor.image_end_token
    given = tokenizer(
        [t.replace(processor.image_token, place) for t in texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )
    ids = given["input_ids"]
    speaks, ends = tokenizer.convert_tokens_to_ids("<|Assistant|>"), tokenizer.eos_token_id
    answers = torch.zeros_like(ids, dtype=torch.bool)
    for row, answer in zip(ids.tolist(), answers, strict=True):
        at = -1
        while speaks in row[at + 1 :]:
            begins = row.index(speaks, at + 1) + 2  # behind the name and its colon
            at = row.index(ends, begins) if ends in row[begins:] else len(row)
            answer[begins : at + 1] = True
    return ids, answers
