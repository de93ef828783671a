"""Records of studies: written once, read back, and repaired by the next run."""

import json
import os

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.catalogue import (
    query,
    rebuild_catalogue,
    study_records,
    write_study_record,
)
from vlm_audio_pipeline.storage.study_records import study_record
from vlm_audio_pipeline_tests.storage.example_tables import study
from vlm_audio_pipeline_tests.storage.test_catalogue import query_rows
from vlm_audio_pipeline_tests.storage.test_damaged_catalogue import damage_pages


def test_a_study_record_is_read_back_and_is_not_rewritten_without_changes(data_folder):
    written = study(data_folder, "ä")
    assert study_records(data_folder) == {"ä": written}
    path = data_folder.studies / "ä.json"
    os.utime(path, ns=(1, 1))
    write_study_record(data_folder, "ä", dict(reversed(written.items())))
    assert path.stat().st_mtime_ns == 1
    write_study_record(data_folder, "ä", written | {"limit": 3})
    assert study_records(data_folder)["ä"]["limit"] == 3
    assert [p.name for p in data_folder.studies.iterdir()] == ["ä.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"partition_files": {"clips": [7]}}',
        b'{"partition_files": {"clips": ["gone"]}, "extra_columns": [], "checksum": "0"}',
        b'{"partition_files": {}, "file": 7}',
        b'{"partition_files": {}, "limit": "5"}',
        b'{"partition_files": {}, "study": []}',
    ],
)
def test_a_damaged_study_record_is_named_and_the_next_run_replaces_it(data_folder, content):
    record = study(data_folder)
    (data_folder.studies / "s.json").write_bytes(content)
    for read in (study_records, lambda folder: study_record(folder, "s")):
        with pytest.raises(VlmAudioError, match=r"study record .*s\.json cannot be read.*run the study again"):
            read(data_folder)
    write_study_record(data_folder, "s", record)
    assert query_rows(data_folder, "SELECT count(*) FROM clips") == [(6,)]


def test_a_flipped_bit_in_a_study_record_is_detected(data_folder):
    record = study(data_folder)
    path = data_folder.studies / "s.json"
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        try:
            read = study_records(data_folder)["s"]
            assert read == record or b'"checksum"' not in damaged  # without it, the record counts as an older one
        except VlmAudioError as error:
            assert str(path) in str(error)


def test_a_damaged_study_record_hides_no_other_study(data_folder, caplog):
    study(data_folder)
    study(data_folder, "other")
    (data_folder.studies / "s.json").write_bytes(b"{")
    assert rebuild_catalogue(data_folder)
    assert query_rows(data_folder, "SELECT DISTINCT study FROM clips") == [("other",)]
    assert "s.json cannot be read" in caplog.text
    damage_pages(data_folder.partition_file("clips", "other", None, 1))
    with pytest.raises(VlmAudioError, match=r"partition files are damaged: .*study=other"):
        query(data_folder, "SELECT label FROM clips")


def test_a_study_record_of_an_older_version_has_no_checksum(data_folder):
    record = study(data_folder)
    (data_folder.studies / "s.json").write_text(json.dumps(record))
    assert study_records(data_folder) == {"s": record}


def test_a_folder_in_the_place_of_a_study_record_is_set_aside(data_folder):
    record = study(data_folder)
    path = data_folder.studies / "s.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(VlmAudioError, match="study record"):
        study_records(data_folder)
    write_study_record(data_folder, "s", record)
    assert study_records(data_folder) == {"s": record}
