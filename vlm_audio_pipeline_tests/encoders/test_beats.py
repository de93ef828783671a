"""BEATs against transformers, torch and speechbrain, on small random weights in the authors' format."""

import subprocess

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vlm_audio_pipeline.encoders.beats import Beats
from vlm_audio_pipeline.encoders.beats_network import Settings, bucket
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.encoders.kaldi import log_mel
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant, noise, tone, unusual_clips

FILE = "BEATs_iter3_plus_AS2M.pt"


@pytest.fixture
def folder(tmp_path):
    """A folder with a small random model."""
    torch.manual_seed(0)
    checkpoints.beats(tmp_path)
    return tmp_path


def test_the_filter_bank_is_that_of_transformers():
    """AST's feature extractor computes the same filter bank, frame by frame."""
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    samples = noise(1, 16000) * 2**15
    with pytest.warns(UserWarning, match="mel filter has all zero values"):
        filters = mel_filter_bank(
            257, 128, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
        )
    expected = spectrogram(
        samples,
        window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.1920929e-07,
        remove_dc_offset=True,
    ).T
    assert expected.shape == (98, 128)  # 1 + (16,000 - 400) // 160
    np.testing.assert_allclose(log_mel(samples), expected, atol=2e-3)


@pytest.mark.slow  # T5 takes seconds to import
def test_buckets_of_distances_are_those_of_t5():
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-1000, 1001)
    expected = T5Attention._relative_position_bucket(distances, bidirectional=True, num_buckets=320, max_distance=800)
    assert torch.equal(bucket(distances, 320, 800), expected)


def test_the_vector_is_that_of_speechbrain(folder):
    """The first numbers of the mean of `BEATs.extract_features` of speechbrain 1.1.2 with this checkpoint; all of them in the network lane."""
    expected = [0.16741, 0.444538, -0.727318, -0.127213, -0.170439, 0.259106]
    [vector] = Beats(model=str(folder), device="cpu").load()([noise(5, 16000)])
    assert vector.shape == (48,)
    np.testing.assert_allclose(vector[:6], expected, atol=1e-5)


def test_long_clips_are_averaged_over_windows_and_short_ones_padded(folder):
    encode = Beats(model=str(folder), device="cpu").load()
    clip = noise(12, 16000)  # windows of 10 s that begin at 0 and 2 s
    long_clip, first, last, short, padded = encode(
        [clip, clip[:160_000], clip[-160_000:], clip[:100], np.pad(clip[:100], (0, 2700))]
    )
    np.testing.assert_allclose(long_clip, (first + last) / 2, atol=1e-5)
    np.testing.assert_array_equal(short, padded)


def test_vectors_do_not_depend_on_the_batch_or_its_order(folder):
    clips = [*unusual_clips(16000), noise(1, 16000), tone(2.5, 16000)]
    encode, singly = (Beats(model=str(folder), device="cpu", batch_size=n).load() for n in (16, 1))
    assert_batch_invariant(encode, clips, singly)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("encoder.layers.1.fc2.bias"), r"1 missing, 0 unknown.*encoder\.layers\.1\.fc2\.bias"),
        (lambda c: c["cfg"].update(layer_norm_first=True), r"must contain .*got \{'layer_norm_first': True\}"),
        (lambda c: c["cfg"].pop("num_buckets"), "must contain `cfg` and `model`.*num_buckets"),
        (lambda c: c.pop("cfg"), "must contain `cfg` and `model`.*cfg"),
    ],
    ids=["missing", "variant", "setting", "no settings"],
)
def test_other_checkpoints_are_refused(folder, change, message):
    content = torch.load(folder / FILE, weights_only=True)
    change(content)
    torch.save(content, folder / FILE)
    with pytest.raises(WrongWeights, match=message):
        Beats(model=str(folder), device="cpu").load()


def test_code_in_a_checkpoint_is_not_run(folder, tmp_path):
    class FileWriter:
        def __reduce__(self):
            return (open, (str(tmp_path / "done"), "w"))

    torch.save({"cfg": {}, "model": {}, "more": FileWriter()}, folder / FILE)
    with pytest.raises(WrongWeights, match="does not contain weights only"):
        Beats(model=str(folder), device="cpu").load()
    assert not (tmp_path / "done").exists()


def test_the_model_must_be_given_because_the_authors_have_no_repository(folder):
    with pytest.raises(ValidationError, match="model"):
        Beats()
    assert Beats(model=str(folder)).unavailable() is None
    assert "there is no other.pt" in str(Beats(model=str(folder), checkpoint="other.pt").unavailable())


def test_the_scale_of_residuals_is_that_of_deep_norm():
    assert (
        Settings.from_checkpoint({**checkpoints.BEATS_SETTINGS, "encoder_layers": 8}).residual_scale == 2
    )  # 16 ** (1 / 4)
    assert Settings.from_checkpoint({**checkpoints.BEATS_SETTINGS, "deep_norm": False}).residual_scale == 1


CALL = """
import importlib.util, sys, types
import numpy as np, torch
names = ("speechbrain", "speechbrain.dataio", "speechbrain.dataio.dataio")
sys.modules.update({{name: types.ModuleType(name) for name in names}})  # only the one file of speechbrain is needed
sys.modules[names[2]].length_to_mask = lambda lengths, size, device: torch.ones(len(lengths), size)  # nothing is padded
spec = importlib.util.spec_from_file_location("beats", {code!r})
beats = importlib.util.module_from_spec(spec)
spec.loader.exec_module(beats)
model = beats.BEATs(ckp_path={weights!r})
with np.load({clips!r}) as clips:
    vectors = [model(torch.from_numpy(clips[n])[None], torch.ones(1))[0][0].mean(dim=0).numpy() for n in clips.files]
np.save({answer!r}, vectors)
"""


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_vectors_equal_those_of_speechbrain(folder, data_folder, tmp_path):
    """speechbrain contains the code of the authors, who publish no package."""
    requirements = ("torch==2.13.0", "numpy==2.4.6")
    reference = Environment("speechbrain", requirements, ("speechbrain==1.1.2", "torchaudio==2.11.1"), (3, 15))
    python = reference.create(data_folder)
    [packages] = reference.folder(data_folder).glob("lib/python3*/site-packages")
    for library in packages.glob("torchaudio/lib/*.so"):
        library.unlink()  # needs a CUDA build of torch; the filter bank needs no library
    clips = [noise(5, 16000), np.zeros(16000, np.float32), noise(10, 16000, seed=1), noise(0.2, 16000), tone(3, 16000)]
    np.savez(tmp_path / "clips.npz", *clips)
    paths = {
        name: str(tmp_path / file)
        for name, file in (("weights", FILE), ("clips", "clips.npz"), ("answer", "answer.npy"))
    }
    code = CALL.format(code=str(packages / "speechbrain" / "lobes" / "models" / "beats.py"), **paths)
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / "answer.npy")
    assert expected.shape == (5, 48) and expected.std(axis=0).mean() > 0.1
    vectors = Beats(model=str(folder), device="cpu").load()(clips)
    np.testing.assert_allclose(vectors[:4], expected[:4], atol=1e-5)
    # Between the spectral lines of a tone, logarithms amplify the rounding of float32.
    np.testing.assert_allclose(vectors[4], expected[4], atol=2e-3)
