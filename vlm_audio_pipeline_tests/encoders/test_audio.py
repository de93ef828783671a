import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders.audio import Audio
from vlm_audio_pipeline.encoders.pretrained import WrongWeights
from vlm_audio_pipeline_tests.encoders import checkpoints
from vlm_audio_pipeline_tests.encoders.audio_samples import assert_batch_invariant, noise, tone, unusual_clips
from vlm_audio_pipeline_tests.encoders.checkpoints import AST, HUBERT, WAV2VEC2, WAVLM, WHISPER

RATE = 16000
SPEECH = [WAV2VEC2, HUBERT, WAVLM]
ALL = [AST, WHISPER, *SPEECH]


def direct_forward(model: str, clip: np.ndarray) -> np.ndarray:
    """Return the last hidden states (frames, dimensions) of one clip from a direct forward pass of the model class."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    folder = Audio(model=model).weights.snapshot()
    net = AutoModel.from_pretrained(folder).eval()
    inputs = AutoFeatureExtractor.from_pretrained(folder)(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        return (net.get_encoder() if model == WHISPER else net)(**inputs).last_hidden_state[0].numpy()


@pytest.mark.parametrize("model", SPEECH)
def test_speech_models_equal_a_direct_forward_and_the_mean_of_its_frames(hub, model):
    hub(model)
    clip = noise(1, RATE)
    hidden = direct_forward(model, clip)
    assert hidden.shape == (49, 32)  # 16,000 samples, frames of 400 samples, hop 320
    np.testing.assert_allclose(Audio(model=model).load()([clip])[0], hidden.mean(0), atol=1e-5)


def test_ast_equals_a_direct_forward_and_the_mean_of_the_patches_within_the_clip(hub):
    hub(AST)
    encode = Audio(model=AST).load()
    full = noise(0.64, RATE)
    hidden = direct_forward(AST, full)
    # (32 - 16) / 10 + 1 = 2 bands; (64 - 16) / 10 + 1 = 5 time steps; two special tokens come first
    assert hidden.shape == (12, 32)
    np.testing.assert_allclose(encode([full])[0], hidden[2:].mean(0), atol=1e-5)
    # 0.2 s: 1 + (3200 - 400) // 160 = 18 frames; patches that begin at 0 and 10 are inside, those at 20, 30, 40 are not
    half = full[:3200]
    by_band = direct_forward(AST, half)[2:].reshape(2, 5, 32)
    np.testing.assert_allclose(encode([half])[0], by_band[:, :2].mean((0, 1)), atol=1e-5)


def test_whisper_equals_a_direct_forward_of_its_encoder_and_the_mean_of_the_frames_within_the_clip(hub):
    hub(WHISPER)
    clip = noise(0.5, RATE)
    hidden = direct_forward(WHISPER, clip)
    assert hidden.shape == (100, 32)  # 2 s, a frame every 20 ms
    np.testing.assert_allclose(Audio(model=WHISPER).load()([clip])[0], hidden[:25].mean(0), atol=1e-5)


@pytest.mark.parametrize("model", ALL)
def test_vectors_do_not_depend_on_the_batch_or_its_order(hub, model):
    hub(model)
    clips = [noise(s, RATE, i) for i, s in enumerate((1, 0.4, 1, 1, 0.02, 2.5, 0.001, 1))]
    assert_batch_invariant(Audio(model=model).load(), clips, Audio(model=model, batch_size=1).load())


@pytest.mark.parametrize("model", ALL)
def test_unusual_clips_give_finite_vectors(hub, model):
    hub(model)
    vectors = np.stack(Audio(model=model).load()(unusual_clips(RATE)))
    assert vectors.shape == (5, 32) and np.isfinite(vectors).all()


@pytest.mark.parametrize(("model", "window"), [(AST, 0.64), (WHISPER, 2.0), (WAV2VEC2, 30.0)])
def test_longer_clips_are_averaged_over_windows_weighted_by_length(hub, model, window):
    hub(model)
    encode = Audio(model=model).load()
    length = round(window * RATE)
    clip = tone(2.25 * window, RATE) + noise(2.25 * window, RATE)
    first, second, rest = encode([clip[:length], clip[length : 2 * length], clip[2 * length :]])
    # two windows and a quarter: (4 * first + 4 * second + 1 * rest) / 9
    np.testing.assert_allclose(encode([clip])[0], (4 * first + 4 * second + rest) / 9, atol=1e-5)


@pytest.mark.parametrize("model", ALL)
def test_bfloat16_is_optional_and_not_the_default(hub, model):
    hub(model)
    [vector] = Audio(model=model, dtype="bfloat16").load()([noise(0.5, RATE)])
    assert vector.dtype == np.float32 and np.isfinite(vector).all()
    assert not Audio.bf16_safe and Audio(dtype="auto", device="cuda").number_format == "float32"


def test_the_sample_rate_comes_from_the_files_of_the_model(cache):
    assert Audio(model="org/unknown").sample_rate_hz == 16000

    def at_8_khz(folder):
        from transformers import Wav2Vec2FeatureExtractor

        checkpoints.checkpoint(WAV2VEC2)(folder)
        Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)

    checkpoints.publish(cache, WAV2VEC2, at_8_khz)
    assert Audio(model=WAV2VEC2).sample_rate_hz == 8000
    assert "at 8000 Hz" in Audio(model=WAV2VEC2).stages("e")[0].description
    assert np.isfinite(Audio(model=WAV2VEC2).load()([noise(1, 8000)])).all()


def test_the_sample_rate_may_be_in_the_processor(cache):
    import json

    def nested(folder):
        for name in ("config.json", "model.safetensors"):
            (folder / name).write_text("{}")
        (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": {"sampling_rate": 24000}}))

    checkpoints.publish(cache, "org/model", nested)
    assert Audio(model="org/model").sample_rate_hz == 24000


def test_a_missing_tensor_is_an_error_unless_it_is_used_in_training_only(cache):
    from safetensors.torch import load_file, save_file

    def without(*names):
        def write(folder):
            checkpoints.checkpoint(WAV2VEC2)(folder)
            tensors = load_file(folder / "model.safetensors")
            assert set(names) <= set(tensors)
            rest = {k: v for k, v in tensors.items() if k not in names} | {"lm_head.weight": tensors[names[0]].clone()}
            save_file(rest, folder / "model.safetensors", {"format": "pt"})

        return write

    checkpoints.publish(cache, WAV2VEC2, without("masked_spec_embed"))
    Audio(model=WAV2VEC2).load()  # an additional head of another task is ignored
    checkpoints.publish(cache, WAV2VEC2, without("encoder.layers.1.attention.k_proj.weight"))
    with pytest.raises(WrongWeights, match=r"1 missing \(encoder.layers.1.attention.k_proj.weight\)"):
        Audio(model=WAV2VEC2).load()


def test_missing_weights_and_other_kinds_of_models(cache):
    with pytest.raises(NotAvailable, match=r"weights of MIT/ast-finetuned-audioset-10-10-0.4593 missing"):
        Audio().load()
    checkpoints.publish(cache, checkpoints.DINOV2, checkpoints.checkpoint(checkpoints.DINOV2))
    with pytest.raises(
        VlmAudioError, match=r"kind audio must have one of the types .*whisper, got facebook/dinov2-base of type dinov2"
    ):
        Audio(model=checkpoints.DINOV2).load()


@pytest.mark.parametrize(("model", "title"), [(AST, "AST"), (WHISPER, "Whisper"), (WAVLM, "WavLM"), ("org/x", "org/x")])
def test_cards_are_available_before_the_weights(cache, model, title):
    assert Audio(model=model).card.title.startswith(title)
