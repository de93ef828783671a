import os
import subprocess
import sys

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline.encoders.texts import embed_texts
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant, noise, tone, unusual_clips
from vlm_audio_pipeline_tests.encoders.checkpoints import CLAP, FUSED

RATE = 48000
LENGTH = 5 * RATE  # the window of the tiny checkpoint, samples
LABELS = ["dog", "rain", "sea waves", "crying baby", "clock tick"]


@pytest.mark.parametrize("model", [CLAP, FUSED])
def test_zero_shot_scores_equal_those_of_the_transformers_pipeline(hub, tmp_path, model):
    from transformers import ClapModel, pipeline

    commit = hub(model)
    folder = Clap(model=model).weights.snapshot()
    assert folder.name == commit
    reference_pipeline = pipeline("zero-shot-audio-classification", model=str(folder), device="cpu")
    assert isinstance(reference_pipeline.model, ClapModel)
    clips = [noise(5, RATE), tone(5, RATE), noise(1.3, RATE, 1), np.zeros(RATE, np.float32)]

    spec, rows = Clap(model=model), ResultStore(tmp_path / "results.sqlite")
    audio = np.stack(spec.load()(clips))
    texts, scale = embed_texts(spec, [f"This is a sound of {label}." for label in LABELS], rows, LocalEngine())
    logits = scale * audio @ texts.T
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for clip, row in zip(clips, scores, strict=True):
        expected = {d["label"]: d["score"] for d in reference_pipeline(clip, candidate_labels=LABELS)}
        np.testing.assert_allclose(row, [expected[label] for label in LABELS], atol=1e-4)
    assert np.ptp(scores, axis=0).max() > 1e-3  # the scores of the clips differ
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("model", [CLAP, FUSED])
def test_vectors_do_not_depend_on_batch_order_or_random_state(hub, model):
    hub(model)
    clips = [noise(s, RATE, i) for i, s in enumerate((5, 1, 0.3, 5, 12, 5, 7, 2))]
    np.random.seed(1)
    first = assert_batch_invariant(Clap(model=model).load(), clips, Clap(model=model, batch_size=1).load())
    np.random.seed(2)
    np.testing.assert_array_equal(Clap(model=model).load()(clips), first)


def test_longer_clips_are_averaged_over_consecutive_windows(hub):
    hub(CLAP)
    encode = Clap().load()
    clip = noise(12, RATE)
    parts = np.stack(encode([clip[:LENGTH], clip[LENGTH : 2 * LENGTH], clip[-LENGTH:]]))
    mean = parts.astype(np.float64).mean(0)
    np.testing.assert_allclose(encode([clip])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_unusual_clips_give_finite_vectors(hub):
    hub(CLAP)
    vectors = np.stack(Clap().load()(unusual_clips(RATE)))
    assert vectors.shape == (5, 32) and np.isfinite(vectors).all()


@pytest.mark.slow
def test_ten_minutes_need_little_memory(hub):
    hub(CLAP)
    code = """
import resource, sys
import numpy as np
from vlm_audio_pipeline.encoders.clap import Clap
encode = Clap(batch_size=8).load()
encode([np.ones(48000, np.float32)] * 8)  # libraries, filters, buffers
clip = np.random.default_rng(0).standard_normal(600 * 48000, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
[vector] = encode([clip])
assert np.isfinite(vector).all()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    # The clip has 115 MB; eight windows of 5 s in float64 and their spectra are about 60 MBfor any length of the clip
    assert float(done.stdout) < 150, done.stdout


def test_missing_weights(cache):
    with pytest.raises(NotAvailable, match=r"weights of laion/clap-htsat-fused missing \(revision v1\)"):
        Clap(model=FUSED, revision="v1").load()


def test_a_missing_tensor_is_an_error_that_names_it(cache):
    from safetensors.torch import load_file, save_file

    def damaged(folder):
        checkpoints.checkpoint(CLAP)(folder)
        tensors = load_file(folder / "model.safetensors")
        del tensors["audio_projection.linear1.weight"]
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    commit = checkpoints.publish(cache, CLAP, damaged)
    with pytest.raises(WrongWeights, match=f"revision {commit}.*1 missing .audio_projection.linear1.weight"):
        Clap().load()


def test_a_tokenizer_of_another_model_is_refused(cache):
    """If files are missing, transformers can return a tokenizer with a few tokens instead of an error."""

    def without(folder):
        checkpoints.checkpoint(CLAP)(folder)
        for name in ("tokenizer.json", "vocab.json", "merges.txt"):
            (folder / name).unlink(missing_ok=True)

    checkpoints.publish(cache, CLAP, without)
    with pytest.raises(WrongWeights, match=r"the tokenizer of laion/clap-htsat-unfused has .*`vlm-audio fetch STUDY`"):
        Clap().load_text_encoder()


def test_bfloat16_is_close_and_has_its_own_result_keys(hub):
    hub(CLAP)
    clips = [noise(5, RATE), tone(5, RATE)]
    exact, short = (np.stack(Clap(dtype=d).load()(clips)) for d in ("float32", "bfloat16"))
    assert (exact * short).sum(1).min() > 0.99
    assert Clap(dtype="float32").result_key("x") != Clap(dtype="bfloat16").result_key("x")
    assert Clap(dtype="float32", device="cpu").result_key("x") == Clap(device="cpu", batch_size=2).result_key("x")


def test_the_sample_rate_is_that_of_the_model(cache):
    assert Clap().sample_rate_hz == RATE  # without weights: the training sample rate of the LAION models
