import io

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.datasets.audio import samples_digest
from vlm_audio_pipeline.reports.exports.recorded_audio import audio_file
from vlm_audio_pipeline_tests.reports.exports.answers import tone


def test_a_whole_recording_is_copied(answers):
    audio = audio_file(answers.dataset, answers.clips[0])
    assert (audio.content, audio.suffix) == ((answers.dataset.root / "1-dog.wav").read_bytes(), ".wav")


def test_a_segment_is_a_lossless_copy(answers):
    samples = tone(0)[80:400]  # 0.01 s to 0.05 s at 8 kHz
    digest = samples_digest(samples, 8000)
    audio = audio_file(answers.dataset, {**answers.clips[0], "start_s": 0.01, "end_s": 0.05, "samples_sha256": digest})
    decoded, rate = soundfile.read(io.BytesIO(audio.content), dtype="float32")
    assert (audio.suffix, rate) == (".flac", 8000)
    assert np.array_equal(decoded, samples)


def test_a_recording_that_changed_is_refused(answers):
    with pytest.raises(BadClips, match=r"1-dog.wav changed while the study was running"):
        audio_file(answers.dataset, {**answers.clips[0], "samples_sha256": "0" * 64})
