"""What may go goes, what is needed stays, and nothing young is touched."""

import os
import sqlite3
import time

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.pruning import FileWaste, ResultWaste, find_waste, prune
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

DAY = 86400


def aged(data_folder, days=60):
    """Make everything in a data folder some days old."""
    then = time.time() - days * DAY
    for path in [data_folder.root, *data_folder.root.rglob("*")]:
        os.utime(path, (then, then), follow_symlinks=False)
    with sqlite3.connect(data_folder.result_store) as db:
        db.execute("UPDATE results SET created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)", [f"-{days} days"])
    runs = data_folder.dagster_home / "history" / "runs.db"
    if runs.exists():
        with sqlite3.connect(runs) as db:
            db.execute("UPDATE runs SET create_timestamp = datetime('now', ?)", [f"-{days} days"])


def found(data_folder, **options):
    return {waste.description: waste.count for waste in find_waste(data_folder, **options)}


def test_a_folder_in_use_has_no_waste(done):
    assert find_waste(done.data_folder) == []
    aged(done.data_folder)  # old, but all of it referred to and shown
    assert find_waste(done.data_folder) == []
    assert find_waste(DataFolder(done.folder / "none")) == []


def test_parts_and_vectors_of_what_was_removed_go_and_the_rest_stays(done):
    done.run(done.changed("encoders", more={"kind": "scripted", "dimensions": 6}))
    orphan = done.data_folder.partition_file("embeddings", "bench", "more", 1)
    assert orphan.exists()
    aged(done.data_folder)
    done.run()  # without the encoder: its parts are nobody's now
    before = query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL")
    wastes = find_waste(done.data_folder)
    counts = {waste.description: waste.count for waste in wastes}
    assert counts["partition files that no study record contains"] >= 3
    assert "results (vector) that no partition file refers to" not in counts  # its parts are still there, and name them
    rows = ResultStore(done.data_folder.result_store)
    vectors, others = rows.count("vector"), rows.count("inspection")
    freed = prune(done.data_folder, [w for w in wastes if isinstance(w, FileWaste)])
    assert not orphan.exists() and not orphan.parent.exists() and freed > 0
    (waste,) = [w for w in find_waste(done.data_folder) if isinstance(w, ResultWaste)]
    assert waste.count == 12 and waste.size == 12 * 6 * 4  # vectors of 6 float32
    prune(done.data_folder, [waste])
    assert (rows.count("vector"), rows.count("inspection")) == (vectors - 12, others)
    assert query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL").equals(before)
    assert done.run().steps == [] and find_waste(done.data_folder) == []


def test_young_rows_stay_for_a_run_may_be_about_to_use_them(done):
    rows = ResultStore(done.data_folder.result_store)
    rows.put("vector", [("f" * 64, b"0" * 100)])
    assert find_waste(done.data_folder) == []
    assert found(done.data_folder, days=0)["results (vector) that no partition file refers to"] == 1


def test_answers_go_only_where_that_is_said(done):
    rows = ResultStore(done.data_folder.result_store)
    rows.put("response", [("a" * 64, b"dog"), ("b" * 64, b"rain")])
    rows.put("another", [("c" * 64, b"?")])
    aged(done.data_folder)
    assert found(done.data_folder) == {}
    wastes = find_waste(done.data_folder, responses=True)
    assert [(w.description, w.count, w.size) for w in wastes] == [
        ("results (response) that no partition file refers to, which may have been paid for", 2, 7)
    ]
    prune(done.data_folder, wastes)
    assert (rows.count("response"), rows.count("another")) == (0, 1)


def test_what_killed_processes_left_behind_goes_after_a_day(done):
    left = [
        done.data_folder.partition_file("clips", "bench", None, 1).with_name(".part-0.parquet.123.tmp"),
        done.data_folder.root / ".results.duckdb.99.7.tmp",
        done.data_folder.studies / ".bench.json.7.tmp",
        done.data_folder.datasets / ".esc10.abc" / "archive" / "x.ogg",
        done.data_folder.scratch("bench.spectrograms.paper|1"),
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    assert find_waste(done.data_folder) == []
    for path in [
        *left,
        *(p for folder in [done.data_folder.datasets / ".esc10.abc"] for p in [folder, *folder.rglob("*")]),
    ]:
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    (waste,) = find_waste(done.data_folder)
    assert (waste.description, waste.count) == ("temporary files of killed processes", 5)
    assert waste.size == 5000
    prune(done.data_folder, [waste])
    assert not any(path.exists() for path in left) and not (done.data_folder.datasets / ".esc10.abc").exists()
    assert done.run().steps == []


def test_files_of_a_clock_that_was_set_back_are_left_alone(done):
    path = done.data_folder.partition_file("clips", "bench", None, 1).with_name(".part-0.parquet.123.tmp")
    path.write_bytes(b"x")
    os.utime(path, (time.time() + 9 * DAY,) * 2)
    assert find_waste(done.data_folder) == []


def test_a_damaged_part_hides_no_waste_that_it_may_refer_to(done):
    ResultStore(done.data_folder.result_store).put("vector", [("f" * 64, b"0" * 100)])
    aged(done.data_folder)
    next(iter(done.graph().partition_files(Node("embeddings/bands", 1)).values())).write_bytes(b"broken")
    assert found(done.data_folder) == {}


@pytest.mark.parametrize(("size", "words"), [(0, "0.0 MB"), (999_949_999, "999.9 MB"), (1_000_000_000, "1.0 GB")])
def test_sizes_in_words(size, words):
    from vlm_audio_pipeline.storage.disk_usage import format_bytes

    assert format_bytes(size) == words
