"""MS-CLAP against the package of its authors, on random weights. What it shares with LAION-CLAP is tested in `test_laion_clap`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.encoders import ms_clap
from vlm_audio_pipeline.encoders.isolated import IsolatedProcess
from vlm_audio_pipeline.encoders.ms_clap import ENVIRONMENT, MsClap
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.encoders.audio_samples import noise, tone
from vlm_audio_pipeline_tests.encoders.checkpoints import publish
from vlm_audio_pipeline_tests.encoders.isolated_programs import MS_CLAP_CALL, MS_CLAP_WRITE
from vlm_audio_pipeline_tests.encoders.test_laion_clap import PROTOCOL_WORKER

WORKER = Path(ms_clap.__file__).with_name("ms_clap_worker.py")
TEXTS = ["This is a sound of dog.", "sea waves", "a", "a sneeze " * 60]


def test_windows_of_seven_seconds_are_averaged(monkeypatch):
    started = IsolatedProcess("ms_clap", (sys.executable, "-c", PROTOCOL_WORKER), {"checkpoint": "whole"})
    monkeypatch.setattr(MsClap, "_worker", lambda self: started)
    clip = np.zeros(400_000, np.float32)  # windows of 308,700 samples that begin at 0 and 91,300
    clip[0], clip[91_300] = 0.5, -0.5
    [vector] = MsClap().load()([clip])
    # The worker's vectors (0.5, 0.5) and (-0.5, 0.5) at length 1 have the sum (0, 2 * 0.7071), at length 1 (0, 1).
    np.testing.assert_allclose(vector, [0, 1], atol=1e-6)


def test_missing_parts_are_reported_with_the_command_to_install_them(tmp_path, data_folder, cache, monkeypatch):
    monkeypatch.setenv("VLM_AUDIO_DATA", str(data_folder.root))
    assert str(MsClap().unavailable()).startswith("weights of microsoft/msclap missing (revision main)")
    publish(cache, "microsoft/msclap", lambda folder: (folder / "CLAP_weights_2023.pth").write_bytes(b"0"))
    assert str(MsClap().unavailable()).startswith("weights of openai-community/gpt2 missing")
    publish(cache, "openai-community/gpt2", gpt2_files)
    assert MsClap().unavailable() == "environment of msclap==1.3.4 missing: create it with `vlm-audio fetch STUDY`"


def test_the_worker_imports_neither_this_package_nor_heavy_libraries():
    code = f"import runpy, sys; runpy.run_path({str(WORKER)!r}); print([m for m in sys.modules if 'vlm' in m or 'torch' in m])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def gpt2_files(folder: Path) -> None:
    """Write a byte-level vocabulary of the size of GPT-2, merges for a few words, and the config of a model with one layer."""
    from tokenizers.pre_tokenizers import ByteLevel

    words = ["\u0120sound", "\u0120dog", "\u0120waves", "sea", "This", "\u0120is", "\u0120of", "\u0120a"]
    joined, merges = [], []
    for word in words:
        prefix = word[0]
        for letter in word[1:]:
            merges.append(f"{prefix} {letter}")
            prefix += letter
            joined.append(prefix)
    tokens = [*sorted(ByteLevel.alphabet()), *dict.fromkeys(joined)]
    assert tokens[0] == "!"  # as in GPT-2
    fillers = [f"<fill{i}>" for i in range(50257 - len(tokens) - 1)]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate([*tokens, *fillers, "<|endoftext|>"])}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges), ""]))
    config = {
        "model_type": "gpt2",
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,  # required by the projection of the package
        "n_layer": 1,
        "n_head": 12,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    }
    (folder / "config.json").write_text(json.dumps(config))


def gpt2_model(folder: Path) -> None:
    """Write the same with random weights, which the package loads from the hub before it replaces them."""
    from transformers import GPT2Config, GPT2Model

    gpt2_files(folder)
    GPT2Model(GPT2Config.from_pretrained(folder)).half().save_pretrained(folder)


# Tests with a real environment, installed by pip ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Install the environment with pip and write a random checkpoint in it."""
    # VLM_AUDIO_MS_CLAP_DATA: a data folder whose environment is used (or created) instead of a new one
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("msclap")
        patch.setenv("VLM_AUDIO_DATA", os.environ.get("VLM_AUDIO_MS_CLAP_DATA") or str(root / "data"))
        patch.setenv("HF_HUB_CACHE", str(root / "hub"))
        ENVIRONMENT.create(DataFolder.locate())
        publish(root / "hub", "gpt2", gpt2_model)
        publish(root / "hub", "openai-community/gpt2", gpt2_files)
        tokenizer = str(ms_clap.TOKENIZER.snapshot())
        publish(
            root / "hub",
            "microsoft/msclap",
            lambda folder: run(MS_CLAP_WRITE, tokenizer=tokenizer, checkpoint=str(folder / "CLAP_weights_2023.pth")),
        )
        yield root


