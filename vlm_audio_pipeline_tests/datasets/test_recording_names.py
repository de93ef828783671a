import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.recording_names import RecordingNames, resolve

FILES = ["site1/a.wav", "site2/a.wav", "site2/b.flac", "c.mp3"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("site1/a.wav", "site1/a.wav"),
        ("C:/data/site2/a.wav", "site2/a.wav"),
        ("b.flac", "site2/b.flac"),
        ("b", "site2/b.flac"),
        ("/elsewhere/b.wav", "site2/b.flac"),  # another format of it
        ("c.mp3", "c.mp3"),
        ("d.wav", None),
    ],
)
def test_a_name_finds_the_recording_that_agrees_longest(name, expected):
    if name == "/elsewhere/b.wav":
        assert RecordingNames(FILES).find(name) is None  # `b.wav` is no name of `b.flac`
    else:
        assert RecordingNames(FILES).find(name) == expected


def test_an_ambiguous_name_is_refused_with_its_line():
    with pytest.raises(
        BadDataset, match=r"t.txt, line 3: 'a.wav' may be any of site1/a.wav, site2/a.wav; write enough folders"
    ):
        resolve(RecordingNames(FILES), "a.wav", "t.txt, line 3", lambda name: ())


def test_the_suffix_decides_between_copies():
    assert RecordingNames(["a.wav", "a.mp3"]).find("x/a.mp3") == "a.mp3"


def test_aliases_are_tried_last():
    names = RecordingNames(["Yabc.wav", "abc_30.wav"])
    assert names.find("abc_30000", ("abc_30", "Yabc")) == "abc_30.wav"
    assert names.find("x", ("y",)) is None
    assert names.suggest("abc_31.wav").startswith("did you mean 'abc_30.wav'?")
