"""Queries with damaged partition files: the damage is named, and hides no other file."""

from pathlib import Path

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.catalogue import (
    query,
    rebuild_catalogue,
)
from vlm_audio_pipeline.storage.partition_files import Provenance, read_provenance, write_partition
from vlm_audio_pipeline_tests.storage.example_tables import predictions, study
from vlm_audio_pipeline_tests.storage.test_catalogue import query_rows


def test_a_file_with_a_damaged_footer_is_left_out_with_a_warning_and_hides_no_other_file(data_folder, caplog):
    """Arrow reads its rows, and DuckDB may not: before, every query and every run failed."""
    study(data_folder)
    study(data_folder, "other")
    partition_file = data_folder.partition_file("leaderboard", "s", None, None)
    content = bytearray(partition_file.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[content.index(b"accuracy", footer) - 1] ^= 0x40
    partition_file.write_bytes(content)
    assert query_rows(data_folder, "SELECT DISTINCT study FROM leaderboard") == [("other",)]
    assert str(partition_file) in caplog.text and "run their studies again" in caplog.text


def test_a_leaderboard_leaves_out_files_with_damaged_rows(data_folder, caplog):
    study(data_folder)
    study(data_folder, "other")
    partition_file = data_folder.partition_file("leaderboard", "s", None, None)
    damage_pages(partition_file)
    rows = query(data_folder, "SELECT DISTINCT study FROM leaderboard", leave_out_damaged=True).to_pylist()
    assert rows == [{"study": "other"}]
    assert str(partition_file) in caplog.text


@pytest.mark.parametrize("table", ["clips", "predictions", "leaderboard"])
@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_a_damaged_partition_file_does_not_hide_the_other_files(data_folder, table, keep):
    study(data_folder)
    study(data_folder, "other")
    partition_file = data_folder.partition_file(
        table, "s", "p" if table == "predictions" else None, None if table == "leaderboard" else 1
    )
    partition_file.write_bytes(partition_file.read_bytes()[:keep])
    assert rebuild_catalogue(data_folder)
    assert query_rows(data_folder, f"SELECT DISTINCT study FROM {table} ORDER BY ALL") == (
        [("other",)] if table == "leaderboard" else [("other",), ("s",)]
    )
    assert not rebuild_catalogue(data_folder)


def damage_pages(partition_file: Path) -> None:
    """Overwrite all rows of a partition file but not its footer. The footer's length is 8 bytes before the end."""
    data = partition_file.read_bytes()
    pages = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    partition_file.write_bytes(b"PAR1" + b"\xff" * (pages - 4) + data[pages:])
    assert read_provenance(partition_file) is not None


@pytest.mark.parametrize(
    ("table", "other_table"), [("clips", "leaderboard"), ("predictions", "clips"), ("leaderboard", "predictions")]
)
def test_a_partition_file_with_damaged_rows_is_named_and_hides_no_other_table(data_folder, table, other_table):
    study(data_folder)
    study(data_folder, "other")
    partition_file = data_folder.partition_file(
        table, "s", "p" if table == "predictions" else None, None if table == "leaderboard" else 1
    )
    damage_pages(partition_file)
    rebuild_catalogue(data_folder)
    with pytest.raises(VlmAudioError) as caught:
        query(data_folder, f"SELECT * FROM {table}")
    assert str(caught.value) == (
        f"these partition files are damaged: {partition_file}; delete them and run their studies again"
    )
    assert query_rows(data_folder, f"SELECT DISTINCT study FROM {other_table} ORDER BY ALL") == [("other",), ("s",)]
    partition_file.unlink()
    assert ("other",) in query_rows(data_folder, f"SELECT DISTINCT study FROM {table}")


def test_damaged_clips_are_named_when_predictions_are_queried_with_an_extra_column(data_folder):
    study(data_folder, extra=[("site", "A")])
    partition_file = data_folder.partition_file("clips", "s", None, 2)
    damage_pages(partition_file)
    with pytest.raises(VlmAudioError, match="delete them and run") as caught:
        query(data_folder, "SELECT site, clip FROM Predictions")
    assert str(partition_file) in str(caught.value)


def test_a_partition_file_of_an_older_schema_does_not_hide_the_other_files(data_folder):
    study(data_folder)
    write_partition(
        data_folder.partition_file("predictions", "s", "p", 1),
        predictions().drop_columns("annotator"),
        Provenance("x", "1:0", {}, "d"),
    )
    assert query_rows(data_folder, "SELECT fold, count(*), count(annotator) FROM predictions GROUP BY fold") == [
        (2, 3, 0)
    ]
