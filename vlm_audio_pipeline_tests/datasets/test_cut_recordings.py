from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import Annotations, Event
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats
from vlm_audio_pipeline.datasets.cut_recordings import collect_events


def collect(files, *names, format_name="table"):
    """Return the events of recordings, for one event with each name in one file."""
    events = tuple(Event(name, 0, 1, "x", origin=f"t.tsv, line {line}") for line, name in enumerate(names, 2))
    content = Annotations(events, recordings=frozenset(names))
    return collect_events(files, [(Path("t.tsv"), annotation_formats()[format_name], content)]).events


def test_two_names_of_a_file_must_not_find_one_recording():
    # two segments of a video, of which one was downloaded, with the id of the video as its name
    with pytest.raises(
        BadDataset, match=r"t\.tsv, line 3: 'v_30000' and 'v_0' are two names in this file, but both find v\.wav"
    ):
        collect(["v.wav"], "v_0", "v_30000", format_name="audioset")
    assert set(collect(["v_0.wav", "v_30.wav"], "v_0", "v_30000", format_name="audioset")) == {"v_0.wav", "v_30.wav"}
    with pytest.raises(BadDataset, match=r"'D:/y/a\.wav' and 'C:/x/a\.wav' are two names"):
        collect(["a.wav"], "C:/x/a.wav", "D:/y/a.wav")
    assert len(collect(["a.wav"], "C:/x/a.wav", "C:/x/a.wav")["a.wav"]) == 2
