"""Tiny language models for images or audio, in the layout of the hub's cache, under the models' real names.

Each has the real architecture with small sizes, the special tokens of its family and the chat template of its real repository.
The weights are random, except for one Janus that is trained to classify the colours of images.
"""

import atexit
import functools
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, Request, Sampling
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline_tests.encoders.checkpoints import publish

JANUS = "deepseek-community/Janus-Pro-1B"
QWEN2_VL = "Qwen/Qwen2-VL-2B-Instruct"
LLAVA = "llava-hf/llava-1.5-7b-hf"
QWEN2_AUDIO = "Qwen/Qwen2-Audio-7B-Instruct"
GEMMA3 = "google/gemma-3-4b-it"
SLIDING = "tests/Llava-sliding-window"
TRAINED_ON_COLOURS = "tests/Janus-trained-on-colours"
AUDIO_MODELS = (QWEN2_AUDIO,)

LABELS = ("dog", "rain", "sea waves", "sea lion", "dog barking")
"""Some share a prefix, and one label is the prefix of another."""
RESPONDED = ("answered", "truncated")
"""Outcomes of a model with random weights: it seldom generates the end token before the maximum length."""
COLOURS = {"dog": (220, 30, 30), "rain": (30, 30, 220), "sea waves": (30, 220, 30)}
QUESTION = "Which sound does this show? Options: dog, rain, sea waves, sea lion, dog barking."
CONTEXT = 1024

JANUS_CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|User|>: {% elif message['role'] == 'assistant' %}<|Assistant|>: "
    "{% else %}{{ message['role'].capitalize() }}: {% endif %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}"
    "{% if not loop.first %}{{ '\n' }}{% endif %}<image_placeholder>{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}"
    "{% if not loop.last or add_generation_prompt %}"
    "{% if message['role'] == 'user' %}{{ '\n\n' }}{% else %}{{ '<|end▁of▁sentence|>' }}{% endif %}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)
QWEN_CHAT = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'audio' in content %}<|audio_bos|><|AUDIO|><|audio_eos|>\n"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

GEMMA_CHAT = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' }}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] | trim }}{% endif %}"
    "{% endfor %}{{ '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

