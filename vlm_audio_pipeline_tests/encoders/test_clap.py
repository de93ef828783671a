import os
import subprocess
import sys

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.encoders.clap import Clap, windows
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline.encoders.texts import embed_texts, logit_scale
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant, noise, odd_clips, tone
from vlm_audio_pipeline_tests.encoders.checkpoints import CLAP, FUSED

RATE = 48000
LENGTH = 5 * RATE  # the window of the tiny checkpoint, samples
LABELS = ["dog", "rain", "sea waves", "crying baby", "clock tick"]


@pytest.mark.parametrize("model", [CLAP, FUSED])
def test_zero_shot_scores_equal_those_of_transformers_own_pipeline(hub, tmp_path, model):
    from transformers import ClapModel, pipeline

    commit = hub(model)
    folder = Clap(model=model).weights.snapshot()
    assert folder.name == commit
    theirs = pipeline("zero-shot-audio-classification", model=str(folder), device="cpu")
    assert isinstance(theirs.model, ClapModel)
    clips = [noise(5, RATE), tone(5, RATE), noise(1.3, RATE, 1), np.zeros(RATE, np.float32)]

    spec, rows = Clap(model=model), ResultStore(tmp_path / "results.sqlite")
    audio = np.stack(spec.load()(clips))
    texts = embed_texts(spec, [f"This is a sound of {label}." for label in LABELS], rows)
    logits = logit_scale(spec, rows) * audio @ texts.T
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for clip, row in zip(clips, scores, strict=True):
        said = {d["label"]: d["score"] for d in theirs(clip, candidate_labels=LABELS)}
        np.testing.assert_allclose(row, [said[label] for label in LABELS], atol=1e-4)
    assert np.ptp(scores, axis=0).max() > 1e-3  # the clips differ, or this would show nothing
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("model", [CLAP, FUSED])
def test_neither_batch_nor_order_nor_the_random_state_matters(hub, model):
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


def test_windows_reach_the_end():
    assert windows(20, 10) == [(0, 10), (10, 20)]
    assert windows(21, 10) == [(0, 10), (10, 20), (11, 21)]
    assert windows(1, 10) == [(0, 1)]


def test_odd_clips_give_finite_vectors(hub):
    hub(CLAP)
    vectors = np.stack(Clap().load()(odd_clips(RATE)))
    assert vectors.shape == (5, 32) and np.isfinite(vectors).all()


@pytest.mark.slow
def test_ten_minutes_fit_into_little_memory(hub):
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
    # the clip has 115 MB; eight windows of 5 s in float64 and their spectra are about 60 MB, whatever the clip's length
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


def test_a_tokenizer_that_is_not_the_models_is_refused(cache):
    """Without its files, transformers can hand back a tokenizer of a few pieces instead of raising."""

    def without(folder):
        checkpoints.checkpoint(CLAP)(folder)
        for name in ("tokenizer.json", "vocab.json", "merges.txt"):
            (folder / name).unlink(missing_ok=True)

    checkpoints.publish(cache, CLAP, without)
    with pytest.raises(WrongWeights, match=r"the tokenizer of laion/clap-htsat-unfused must .*`vlm-audio fetch STUDY`"):
        Clap().load_text()


def test_bfloat16_is_close_and_has_keys_of_its_own(hub):
    hub(CLAP)
    clips = [noise(5, RATE), tone(5, RATE)]
    exact, short = (np.stack(Clap(dtype=d).load()(clips)) for d in ("float32", "bfloat16"))
    assert (exact * short).sum(1).min() > 0.99
    assert Clap(dtype="float32").result_key("x") != Clap(dtype="bfloat16").result_key("x")
    assert Clap(dtype="float32", device="cpu").result_key("x") == Clap(device="cpu", batch_size=2).result_key("x")


def test_the_rate_is_the_models_own(cache):
    assert Clap().sample_rate_hz == RATE  # nothing here yet: what LAION's models were trained at
