"""Tiny random checkpoints in the layout of the hub's cache, under the models' real names.

Each has the real architecture with small sizes.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlm_audio_pipeline_tests.encoders.window_environments import perch_file

CLAP = "laion/clap-htsat-unfused"
FUSED = "laion/clap-htsat-fused"
AIMV2 = "apple/aimv2-large-patch14-224"
AIMV2_NATIVE = "apple/aimv2-large-patch14-native"
DINOV2 = "facebook/dinov2-base"
CLIP = "openai/clip-vit-base-patch32"
SIGLIP = "google/siglip-base-patch16-224"
AST = "MIT/ast-finetuned-audioset-10-10-0.4593"
WAV2VEC2 = "facebook/wav2vec2-base"
HUBERT = "facebook/hubert-base-ls960"
WAVLM = "microsoft/wavlm-base"
WHISPER = "openai/whisper-tiny"
MUSIC2LATENT = "SonyCSLParis/music2latent"
PERCH = "justinchuby/Perch-onnx"
DASHENG = "mispeech/dasheng-base"
BEATS = "somebody/beats"  # the authors have no repository on the hub

SIZE = 32  # pixels
CORPUS = [
    "This is a sound of a dog barking.",
    "rain, sea waves and a crying baby",
    "helicopter chainsaw rooster",
    "fire",
]


def publish(cache: Path, model: str, write: Callable[[Path], None], branch: str = "main") -> str:
    """Publish the files that `write` writes in a cache folder, in the hub's layout: blobs, a snapshot of links, and a ref.

    Returns:
        The commit, which is a hash of the files.
    """
    repository = cache / ("models--" + model.replace("/", "--"))
    staging, blobs = repository / "staging", repository / "blobs"
    staging.mkdir(parents=True)
    blobs.mkdir(exist_ok=True)
    write(staging)
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(staging.iterdir())}
    commit = hashlib.sha1(repr(digests).encode()).hexdigest()
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for name, digest in digests.items():
        os.replace(staging / name, blobs / digest)
        (snapshot / name).unlink(missing_ok=True)
        (snapshot / name).symlink_to(Path("../../blobs") / digest)
    staging.rmdir()
    ref = repository / "refs" / branch
    ref.parent.mkdir(exist_ok=True)
    ref.write_text(commit)
    return commit


def checkpoint(model: str, seed: int = 0) -> Callable[[Path], None]:
    """Return a function that writes the tiny checkpoint of a model into a folder."""

    def write(folder: Path) -> None:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            WRITERS[model](folder)

    return write


def byte_level_pieces(end_of_word: str = "") -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Train a byte-level BPE tokenizer; return its vocabulary and merges."""
    import json
    import tempfile

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    ending = {"end_of_word_suffix": end_of_word} if end_of_word else {}
    tokenizer = Tokenizer(models.BPE(**ending))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if not end_of_word else ["<|startoftext|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False, **ending
    )
    tokenizer.train_from_iterator([text.lower() for text in CORPUS] + CORPUS, trainer)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.model.save(folder)
        vocabulary = json.loads((Path(folder) / "vocab.json").read_text())
        lines = (Path(folder) / "merges.txt").read_text().splitlines()[1:]
    return vocabulary, [tuple(line.split(" ")) for line in lines]


