"""The checkpoints have the format of the hub: the pipeline's own loader loads them."""

import json
import re
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import Aimv2VisionModel, AutoModelForImageTextToText, AutoProcessor, ClapModel

import vlm_audio_pipeline
from demo_model_training.architectures import build_aimv2, build_clap, build_janus
from demo_model_training.conversations import tokenizer_corpus
from demo_model_training.material import sentences
from vlm_audio_pipeline.encoders.clap import INDEX_TENSORS
from vlm_audio_pipeline.encoders.pretrained import load_tokenizer, load_transformers
from vlm_audio_pipeline.encoders.weights import Weights

FOLDER = Path(vlm_audio_pipeline.__file__).parent / "demo_models"
MODELS = {"demo-janus": AutoModelForImageTextToText, "demo-clap": ClapModel, "demo-aimv2": Aimv2VisionModel}


def test_all_three_are_small_and_readable_by_every_user():
    files = [f for name in MODELS for f in (FOLDER / name).iterdir()]
    assert sum(f.stat().st_size for f in files) <= 12e6
    assert {stat.S_IMODE(f.stat().st_mode) & 0o444 for f in files} == {0o444}
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".pkl")]  # nothing that could run code


@pytest.mark.parametrize("name", MODELS)
def test_the_pipeline_loads_them(name):
    model = load_transformers(MODELS[name], Weights(name), "cpu", "float32", optional_tensors=INDEX_TENSORS)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert all(torch.isfinite(p).all() for p in model.parameters())
    with safe_open(FOLDER / name / "model.safetensors", "pt") as stored:
        tensors = [stored.get_tensor(k) for k in stored.keys()]  # noqa: SIM118
    assert {t.dtype for t in tensors if t.is_floating_point()} == {torch.float16}


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("demo-janus", lambda: build_janus(tokenizer_corpus(0))[0]),
        ("demo-clap", lambda: build_clap(sentences())[0]),
        ("demo-aimv2", lambda: build_aimv2()[0]),
    ],
)
def test_they_have_the_architectures_that_the_training_builds(name, build):
    """If this fails after a change of prompts, names or sizes: train again (python -m demo_model_training.train)."""
    ours = build()
    with safe_open(FOLDER / name / "model.safetensors", "pt") as stored:
        shapes = {k: tuple(stored.get_slice(k).get_shape()) for k in stored.keys()}  # noqa: SIM118
    own = {k: tuple(v.shape) for k, v in ours.state_dict().items()}
    assert shapes == {k: own[k] for k in shapes}
    assert json.loads((FOLDER / name / "config.json").read_text())["architectures"] == [type(ours).__name__]


@pytest.mark.parametrize(("name", "config"), [("demo-janus", "text_config"), ("demo-clap", "text_config")])
def test_tokenizers_have_all_their_tokens(name, config):
    weights = Weights(name)
    vocabulary = weights.config()[config]["vocab_size"]
    tokenizer = load_tokenizer(weights, vocabulary)
    assert len(tokenizer) == vocabulary
    assert (
        tokenizer.decode(tokenizer("sea waves, sea_waves", add_special_tokens=False).input_ids)
        == "sea waves, sea_waves"
    )


def test_janus_has_its_processor_and_template():
    processor = AutoProcessor.from_pretrained(FOLDER / "demo-janus", local_files_only=True)
    assert type(processor).__name__ == "JanusProcessor"
    assert processor.num_image_tokens == 36  # (96 / 16)^2
    assert not processor.use_default_system_prompt
    turns = [
        {"role": "user", "content": [{"type": "text", "text": " What? "}, {"type": "image"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "rain"}]},
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": "And"}, {"type": "text", "text": "this?"}],
        },
    ]
    end = "<｜end▁of▁sentence｜>"
    # the output of Janus-Pro's own template for these turns
    # (https://github.com/huggingface/transformers, models/janus/convert_janus_weights_to_hf.py, CHAT_TEMPLATE)
    assert processor.apply_chat_template(turns, add_generation_prompt=True) == (
        f"<|User|>: What?\n<image_placeholder>\n\n<|Assistant|>: rain{end}"
        "<|User|>: <image_placeholder>\nAnd this?\n\n<|Assistant|>:"
    )


@pytest.mark.parametrize("name", MODELS)
def test_cards_state_the_training_and_its_limits(name):
    card = (FOLDER / name / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    text = " ".join(card.split())
    for claim in (
        "synthetic sounds",
        "they say nothing about any real model",
        "Overlaps: none with ESC-10, ESC-50, FreeSound or AudioSet.",
        "Apache-2.0, weights and code.",
        "python -m demo_model_training.train --seed 0",
    ):
        assert claim in text
    accuracies = [float(s) for s in re.findall(r"\| ([01]\.\d{3}) \|$", card, re.M)]
    assert len(accuracies) >= 2 and max(accuracies) >= 0.9


def test_their_revision_is_the_digest_of_their_files():
    for name in MODELS:
        weights = Weights(name)
        assert re.fullmatch("[0-9a-f]{40}", weights.resolve() or "")
        assert weights.input_asset.name == name.replace("-", "/")
        assert weights.missing() is None
