"""The three models before training: classes of transformers in sizes that train in minutes on a laptop.

Belongs here: sizes and processors. Does not belong here: data and training. They are about the
smallest sizes with which each model learns its task on synthetic sounds (determined by experiments).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from demo_model_training.tokenizers import CHAT_TEMPLATE, IMAGE, clap_tokenizer, janus_tokenizer
from vlm_audio_pipeline.encoders.pretrained import quiet_loading

SIDE = 96
"""Width and height of an image, pixels."""
PATCH = 16
"""Width and height of a patch, pixels: 36 patches per image."""


def build_janus(texts: Iterable[str]) -> tuple[Any, Any]:
    """Build a Janus (https://arxiv.org/abs/2501.17811) with random weights, and its processor.

    Its image generator is as small as possible and stays random, because nothing here generates images.

    Args:
        texts: texts to fit its tokenizer to.

    Returns:
        (JanusForConditionalGeneration, JanusProcessor).
    """
    from transformers import (
        JanusConfig,
        JanusForConditionalGeneration,
        JanusProcessor,
        JanusVisionConfig,
        JanusVQVAEConfig,
        LlamaConfig,
    )
    from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil

    patches, width = (SIDE // PATCH) ** 2, 128
    tokenizer = janus_tokenizer(texts)
    image_processor = JanusImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    vision = JanusVisionConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        mlp_ratio=2.0,
        projection_dim=width,
        depth=2,
        num_image_tokens=patches,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    image_generator = JanusVQVAEConfig(
        embed_dim=4,
        num_embeddings=8,
        latent_channels=4,
        base_channels=32,
        channel_multiplier=[1],
        num_res_blocks=0,
        projection_dim=width,
        num_hidden_layers=1,
        image_token_embed_dim=width,
    )
    model = JanusForConditionalGeneration(
        JanusConfig(
            vision_config=vision.to_dict(),
            text_config=text.to_dict(),
            vq_config=image_generator.to_dict(),
            image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
            tie_word_embeddings=True,
        )
    )
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(model.generation_config, name, getattr(tokenizer, name))
    processor = JanusProcessor(image_processor, tokenizer, chat_template=CHAT_TEMPLATE, num_image_tokens=patches)
    return model, processor


def build_clap(texts: Iterable[str]) -> tuple[Any, Any]:
    """Build a CLAP with a small HTSAT audio encoder (https://arxiv.org/abs/2211.06687), and its processor: 48 kHz, 5 s.

    Args:
        texts: texts to fit its tokenizer to.

    Returns:
        (ClapModel, ClapProcessor).
    """
    from transformers import (
        ClapAudioConfig,
        ClapConfig,
        ClapModel,
        ClapProcessor,
        ClapTextConfig,
    )

    tokenizer, audio_width, depths = clap_tokenizer(texts), 48, [2, 2, 2]
    audio = ClapAudioConfig(
        num_mel_bins=64,
        spec_size=128,
        window_size=4,
        patch_size=8,
        patch_stride=[8, 8],
        patch_embeds_hidden_size=audio_width,
        depths=depths,
        num_attention_heads=[3, 6, 12],
        hidden_size=audio_width * 2 ** (len(depths) - 1),
        num_hidden_layers=len(depths),
        projection_dim=64,
        enable_fusion=False,
        num_classes=10,
        mlp_ratio=2.0,
        hidden_dropout_prob=0.0,
    )
    text = ClapTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        max_position_embeddings=66,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        projection_dim=64,
    )
    model = ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=64))
    processor = ClapProcessor(clap_features(), tokenizer)  # transformers has no types here
    return model, processor


def clap_features() -> Any:
    """Return the feature extractor of CLAP: samples at 48 kHz to 64 mel bands, 50 frames per second."""
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(
        feature_size=64,
        sampling_rate=48000,
        hop_length=960,
        max_length_s=5,
        fft_window_size=2048,
        frequency_min=50,
        frequency_max=14000,
        truncation="rand_trunc",  # "fusion" would stack four spectrograms; no clip is longer than 5 s
        padding="repeatpad",
    )


def build_aimv2() -> tuple[Any, Any]:
    """Build the vision tower of AIMv2 (https://arxiv.org/abs/2411.14402) with random weights, and its processor.

    Returns:
        (Aimv2VisionModel, CLIPImageProcessor).
    """
    from transformers import Aimv2VisionConfig, Aimv2VisionModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = Aimv2VisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        use_head=False,
    )
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return Aimv2VisionModel(config), image_processor


def save(model: Any, folder: Path, *processors: Any) -> None:
    """Write a checkpoint in half precision and its processors, readable by every user.

    Args:
        model: converted to half precision in place.
        folder: created if missing; other files in it are kept.
        processors: objects with `save_pretrained`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_loading():
        for part in (model.eval().half(), *processors):
            part.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
