"""Dasheng against librosa, torch's own transformer, and the package of the authors (network lane), on small random weights."""

import json
import re
import subprocess

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vlm_audio_pipeline.encoders.dasheng import Dasheng, hidden_states, log_mel
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant, noise, tone, unusual_clips


@pytest.fixture
def folder(tmp_path):
    """A folder with a small random model."""
    torch.manual_seed(0)
    checkpoints.dasheng(tmp_path)
    return tmp_path


@pytest.fixture
def tensors(folder):
    """Its tensors, without the prefix of their names."""
    return {name.removeprefix("encoder."): t for name, t in load_file(folder / "model.safetensors").items()}


@pytest.mark.parametrize(
    ("clip", "tolerance"),
    # Decibels amplify the rounding between the spectral lines of a tone, up to 80 dB below its peak.
    [(noise(1, 16000), 2e-3), (np.zeros(16000, np.float32), 0), (tone(1, 16000), 0.1)],
    ids=["noise", "silence", "tone"],
)
def test_the_mel_spectrogram_is_that_of_librosa(clip, tolerance):
    mel = librosa.feature.melspectrogram(
        y=clip, sr=16000, n_fft=512, hop_length=160, n_mels=64, fmax=8000, htk=True, norm=None, pad_mode="reflect"
    )
    expected = librosa.power_to_db(mel, amin=1e-10, top_db=120)
    np.testing.assert_allclose(log_mel(clip).numpy(), expected, atol=tolerance)


def torch_transformer(tensors, width=48, heads=3, depth=2) -> torch.nn.Module:
    """Return torch's own transformer with the weights of the blocks and of the last norm."""
    layer = torch.nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    model = torch.nn.TransformerEncoder(layer, depth, torch.nn.LayerNorm(width, eps=1e-6), enable_nested_tensor=False)
    names = {
        "attn.qkv.": "self_attn.in_proj_",
        "attn.proj.": "self_attn.out_proj.",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    state = {}
    for name, tensor in tensors.items():
        for theirs, of_torch in names.items():
            name = name.replace(theirs, of_torch)
        if re.match(r"blocks|norm", name):
            state[name.replace("blocks", "layers")] = tensor
    model.load_state_dict(state, strict=True)
    return model.eval()


def test_the_transformer_is_that_of_torch(tensors):
    spectra = torch.randn(2, 64, 40) * 10 - 40
    mean, var, weight, bias = (
        tensors[f"init_bn.1.{n}"][:, None] for n in ("running_mean", "running_var", "weight", "bias")
    )
    scaled = (spectra - mean) / torch.sqrt(var + 1e-5) * weight + bias  # torch's default eps of a batch norm
    # A patch is the 64 bands of 4 frames.
    patches = scaled.unflatten(2, (10, 4)).permute(0, 2, 1, 3).flatten(2)
    embedded = patches @ tensors["patch_embed.proj.weight"].flatten(1).T + tensors["patch_embed.proj.bias"]
    embedded = embedded + tensors["time_pos_embed"][0, :, 0, :10].T + tensors["freq_pos_embed"][0, :, 0, 0]
    with torch.inference_mode():
        expected = torch_transformer(tensors)(embedded)
        np.testing.assert_allclose(hidden_states(tensors, 3, spectra), expected, atol=1e-5)


def test_a_long_clip_is_the_mean_over_all_hidden_states_of_its_parts(folder, tensors):
    clip = noise(12.345, 16000)  # 197,520 samples: 1,235 frames, 1,008 and 224 in whole patches
    spectrum = log_mel(clip)
    assert spectrum.shape == (64, 1235)
    with torch.inference_mode():
        parts = [hidden_states(tensors, 3, part[None])[0] for part in (spectrum[:, :1008], spectrum[:, 1008:1232])]
    expected = torch.cat(parts).mean(dim=0)
    [vector] = Dasheng(model=str(folder), device="cpu").load()([clip])
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_vectors_do_not_depend_on_the_batch_or_its_order(folder):
    clips = [*unusual_clips(16000), noise(1, 16000), tone(2.5, 16000)]
    encode, singly = (Dasheng(model=str(folder), device="cpu", batch_size=n).load() for n in (16, 1))
    assert_batch_invariant(encode, clips, singly)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {n: v for n, v in t.items() if n != "encoder.blocks.1.mlp.fc2.bias"},
            r"1 missing, 0 unknown.*blocks\.1\.mlp\.fc2\.bias",
        ),
        (lambda t: t | {"encoder.blocks.0.ls1.gamma": torch.ones(48)}, r"0 missing, 1 unknown.*ls1\.gamma"),
        (lambda t: {n.removeprefix("encoder."): v for n, v in t.items()}, r"\d\d missing, 0 unknown"),
    ],
    ids=["missing", "surplus", "other names"],
)
def test_other_tensors_are_refused(folder, change, message):
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    with pytest.raises(WrongWeights, match=message):
        Dasheng(model=str(folder), device="cpu").load()


def test_the_heads_come_from_the_name_of_the_model(folder):
    (folder / "config.json").write_text(json.dumps({"name": "dasheng-base"}))
    [with_12_heads] = Dasheng(model=str(folder), device="cpu").load()([noise(1, 16000)])
    (folder / "config.json").write_text(json.dumps({"num_heads": 12}))
    np.testing.assert_array_equal(Dasheng(model=str(folder), device="cpu").load()([noise(1, 16000)])[0], with_12_heads)
    (folder / "config.json").write_text(json.dumps({"name": "other"}))
    with pytest.raises(WrongWeights, match=r"must name one of dasheng-base, .* or give `num_heads`"):
        Dasheng(model=str(folder), device="cpu").load()


CALL = """
import numpy as np, torch
from safetensors.torch import load_file
from dasheng.pretrained.pretrained import Dasheng
model = Dasheng(embed_dim=48, depth=2, num_heads=3, target_length=1008).eval()
state = {{name.removeprefix("encoder."): tensor for name, tensor in load_file({weights!r}).items()}}
filters = {{name: tensor for name, tensor in model.state_dict().items() if name.startswith("front_end.")}}
model.load_state_dict(state | filters, strict=True)
with np.load({clips!r}) as clips, torch.inference_mode():
    vectors = [model(torch.from_numpy(clips[name])[None])[0].mean(dim=0).numpy() for name in clips.files]
np.save({answer!r}, vectors)
"""


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_vectors_equal_those_of_the_package_of_the_authors(folder, data_folder, tmp_path):
    reference = Environment(
        "dasheng",
        ("torch==2.13.0", "numpy==2.4.6", "einops==0.8.2", "safetensors==0.8.0"),
        ("dasheng==0.0.9", "torchaudio==2.11.1"),
        (3, 15),
    )
    python = reference.create(data_folder)
    for library in reference.folder(data_folder).glob("lib/python3*/site-packages/torchaudio/lib/*.so"):
        library.unlink()  # needs a CUDA build of torch; the spectrogram needs no library
    clips = [
        noise(5, 16000),
        tone(3, 16000),
        np.zeros(16000, np.float32),
        noise(23.1, 16000, seed=1),
        noise(0.06, 16000),
    ]
    np.savez(tmp_path / "clips.npz", *clips)
    names = {"weights": "model.safetensors", "clips": "clips.npz", "answer": "answer.npy"}
    code = CALL.format(**{name: str(tmp_path / file) for name, file in names.items()})
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / "answer.npy")
    assert expected.shape == (5, 48) and expected.std(axis=0).mean() > 0.1
    np.testing.assert_allclose(Dasheng(model=str(folder), device="cpu").load()(clips), expected, atol=1e-5)
