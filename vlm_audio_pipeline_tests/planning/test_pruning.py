"""Pruning deletes unused files and results, keeps what is needed, and ignores recent files."""

import sqlite3

import pytest

from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.pruning import UnusedFiles, UnusedResults, find_unused_items, prune
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.file_times import set_age


def make_older(data_folder, days=60):
    """Set the age of everything in a data folder to some days."""
    set_age([data_folder.root, *data_folder.root.rglob("*")], days)
    with sqlite3.connect(data_folder.result_store) as db:
        db.execute("UPDATE results SET created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)", [f"-{days} days"])
    runs = data_folder.dagster_home / "history" / "runs.db"
    if runs.exists():
        with sqlite3.connect(runs) as db:
            db.execute("UPDATE runs SET create_timestamp = datetime('now', ?)", [f"-{days} days"])


def waste_counts(data_folder, **options):
    return {waste.description: waste.count for waste in find_unused_items(data_folder, **options)}


def test_a_data_folder_in_use_has_no_waste(done):
    assert find_unused_items(done.data_folder) == []
    make_older(done.data_folder)  # old, but all of it is in use
    assert find_unused_items(done.data_folder) == []
    assert find_unused_items(DataFolder(done.folder / "none")) == []


def test_partition_files_and_vectors_of_a_removed_encoder_are_deleted_and_the_rest_stays(done):
    done.run(done.changed_study("encoders", more={"kind": "scripted", "dimensions": 6}))
    orphan = done.data_folder.partition_file("embeddings", "bench", "more", 1)
    assert orphan.exists()
    make_older(done.data_folder)
    done.run()  # without the encoder: no study record contains its partition files
    before = query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL")
    wastes = find_unused_items(done.data_folder)
    counts = {waste.description: waste.count for waste in wastes}
    assert counts["partition files that no study record contains"] >= 3
    assert (
        "results (vector) that no partition file refers to" not in counts
    )  # its partition files still exist and refer to them
    result_store = ResultStore(done.data_folder.result_store)
    vectors, others = result_store.count("vector"), result_store.count("inspection")
    freed = prune(done.data_folder, [w for w in wastes if isinstance(w, UnusedFiles)])
    assert not orphan.exists() and not orphan.parent.exists() and freed > 0
    (waste,) = [w for w in find_unused_items(done.data_folder) if isinstance(w, UnusedResults)]
    assert waste.count == 12 and waste.size == 12 * 6 * 4  # vectors of 6 float32
    prune(done.data_folder, [waste])
    assert (result_store.count("vector"), result_store.count("inspection")) == (vectors - 12, others)
    assert query(done.data_folder, "SELECT * FROM predictions ORDER BY ALL").equals(before)
    assert done.run().steps == [] and find_unused_items(done.data_folder) == []


def test_recent_results_are_not_deleted_because_a_run_may_need_them(done):
    result_store = ResultStore(done.data_folder.result_store)
    result_store.put("vector", [("f" * 64, b"0" * 100)])
    assert find_unused_items(done.data_folder) == []
    assert waste_counts(done.data_folder, days=0)["results (vector) that no partition file refers to"] == 1


def test_responses_are_deleted_only_if_requested(done):
    result_store = ResultStore(done.data_folder.result_store)
    result_store.put("response", [("a" * 64, b"dog"), ("b" * 64, b"rain")])
    result_store.put("another", [("c" * 64, b"?")])
    make_older(done.data_folder)
    assert waste_counts(done.data_folder) == {}
    wastes = find_unused_items(done.data_folder, responses=True)
    assert [(w.description, w.count, w.size) for w in wastes] == [
        ("results (response) that no partition file refers to, which may have been paid for", 2, 7)
    ]
    prune(done.data_folder, wastes)
    assert (result_store.count("response"), result_store.count("another")) == (0, 1)


def test_temporary_files_of_killed_processes_are_deleted_after_a_day(done):
    leftover_files = [
        done.data_folder.partition_file("clips", "bench", None, 1).with_name(".part-0.parquet.123.tmp"),
        done.data_folder.root / ".results.duckdb.99.7.tmp",
        done.data_folder.studies / ".bench.json.7.tmp",
        done.data_folder.datasets / ".esc10.abc" / "archive" / "x.ogg",
        done.data_folder.scratch("bench.spectrograms.paper|1"),
    ]
    for path in leftover_files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    assert find_unused_items(done.data_folder) == []
    extracted = done.data_folder.datasets / ".esc10.abc"
    set_age([*leftover_files, extracted, *extracted.rglob("*")], days=2)
    (waste,) = find_unused_items(done.data_folder)
    assert (waste.description, waste.count) == ("temporary files of killed processes", 5)
    assert waste.size == 5000
    prune(done.data_folder, [waste])
    assert not any(path.exists() for path in leftover_files) and not (done.data_folder.datasets / ".esc10.abc").exists()
    assert done.run().steps == []


def test_files_with_a_time_in_the_future_are_not_deleted(done):
    path = done.data_folder.partition_file("clips", "bench", None, 1).with_name(".part-0.parquet.123.tmp")
    path.write_bytes(b"x")
    set_age([path], days=-9)
    assert find_unused_items(done.data_folder) == []


def test_a_damaged_partition_file_protects_results_that_it_may_refer_to(done):
    ResultStore(done.data_folder.result_store).put("vector", [("f" * 64, b"0" * 100)])
    make_older(done.data_folder)
    next(iter(done.graph().partition_files(Node("embeddings/bands", 1)).values())).write_bytes(b"broken")
    assert waste_counts(done.data_folder) == {}


@pytest.mark.parametrize(("size", "words"), [(0, "0.0 MB"), (999_949_999, "999.9 MB"), (1_000_000_000, "1.0 GB")])
def test_sizes_are_formatted_with_units(size, words):
    from vlm_audio_pipeline.storage.disk_usage import format_bytes

    assert format_bytes(size) == words
