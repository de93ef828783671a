"""Properties of every registered encoder."""

import re
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlm_audio_pipeline.contracts.field_docs import field_docs
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.encoders.isolated import IsolatedProcess
from vlm_audio_pipeline.encoders.isolated_clap import IsolatedClap
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import tone, unusual_clips
from vlm_audio_pipeline_tests.encoders.isolated_programs import LOUDNESS_WORKER
from vlm_audio_pipeline_tests.encoders.window_environments import write_birdnet, write_perch

NEEDED: dict[str, dict[str, Any]] = {kind: {"rendering": "paper"} for kind in ("vision", "pixels")} | {
    "beats": {"model": checkpoints.BEATS}
}
"""Fields without a default."""


def make_encoder(kind: str, **more: Any) -> EncoderSpec:
    return ENCODERS.get(kind)(**NEEDED.get(kind, {}), **more)


def unusual_images() -> list[Image.Image]:
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    return [Image.fromarray(np.stack([ramp, ramp.T, ramp], -1)), Image.new("RGB", (64, 64)), Image.new("RGB", (1, 1))]


@pytest.mark.parametrize("kind", ENCODERS.all())
def test_every_encoder_declares_its_properties(kind, cache):
    spec = make_encoder(kind)
    undocumented = [name for name in type(spec).model_fields if name not in field_docs(type(spec))]
    assert not undocumented and type(spec).__doc__
    assert isinstance(spec.card, ModelCard) and spec.card.title and spec.card.training_data
    assert (spec.sample_rate_hz == 0) == spec.takes_images and spec.number_format == "float32"
    assert make_encoder(kind, batch_size=3).fingerprint() == spec.fingerprint()
    [stage] = spec.stages("e")
    assert stage.asset == "embeddings" and stage.version == spec.step_version >= 1
    assert {i.asset for i in stage.inputs} <= {"clips", "spectrograms", "models"}
    # the cache folder is empty: an encoder that needs weights or a package reports the command that installs them
    assert (spec.unavailable() is None) == (spec.weights is None)
    if spec.weights:
        assert re.search(r"missing.*`(vlm-audio fetch|pip install)", str(spec.unavailable()))


@pytest.mark.parametrize("kind", ENCODERS.all())
def test_vectors_are_deterministic_finite_and_of_equal_length(kind, hub, data_folder, monkeypatch):
    spec = make_encoder(kind)
    monkeypatch.setenv("VLM_AUDIO_DATA", str(data_folder.root))
    if write := {"birdnet": write_birdnet, "perch": write_perch}.get(kind):
        write(data_folder)
    if kind == "music2latent":
        pytest.importorskip("music2latent", reason="the extra music2latent is not installed")
        checkpoints.narrow_music2latent(monkeypatch)
    if isinstance(spec, IsolatedClap):
        worker = (spec.environment.name, (sys.executable, "-c", LOUDNESS_WORKER), {})
        monkeypatch.setattr(type(spec), "_worker", lambda self: IsolatedProcess(*worker))
        monkeypatch.setattr(type(spec), "unavailable", lambda self: None)
    elif spec.weights and not spec.weights.is_folder:
        if spec.weights.model not in checkpoints.WRITERS:
            pytest.skip(f"there is no tiny checkpoint of {spec.weights.model}")
        hub(spec.weights.model)
    if (reason := spec.unavailable()) is not None:
        pytest.skip(reason)
    items = (
        unusual_images() if spec.takes_images else [*unusual_clips(spec.sample_rate_hz), tone(2.5, spec.sample_rate_hz)]
    )
    encode = spec.load()
    vectors = encode(items)
    assert len(vectors) == len(items)
    for vector in vectors:
        assert vector.dtype == np.float32 and vector.ndim == 1 and np.isfinite(vector).all()
    assert len({len(v) for v in vectors}) == 1
    for other in (
        encode(items),
        make_encoder(kind).load()(items),
        list(encode(items[::-1]))[::-1],
        [encode([i])[0] for i in items],
    ):
        np.testing.assert_allclose(other, vectors, rtol=1e-5, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])  # a tone is not silence