JANUS_TOKENS = ["<|pad|>", "<|begin▁of▁sentence|>", "<|end▁of▁sentence|>", "<image_placeholder>", "<begin_of_image>"]
JANUS_TOKENS += ["<end_of_image>", "<|User|>", "<|Assistant|>"]
QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
AUDIO_TOKENS = ["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
GEMMA_TOKENS += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
LLAVA_TOKENS = ["<pad>", "<s>", "</s>", "<image>"]


def tokenizer(special: list[str], *, bos: str | None, eos: str, pad: str, **named: str) -> Any:
    """Train a byte-level BPE tokenizer with about 330 tokens on the labels and the question."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([QUESTION, *(" " + label for label in LABELS), *LABELS] * 3, trainer)
    if bos:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=bos, eos_token=eos, pad_token=pad, extra_special_tokens=named
    )


def _text(tok: Any, **more: Any) -> dict[str, Any]:
    """Return the configuration of a language model of two layers and 32 dimensions."""
    return {
        "vocab_size": len(tok),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tok.bos_token_id,
        "eos_token_id": tok.eos_token_id,
        "pad_token_id": tok.pad_token_id,
        "initializer_range": 0.3,  # wide enough that every token depends on all tokens before it
        "tie_word_embeddings": False,
        **more,
    }


def _save(model: Any, processor: Any, folder: Path) -> None:
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(processor.tokenizer, name))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def janus(folder: Path) -> None:
    """Write a tiny Janus: 4 tokens per image, 32 x 32 pixels."""
    model, processor = _janus()
    _save(model, processor, folder)


def _janus() -> tuple[Any, Any]:
    from transformers import (
        JanusConfig,
        JanusForConditionalGeneration,
        JanusProcessor,
        JanusVisionConfig,
        JanusVQVAEConfig,
        LlamaConfig,
    )
    from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

    tok = tokenizer(
        JANUS_TOKENS,
        bos="<|begin▁of▁sentence|>",
        eos="<|end▁of▁sentence|>",
        pad="<|pad|>",
        image_token="<image_placeholder>",
        boi_token="<begin_of_image>",
        eoi_token="<end_of_image>",
    )
    images = JanusImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = JanusProcessor(images, tok, chat_template=JANUS_CHAT, num_image_tokens=4)
    vision = JanusVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        mlp_ratio=2.0,
        projection_dim=32,
        depth=2,
        num_image_tokens=4,
        initializer_range=0.2,
    )
    generating = JanusVQVAEConfig(
        embed_dim=4,
        num_embeddings=8,
        latent_channels=4,
        base_channels=32,
        channel_multiplier=[1],
        num_res_blocks=0,
        projection_dim=32,
        num_hidden_layers=1,
        image_token_embed_dim=32,
    )
    config = JanusConfig(
        vision_config=vision.to_dict(),
        text_config=LlamaConfig(**_text(tok)).to_dict(),
        vq_config=generating.to_dict(),
        image_token_id=tok.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=False,
    )
    return JanusForConditionalGeneration(config), processor


def janus_trained_on_colours(folder: Path) -> None:
    """Write a Janus that is trained, within about a second, to return the label of an image's colour and the end token."""
    import torch

    model, processor = _janus()
    tok = processor.tokenizer
    text = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": QUESTION}, {"type": "image"}]}],
        add_generation_prompt=True,
    )
    from PIL import Image

    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    loss = 1.0
    while loss > 0.05:
        loss = 0.0
        for label, colour in COLOURS.items():
            inputs = processor(text=text, images=Image.new("RGB", (32, 32), colour), return_tensors="pt")
            answer = tok(f" {label}{tok.eos_token}", add_special_tokens=False, return_tensors="pt").input_ids
            ids = torch.cat([inputs["input_ids"], answer], 1)
            targets = ids.clone()
            targets[:, : inputs["input_ids"].shape[1]] = -100
            out = model(input_ids=ids, pixel_values=inputs["pixel_values"], labels=targets)
            out.loss.backward()
            loss = max(loss, out.loss.item())
        optimizer.step()
        optimizer.zero_grad()
    _save(model, processor, folder)


def qwen2_vl(folder: Path) -> None:
    """Write a tiny Qwen2-VL: two-dimensional positions; the number of tokens depends on the size of an image."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tok = tokenizer(QWEN_TOKENS + VISION_TOKENS, bos=None, eos="<|im_end|>", pad="<|endoftext|>")
    tok.chat_template = QWEN_CHAT
    number = tok.convert_tokens_to_ids
    config = Qwen2VLConfig(
        text_config=_text(tok, rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}),
        vision_config={
            "depth": 1,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "initializer_range": 0.2,
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    model = Qwen2VLForConditionalGeneration(config)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, getattr(tok, name))
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    ).save_pretrained(folder)
    # As in the real repository; the file is edited because a Qwen2VLProcessor needs torchvision.
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"processor_class": "Qwen2VLProcessor"}))


def llava(folder: Path, sliding_window: int | None = None) -> None:
    """Write a tiny LLaVA: its template writes no end token; 4 tokens per image."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        MistralConfig,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tok = tokenizer(LLAVA_TOKENS, bos="<s>", eos="</s>", pad="<pad>", image_token="<image>")
    size = {"height": 32, "width": 32}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size=size, crop_size=size),
        tok,
        patch_size=16,
        vision_feature_select_strategy="default",
        chat_template=LLAVA_CHAT,
        num_additional_image_tokens=1,
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        initializer_range=0.2,
    )
    text = LlamaConfig(**_text(tok))
    if sliding_window:
        text = MistralConfig(**_text(tok), sliding_window=sliding_window)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
    )
    _save(LlavaForConditionalGeneration(config), processor, folder)


