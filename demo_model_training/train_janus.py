"""Train Janus to respond to the questions of the pipeline: about one image, and after examples in earlier turns.

Belongs here: batches and the loss. Does not belong here: the wording of the questions and the layout of the examples
(`classifiers.language_models.prompts`), which are exactly those of a study.

One third of the batches are single questions. The others are conversations in which earlier images have the correct
response. The loss covers only the responses, including the end token. Classes are listed in random order. Examples
always have correct labels, and the model can respond without them: it is not trained to use them.
"""

import random
from typing import Any

import numpy as np

from demo_model_training.architectures import build_janus
from demo_model_training.conversations import choose_prompt, make_conversation, tokenizer_corpus
from demo_model_training.fitting import Log, fit
from demo_model_training.material import Material, choose_rendering
from demo_model_training.train_aimv2 import normalise, shift_in_time
from vlm_audio_pipeline.datasets.esc_classes import ESC10

SINGLE, WITH_EXAMPLES = 32, 4
"""Conversations per batch: with one image, and with up to twelve examples."""


def train_janus(material: Material, steps: int, seed: int, log: Log) -> tuple[Any, Any]:
    """Train a new Janus.

    Args:
        material: training clips.
        steps: number of batches.
        seed: of weights and batches.
        log: called with the progress.

    Returns:
        (JanusForConditionalGeneration, JanusProcessor).
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    r = random.Random(seed)
    model, processor = build_janus(tokenizer_corpus(seed))
    model.model.vqmodel.requires_grad_(False)
    images = torch.from_numpy(material.images)
    clips_of_class = [np.flatnonzero(material.classes == c).tolist() for c in range(len(ESC10))]

    def loss(step: int) -> torch.Tensor:
        is_single = step % 3 == 0
        # One prompt and one number of examples per batch, so that its conversations have similar lengths.
        prompt, n_examples = choose_prompt(r), 0 if is_single else r.choice((3, 6, 10, 10, 12))
        texts, batch = [], []
        for _ in range(SINGLE if is_single else WITH_EXAMPLES):
            text, classes = make_conversation(r, processor, prompt, n_examples)
            texts.append(text)
            rendering = choose_rendering(r)  # the same for all images of a conversation
            batch += [shift_in_time(images[r.choice(clips_of_class[c]), rendering], r) for c in classes]
        ids, is_response = tokenise(texts, processor)
        states = model.model(
            input_ids=ids,
            attention_mask=(ids != processor.tokenizer.pad_token_id).long(),
            pixel_values=normalise(torch.stack(batch), processor.image_processor),
            use_cache=False,
        ).last_hidden_state
        targets = is_response[:, 1:]
        return F.cross_entropy(model.lm_head(states[:, :-1][targets]), ids[:, 1:][targets])

    fit(model, loss, steps, 1.5e-3, log)
    return model, processor


def tokenise(texts: list[str], processor: Any) -> tuple[Any, Any]:
    """Tokenise conversations as the processor does, with the tokens of each image.

    Args:
        texts: from the chat template, each ending with a response.
        processor: JanusProcessor.

    Returns:
        ids, (conversations, tokens) int64, padded on the right; and a bool tensor of the same shape that is True for
        the tokens of responses: label and end token.
    """
    import torch

    tokenizer = processor.tokenizer
    image = processor.image_start_token + processor.image_token * processor.num_image_tokens + processor.image_end_token
    ids = tokenizer(
        [t.replace(processor.image_token, image) for t in texts],
        padding=True,
        padding_side="right",
        return_tensors="pt",
    )["input_ids"]
    assistant, end_token = tokenizer.convert_tokens_to_ids("<|Assistant|>"), tokenizer.eos_token_id
    is_response = torch.zeros_like(ids, dtype=torch.bool)
    for row, mask in zip(ids.tolist(), is_response, strict=True):
        end = -1
        while assistant in row[end + 1 :]:
            start = row.index(assistant, end + 1) + 2  # after the role and its colon
            end = row.index(end_token, start) if end_token in row[start:] else len(row)
            mask[start : end + 1] = True
    return ids, is_response