def clap(folder: Path, fused: bool = False) -> None:
    """Write a CLAP with 0.1 M parameters, windows of 5 s at 48 kHz and 32 dimensions."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    vocabulary, merges = byte_level_pieces()
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=64)
    audio = {
        "num_mel_bins": 64,
        "spec_size": 128,
        "window_size": 8,
        "patch_size": 4,
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 4],
        "hidden_size": 32,
        "enable_fusion": fused,
        "enable_patch_fusion": fused,
        "aff_block_r": 2,
        "num_hidden_layers": 2,
        "num_classes": 4,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 70,
    }
    model = ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=32, hidden_size=32))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ClapFeatureExtractor(
        hop_length=960, fft_window_size=2048, max_length_s=5, truncation="fusion" if fused else "rand_trunc"
    ).save_pretrained(folder)


def _save_image_processor(folder: Path, cls: str = "CLIPImageProcessorPil") -> None:
    import transformers

    size = {"height": SIZE, "width": SIZE}
    if cls.startswith("CLIP"):
        processor = getattr(transformers, cls)(size={"shortest_edge": SIZE}, crop_size=size)
    else:
        processor = getattr(transformers, cls)(size=size)
    processor.save_pretrained(folder)


def _save_aimv2(folder: Path, **options) -> None:
    from transformers import Aimv2VisionConfig, Aimv2VisionModel

    config = Aimv2VisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=8,
        use_head=False,
        **options,
    )
    Aimv2VisionModel(config).save_pretrained(folder)


def aimv2(folder: Path) -> None:
    """Write an AIMv2 with 16 patches, 32 dimensions and no pooled vector."""
    _save_aimv2(folder)
    _save_image_processor(folder)


def aimv2_native(folder: Path) -> None:
    """Write an AIMv2 that takes images of any size, as they are: its processor neither resizes nor crops."""
    from transformers import CLIPImageProcessor

    _save_aimv2(folder, is_native=True)
    CLIPImageProcessor(do_resize=False, do_center_crop=False).save_pretrained(folder)


def dinov2(folder: Path) -> None:
    """Write a DINOv2 with a class token, 16 patches and 32 dimensions."""
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIZE, patch_size=8)
    Dinov2Model(config).save_pretrained(folder)
    _save_image_processor(folder)


_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def clip(folder: Path) -> None:
    """Write a CLIP with two towers and 24 dimensions."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    vocabulary, merges = byte_level_pieces("</w>")
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=32)
    text = _TOWER | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 32,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = _TOWER | {"image_size": SIZE, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _save_image_processor(folder)


def siglip_with_tokenizer(folder: Path) -> None:
    """Write the tiny SigLIP with a tokenizer, which needs sentencepiece."""
    import io

    import sentencepiece
    from transformers import SiglipTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=64, hard_vocab_limit=False, minloglevel=2
    )
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=16)
    tokenizer.save_pretrained(folder)
    siglip(folder, len(tokenizer))


def siglip(folder: Path, vocabulary: int = 64) -> None:
    """Write a SigLIP with two towers and 32 dimensions, without a tokenizer (which needs sentencepiece)."""
    from transformers import SiglipConfig, SiglipModel

    text = _TOWER | {"vocab_size": vocabulary, "max_position_embeddings": 16, "projection_size": 32}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 1}
    vision = _TOWER | {"image_size": SIZE, "patch_size": 8}
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    _save_image_processor(folder, "SiglipImageProcessorPil")


def ast(folder: Path) -> None:
    """Write an AST with windows of 0.64 s: 2 bands of 5 patches each."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    config = ASTConfig(**_TOWER, num_mel_bins=32, max_length=64, patch_size=16, frequency_stride=10, time_stride=10)
    ASTModel(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)


def _speech(config: str, model: str, **kwargs: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        import transformers

        small = {
            **_TOWER,
            "conv_dim": (16,) * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
            "vocab_size": 8,
        }
        getattr(transformers, model)(getattr(transformers, config)(**small, **kwargs)).save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)

    return write


def whisper(folder: Path) -> None:
    """Write a Whisper with windows of 2 s: 100 output frames."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(
        vocab_size=16,
        num_mel_bins=20,
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_source_positions=100,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(folder)