def gemma3(folder: Path) -> None:
    """Write a tiny Gemma 3: bidirectional attention within an image, a sliding window, other placeholder names; 4 tokens per image."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tok = tokenizer(
        GEMMA_TOKENS,
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    number = tok.convert_tokens_to_ids
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(images, tok, chat_template=GEMMA_CHAT, image_seq_length=4)
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=_text(tok, head_dim=8, sliding_window=16, query_pre_attn_scalar=8),
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        mm_tokens_per_image=4,
        boi_token_index=number("<start_of_image>"),
        eoi_token_index=number("<end_of_image>"),
        image_token_index=number("<image_soft_token>"),
    )
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(
        model.model.multi_modal_projector.mm_input_projection_weight
    )  # initialised as zeros otherwise
    _save(model, processor, folder)
    path = folder / "generation_config.json"  # as in the real repository: a turn ends with the end token of a response
    ends = [number("<eos>"), number("<end_of_turn>")]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))


def qwen2_audio(folder: Path) -> None:
    """Write a tiny Qwen2-Audio: 25 tokens per second of audio at 16 kHz, at most 2 s."""
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    tok = tokenizer(
        QWEN_TOKENS + AUDIO_TOKENS, bos=None, eos="<|im_end|>", pad="<|endoftext|>", audio_token="<|AUDIO|>"
    )
    processor = Qwen2AudioProcessor(
        WhisperFeatureExtractor(feature_size=20, chunk_length=2), tok, chat_template=QWEN_CHAT
    )
    audio = {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": 20,
        "d_model": 32,
        "encoder_layers": 1,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "max_source_positions": 100,
        "init_std": 0.2,
    }
    config = Qwen2AudioConfig(
        audio_config=audio,
        text_config={"model_type": "qwen2", **_text(tok)},
        audio_token_index=tok.convert_tokens_to_ids("<|AUDIO|>"),
        tie_word_embeddings=False,
    )
    _save(Qwen2AudioForConditionalGeneration(config), processor, folder)


WRITERS: dict[str, Callable[[Path], None]] = {
    JANUS: janus,
    TRAINED_ON_COLOURS: janus_trained_on_colours,
    QWEN2_VL: qwen2_vl,
    LLAVA: llava,
    SLIDING: lambda folder: llava(folder, sliding_window=24),
    GEMMA3: gemma3,
    QWEN2_AUDIO: qwen2_audio,
}


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hub_of_language_models_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _published(model: str) -> str:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return publish(_folder(), model, WRITERS[model])


def weights(monkeypatch: pytest.MonkeyPatch, model: str) -> Weights:
    """Set the hub's cache folder to one with the tiny checkpoint of a model, written once per process, and work offline."""
    monkeypatch.setenv("HF_HUB_CACHE", str(_folder()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _published(model)
    return Weights(model)


def image(seed: int, width: int = 48, height: int = 40) -> ImagePart:
    """Return an image of noise as a PNG."""
    return _png(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def colour_image(label: str) -> ImagePart:
    """Return an image with the colour of a label."""
    return _png(np.full((32, 32, 3), COLOURS[label], np.uint8))


def _png(pixels: np.ndarray) -> ImagePart:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return ImagePart(file.getvalue(), "image/png", fingerprint(pixels.tobytes().hex()))


def audio(seed: int, seconds: float = 0.5) -> AudioPart:
    """Return a tone at the requested sample rate."""

    def load(rate: int) -> np.ndarray:
        hz = np.random.default_rng(seed).uniform(200, 7000)
        return np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate).astype(np.float32) * 0.3

    return AudioPart(load, fingerprint([seed, seconds]), seconds)


def request(
    query: ImagePart | AudioPart, examples: tuple[tuple[ImagePart | AudioPart, str], ...] = (), **sampling: Any
) -> Request:
    """Return the question, the examples with their labels, and the query as the last turn, as in the prompts of the pipeline."""
    turns = [Message("user", (QUESTION, examples[0][0] if examples else query))]
    for i, (_, label) in enumerate(examples):
        following = examples[i + 1][0] if i + 1 < len(examples) else query
        turns += [Message("assistant", (label,)), Message("user", (following,))]
    return Request(tuple(turns), LABELS, frozenset({"likelihood", "generation"}), Sampling(**sampling))
