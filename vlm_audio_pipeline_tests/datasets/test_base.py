import hashlib
import struct

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadClips, BadDataset
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Clip, Dataset, check_listing

GOOD = (Clip("1", "a", 1, "s1", "1.wav"), Clip("2", "a", 2, "s2", "2.wav"))


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ((), "a dataset must list at least one clip, got none; check its path"),
        ((*GOOD, Clip("1", "a", 2, "s3", "3.wav")), "clip ids must be unique, got 1 that occur more than once: '1'"),
        ((*GOOD, Clip("3", "b", 2, "s3", "3.wav")), r"labels must be among the classes \['a'\], got also 'b'"),
        ((*GOOD, Clip("3", "a", 0, "s3", "3.wav")), "folds must be whole numbers of 1 or more, got others for '3'"),
    ],
)
def test_listings_that_are_refused(clips, message):
    check_listing(GOOD, ("a",))
    with pytest.raises(BadDataset, match=message):
        check_listing(clips, ("a",))


def test_samples_are_checked_before_they_are_resampled(tmp_path):
    values = [0.5, -0.25, -0.75, 0.0]
    soundfile.write(tmp_path / "1.wav", np.array(values), 8000, subtype="FLOAT")
    load = Dataset(tmp_path, ("a",), GOOD, Card("t")).load
    sha, other_rate = (hashlib.sha256(struct.pack("<4fI", *values, rate)).hexdigest() for rate in (8000, 16000))
    assert load("1.wav", 8000, sha256=sha).tolist() == values
    assert len(load("1.wav", 16000, sha256=sha)) == 8
    with pytest.raises(BadClips, match=r"recording .*1\.wav changed since it was looked at; run again"):
        load("1.wav", 16000, sha256=other_rate)


@pytest.mark.parametrize("kind", ["csv", "esc10", "esc50", "folder", "synthetic"])
def test_each_class_is_named_once(kind, tmp_path):
    place = {} if kind == "synthetic" else {"path": tmp_path}
    with pytest.raises(ValidationError, match="classes must be distinct, got dog, rain, dog; name each once"):
        DATASETS.get(kind)(**place, classes=("dog", "rain", "dog"))
    assert DATASETS.get(kind)(**place, classes=("rain", "dog")).classes == ("rain", "dog")
