import pytest

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.formats import read_annotations

HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tAnnotation\n"


def test_a_selection_of_several_views_counts_once(tmp_path):
    path = tmp_path / "a.Table.1.selections.txt"
    path.write_text(
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
        "1\tWaveform 1\t1\t1.0\t2.0\t\t\tWREN\n1\tSpectrogram 1\t1\t1.0\t2.0\t500\t900\tWREN\n"
        "2\tWaveform 1\t1\t4.0\t5.0\t\t\tWREN\n"
    )
    events = read_annotations(path).events
    assert [(e.start_s, e.low_hz) for e in events] == [(1, 500), (4, None)]


def test_times_count_from_the_start_of_the_file_where_the_table_has_file_offsets(tmp_path):
    path = tmp_path / "all.txt"
    # The second file begins at 60 s of the sequence: 61.5 s of the sequence is 1.5 s of the file, and the selection lasts 0.5 s.
    path.write_text(
        HEADER
        + "1\tSpectrogram 1\t1\t1.0\t2.0\tC:\\site\\a.wav\t1.0\tx\n2\tSpectrogram 1\t1\t61.5\t62.0\tC:\\site\\b.wav\t1.5\ty\n"
    )
    events = read_annotations(path).events
    assert [(e.recording, e.start_s, e.end_s, e.label) for e in events] == [
        ("C:/site/a.wav", 1, 2, "x"),
        ("C:/site/b.wav", 1.5, 2.0, "y"),
    ]


def test_a_table_of_several_recordings_needs_file_offsets(tmp_path):
    path = tmp_path / "all.txt"
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n"
    path.write_text(header + "1\t1.0\t2.0\ta.wav\tx\n2\t3.0\t4.0\tb.wav\ty\n")
    with pytest.raises(
        BadDataset, match=r"names several recordings, such as a\.wav and b\.wav, .*\(in Raven: the columns `Begin File`"
    ):
        read_annotations(path)
    path.write_text(header + "1\t1.0\t2.0\ta.wav\tx\n2\t3.0\t4.0\ta.wav\ty\n")
    assert [e.start_s for e in read_annotations(path).events] == [1, 3]
