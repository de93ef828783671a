"""`embed`: the vectors of a study."""

import json

import numpy as np
import pytest
import soundfile

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.contracts.errors import BadClips, BadStudy, NotAvailable
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

DEMO = {"transform": "mel", "n_mels": 64, "colormap": "magma", "resampling": "area", "size": 96}
SETTINGS = {
    "clap": {"model": "demo-clap"},
    "aimv2": {"model": "demo-aimv2", "rendering": DEMO},
    "classical": {},
}
KINDS = {"clap": "clap", "aimv2": "vision", "classical": "features"}


def study_vectors(sounds, encoder):
    rows = sounds.rows(f"SELECT vector FROM embeddings WHERE encoder = '{encoder}' ORDER BY clip")
    return np.array([row["vector"] for row in rows], np.float32)


@pytest.mark.parametrize("encoder", KINDS)
def test_the_vectors_are_those_of_the_study(sounds, encoder, tmp_path):
    """In another data folder, so that they are computed."""
    expected = study_vectors(sounds, encoder)
    vectors = vap.embed(sounds.files, encoder, study=sounds.study, data=tmp_path / "a")
    assert vectors.dtype == np.float32 and vectors.shape == expected.shape
    assert np.allclose(vectors, expected, rtol=0, atol=1e-5)
    described = vap.embed(sounds.files[:3], KINDS[encoder], data=tmp_path / "a", **SETTINGS[encoder])
    assert np.allclose(described, expected[:3], rtol=0, atol=1e-5)


def test_samples_and_files_have_the_same_vectors_in_the_order_given(sounds, tmp_path):
    recordings = [soundfile.read(file, dtype="float32") for file in sounds.files]
    mixed = [recordings[5], sounds.files[2], str(sounds.files[0]), recordings[2]]
    vectors = vap.embed(mixed, "features", data=tmp_path)
    assert np.array_equal(vectors, vap.embed(sounds.files, "features", data=tmp_path)[[5, 2, 0, 2]])
    assert vap.embed(recordings[5], "features", data=tmp_path).shape == (1, vectors.shape[1])


def test_a_repeated_call_computes_nothing(sounds):
    """The vectors of the study are in its result store."""
    store = ResultStore(DataFolder(sounds.data).result_store)
    before = store.count("vector")
    vectors = vap.embed(sounds.files, "aimv2", study=sounds.study, data=sounds.data)
    assert np.array_equal(vectors, study_vectors(sounds, "aimv2"))
    assert store.count("vector") == before
    store.close()


def test_mistakes(sounds, tmp_path):
    sound = vap.example_sound()
    with pytest.raises(BadStudy, match=r"^encoders.clop.kind: unknown encoder kind 'clop'; did you mean 'clap'\?"):
        vap.embed(sound, "clop", data=tmp_path)
    with pytest.raises(BadStudy, match=r"^encoders.clap.modl: unknown key; did you mean 'model'\?"):
        vap.embed(sound, "clap", modl="demo-clap", data=tmp_path)
    with pytest.raises(vap.VlmAudioError, match=r"'clop' must be one of the encoders of sounds; did you mean 'clap'\?"):
        vap.embed(sound, "clop", study=sounds.study, data=tmp_path)
    with pytest.raises(BadStudy, match="model must be set in the study"):
        vap.embed(sound, "clap", study=sounds.study, model="demo-clap", data=tmp_path)
    with pytest.raises(BadClips, match="there are no recordings; give at least one"):
        vap.embed([], "features", data=tmp_path)
    with pytest.raises(BadClips, match=r"^2 of 3 recordings cannot be used:\n  no.wav .*\n  array 2 "):
        vap.embed(["no.wav", sound, ([np.inf], 8000)], "features", data=tmp_path)


def test_missing_weights_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    with pytest.raises(NotAvailable, match=r"weights of laion/clap-htsat-unfused missing.* `vlm-audio fetch STUDY`"):
        vap.embed(vap.example_sound(), "clap", data=tmp_path)


def test_the_data_folder_is_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "here"))
    vap.embed(vap.example_sound(), "features")
    assert json.loads((tmp_path / "here" / "format.json").read_text())
