"""Tokenizers of some hundred pieces: byte-level BPE learnt from the sentences the demo's models are asked.

What belongs here: pieces, special tokens and the chat template. What does not: the sentences (`material`, `prompts`).
Special tokens are named as in Janus-Pro and RoBERTa, whose places these tokenizers take.
"""

from collections.abc import Iterable
from typing import Any

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
IMAGE, IMAGE_BEGINS, IMAGE_ENDS = "<image_placeholder>", "<begin_of_image>", "<end_of_image>"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}{{ '<|User|>: ' }}"
    "{%- elif message.role == 'assistant' -%}{{ '<|Assistant|>: ' }}"
    "{%- else -%}{{ message.role | capitalize + ': ' }}{%- endif -%}"
    "{%- set parts = message.content -%}"
    "{%- if parts is string -%}{{ parts | trim }}{%- else -%}"
    "{%- for part in parts -%}"
    "{%- if part.type == 'image' -%}"
    "{{ ('' if loop.first else '\n') + '" + IMAGE + "' + ('' if loop.last else '\n') }}"
    "{%- elif part.type == 'text' -%}"
    "{{ (' ' if not loop.first and parts[loop.index0 - 1].type == 'text' else '') + part.text | trim }}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{%- if not loop.last or add_generation_prompt -%}"
    "{{ '\n\n' if message.role == 'user' else '" + EOS + "' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|Assistant|>:' }}{%- endif -%}"
)
"""Gives what Janus-Pro's own gives: `<|User|>: ...\\n\\n<|Assistant|>: label<end>`, no space after the last colon."""


def _bpe(texts: Iterable[str], special: list[str], pieces: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


def janus_tokenizer(texts: Iterable[str], pieces: int = 900) -> Any:
    """Make a tokenizer with Janus's special tokens; any text can be written with it, that of `texts` shortly.

    Args:
        texts: what it learns its pieces from.
        pieces: most it may have, 256 bytes and special tokens included.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    made = _bpe(texts, [PAD, BOS, EOS, IMAGE, IMAGE_BEGINS, IMAGE_ENDS, "<|User|>", "<|Assistant|>"], pieces)
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, made.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=4096,
        extra_special_tokens={"image_token": IMAGE, "boi_token": IMAGE_BEGINS, "eoi_token": IMAGE_ENDS},
    )


def clap_tokenizer(texts: Iterable[str], pieces: int = 600) -> Any:
    """Make a tokenizer with RoBERTa's special tokens under RoBERTa's numbers: begin 0, padding 1, end 2, unknown 3."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    made = _bpe(texts, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], pieces)
    ends = [("<s>", 0), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=62,
    )