@pytest.fixture
def installed_environment(installed, monkeypatch) -> Path:
    """Set the same variables for one test, because a fixture of all tests removes them."""
    monkeypatch.setenv("VLM_AUDIO_DATA", os.environ.get("VLM_AUDIO_MS_CLAP_DATA") or str(installed / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(installed / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return installed


def run(program: str, **values) -> None:
    python = ENVIRONMENT.python(DataFolder.locate())
    code = program.format(worker=str(WORKER), **values)
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_vectors_equal_those_of_the_package(installed_environment):
    spec = MsClap(device="cpu", batch_size=3)
    assert spec.unavailable() is None
    clips = [noise(7, 44100), tone(3, 44100), noise(5, 44100, seed=1), np.zeros(44100, np.float32)]
    text_encoder, encode = spec.load_text_encoder(), spec.load()
    audio, texts = np.stack(encode(clips)), np.stack(text_encoder.encode(TEXTS))

    np.savez(installed_environment / "clips.npz", *clips)
    run(
        MS_CLAP_CALL,
        checkpoint=str(spec.weights.snapshot() / spec.checkpoint_file),
        clips=str(installed_environment / "clips.npz"),
        texts=TEXTS[:3],  # the package fails on texts of more than 77 tokens
        answer=str(installed_environment / "answer.npz"),
    )
    with np.load(installed_environment / "answer.npz") as own:
        np.testing.assert_allclose(audio, own["audio"], atol=1e-5)
        np.testing.assert_allclose(texts[:3], own["text"], atol=1e-5)
    assert (audio.shape, texts.shape) == ((4, 1024), (4, 1024))
    for vectors in (audio, texts):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        differences = np.abs(vectors[:, None] - vectors).max(axis=-1) + np.eye(len(vectors))
        assert differences.min() > 1e-3, "vectors differ by much more than the tolerances"
    assert text_encoder.logit_scale == pytest.approx(np.exp(2.5), rel=1e-6)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_other_checkpoints_and_tokenizers_are_refused(installed_environment, tmp_path):
    python, tokenizer = ENVIRONMENT.python(DataFolder.locate()), ms_clap.TOKENIZER.snapshot()

    def start(checkpoint: Path, folder: Path) -> None:
        settings = {"checkpoint": str(checkpoint), "tokenizer_folder": str(folder), "device": "cpu"}
        IsolatedProcess("ms_clap", (str(python), "-I", str(WORKER)), settings)

    import torch

    torch.save({"model": {"logit_scale": torch.ones(())}}, tmp_path / "other.pth")
    with pytest.raises(VlmAudioError, match=r"is not a checkpoint of MS-CLAP 2023: \d+ tensors are missing or unknown"):
        start(tmp_path / "other.pth", tokenizer)
    (tmp_path / "damaged.pth").write_bytes(b"nothing")
    with pytest.raises(VlmAudioError, match="does not contain the weights of MS-CLAP only"):
        start(tmp_path / "damaged.pth", tokenizer)
    gpt2_files(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for t, i in vocabulary.items() if i < 500}))
    checkpoint = MsClap().weights.snapshot() / "CLAP_weights_2023.pth"
    with pytest.raises(VlmAudioError, match="must have GPT-2's 50257 tokens"):
        start(checkpoint, tmp_path)
