"""Tokenizers with a few hundred tokens: byte-level BPE, fitted to the texts of the training.

Belongs here: tokens, special tokens and the chat template. Does not belong here: the texts (`material`,
`conversations`). The special tokens have the same names as those of
Janus-Pro and RoBERTa.
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
"""Same output as the template of Janus-Pro: `<|User|>: ...\\n\\n<|Assistant|>: label<end>`, no space after the last colon."""


def _fit_bpe(texts: Iterable[str], special_tokens: list[str], max_tokens: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=max_tokens, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def janus_tokenizer(texts: Iterable[str], max_tokens: int = 900) -> Any:
    """Fit a tokenizer with Janus's special tokens. It encodes any text; texts like `texts` need few tokens.

    Args:
        texts: the texts that it is fitted to.
        max_tokens: maximum size of its vocabulary, including 256 bytes and the special tokens.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = _fit_bpe(
        texts, [PAD, BOS, EOS, IMAGE, IMAGE_BEGINS, IMAGE_ENDS, "<|User|>", "<|Assistant|>"], max_tokens
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(  # transformers has no types here
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=4096,
        extra_special_tokens={"image_token": IMAGE, "boi_token": IMAGE_BEGINS, "eoi_token": IMAGE_ENDS},
    )


def clap_tokenizer(texts: Iterable[str], max_tokens: int = 600) -> Any:
    """Fit a tokenizer with RoBERTa's special tokens and their ids: start 0, padding 1, end 2, unknown 3."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = _fit_bpe(texts, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], max_tokens)
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(  # transformers has no types here
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=62,
    )