def narrow_music2latent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the network of the package 8 times narrower: its sizes are constants of a module, not a configuration."""
    from music2latent import models

    monkeypatch.setattr(models, "bottleneck_base_channels", 32)
    monkeypatch.setattr(models, "layers_list", [1] * 5)
    monkeypatch.setattr(models, "base_channels", 8)


def music2latent(folder: Path) -> None:
    """Write random weights of the network with its current sizes. Many layers are initialised as zeros, so noise is added."""
    import torch
    from music2latent.models import UNet

    state = {k: v + 0.05 * torch.randn_like(v) for k, v in UNet().state_dict().items()}
    torch.save({"gen_state_dict": state, "it": 3}, folder / "music2latent.pt")


def dasheng(folder: Path, depth: int = 2, width: int = 48, heads: int = 3) -> None:
    """Write `model.safetensors` and `config.json` as in the repositories of mispeech, with a large influence of every layer."""
    import torch
    from safetensors.torch import save_file

    def normal(*shape: int, scale: float = 1.0, mean: float = 0.0) -> torch.Tensor:
        return mean + scale * torch.randn(*shape)

    tensors = {
        "time_pos_embed": normal(1, width, 1, 252),
        "freq_pos_embed": normal(1, width, 1, 1),
        "patch_embed.proj.weight": normal(width, 1, 64, 4, scale=1 / 16),
        "patch_embed.proj.bias": normal(width),
        "init_bn.1.running_mean": normal(64, mean=-40, scale=10),
        "init_bn.1.running_var": 100 + normal(64).square(),
        "init_bn.1.num_batches_tracked": torch.tensor(1),
    }
    linear = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (4 * width, width),
        "mlp.fc2": (width, 4 * width),
    }
    norms = ["norm", "init_bn.1"]
    for i in range(depth):
        norms += [f"blocks.{i}.norm1", f"blocks.{i}.norm2"]
        for name, (outputs, inputs) in linear.items():
            tensors[f"blocks.{i}.{name}.weight"] = normal(outputs, inputs, scale=inputs**-0.5)
            tensors[f"blocks.{i}.{name}.bias"] = normal(outputs, scale=0.1)
    for name in norms:
        size = 64 if name == "init_bn.1" else width
        tensors |= {f"{name}.weight": normal(size, mean=1, scale=0.1), f"{name}.bias": normal(size, scale=0.1)}
    save_file({f"encoder.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    config = {
        "model_type": "dasheng",
        "name": "dasheng-base",
        "encoder_kwargs": {"embed_dim": width, "depth": depth, "num_heads": heads},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_extractor_type": "DashengFeatureExtractor"}))


BEATS_SETTINGS = {
    "encoder_layers": 2,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 3,
    "embed_dim": 32,
    "input_patch_size": 16,
    "conv_bias": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "num_buckets": 320,
    "max_distance": 800,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "deep_norm": True,
    "layer_norm_first": False,
    "activation_fn": "gelu",
}
"""Settings in a checkpoint of BEATs, as in those of the authors; layers and widths are small."""


def beats(folder: Path, settings: dict[str, Any] = BEATS_SETTINGS) -> None:
    """Write a checkpoint in the authors' format, with a large influence of every tensor."""
    import torch

    from vlm_audio_pipeline.encoders.beats_network import Settings, tensor_names

    width, ffn, patches = (settings[name] for name in ("encoder_embed_dim", "encoder_ffn_embed_dim", "embed_dim"))
    heads = settings["encoder_attention_heads"]
    shapes = {
        "relative_attention_bias.weight": (settings["num_buckets"], heads),
        "grep_linear.weight": (8, width // heads),
        "grep_linear.bias": (8,),
        "grep_a": (1, heads, 1, 1),
        "fc1.weight": (ffn, width),
        "fc1.bias": (ffn,),
        "fc2.weight": (width, ffn),
        "patch_embedding.weight": (patches, 1, 16, 16),
        "post_extract_proj.weight": (width, patches),
        "pos_conv.0.weight_g": (1, 1, 128),
        "pos_conv.0.weight_v": (width, width // settings["conv_pos_groups"], 128),
    }
    state = {}
    for name in tensor_names(Settings.from_checkpoint(settings)):
        is_norm = "norm" in name
        default = (patches if name.startswith("layer_norm") else width,)
        if name.endswith("weight") and not is_norm:
            default = (width, width)
        shape = next((s for end, s in shapes.items() if name.endswith(end)), default)
        fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 and name.endswith("weight") else 100
        state[name] = torch.randn(shape) * (0.1 if is_norm else fan_in**-0.5) + float(
            is_norm and name.endswith("weight")
        )
        if name.endswith(("relative_attention_bias.weight", "grep_a", "weight_g")):
            state[name] = torch.rand(shape) + 0.5
    for i in range(1, settings["encoder_layers"]):  # the layers share it, and it is stored with each of them
        bias = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
        state[bias.format(i)] = state[bias.format(0)]
    torch.save({"cfg": settings, "model": state}, folder / "BEATs_iter3_plus_AS2M.pt")


WRITERS: dict[str, Callable[[Path], None]] = {
    CLAP: clap,
    FUSED: lambda folder: clap(folder, fused=True),
    AIMV2: aimv2,
    AIMV2_NATIVE: aimv2_native,
    DINOV2: dinov2,
    CLIP: clip,
    SIGLIP: siglip,
    AST: ast,
    WAV2VEC2: _speech("Wav2Vec2Config", "Wav2Vec2Model"),
    HUBERT: _speech("HubertConfig", "HubertModel"),
    WAVLM: _speech("WavLMConfig", "WavLMModel"),
    WHISPER: whisper,
    MUSIC2LATENT: music2latent,
    DASHENG: dasheng,
    BEATS: beats,
    PERCH: perch_file,  # not ONNX: `write_perch` writes a runtime that reads it
}
