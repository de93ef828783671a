"""What may go goes, what is needed stays, and nothing young is touched."""

import os
import sqlite3
import time

import pytest

from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.dagster_app.pruning import find_waste, prune
from vlm_audio_pipeline.planning.graph import Node
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.disk_usage import disk_use, size_of
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.result_store import RowStore

DAY = 86400


def aged(layout, days=60):
    """Make everything in a data folder some days old."""
    then = time.time() - days * DAY
    for path in [layout.root, *layout.root.rglob("*")]:
        os.utime(path, (then, then), follow_symlinks=False)
    with sqlite3.connect(layout.rows) as db:
        db.execute("UPDATE rows SET created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?)", [f"-{days} days"])
    with sqlite3.connect(layout.dagster_home / "history" / "runs.db") as db:
        db.execute("UPDATE runs SET create_timestamp = datetime('now', ?)", [f"-{days} days"])


def found(layout, **options):
    return {waste.what: waste.count for waste in find_waste(layout, **options)}


def test_a_folder_in_use_has_no_waste(done):
    assert find_waste(done.layout) == []
    aged(done.layout)  # old, but all of it referred to and shown
    assert find_waste(done.layout) == []
    assert find_waste(Layout(done.folder / "none")) == []


def test_parts_and_vectors_of_what_was_removed_go_and_the_rest_stays(done):
    done.run(done.changed("encoders", more={"kind": "scripted", "dimensions": 6}))
    orphan = done.layout.part("embeddings", "bench", "more", 1)
    assert orphan.exists()
    aged(done.layout)
    done.run()  # without the encoder: its parts are nobody's now
    before = query(done.layout, "SELECT * FROM predictions ORDER BY ALL")
    wastes = find_waste(done.layout)
    counts = {waste.what: waste.count for waste in wastes}
    assert counts["parts that no study run here has"] >= 3
    assert "rows (vector) that no part refers to" not in counts  # its parts are still there, and name them
    rows = RowStore(done.layout.rows)
    vectors, others = rows.count("vector"), rows.count("inspection")
    freed = prune(done.layout, [w for w in wastes if w.files])
    assert not orphan.exists() and not orphan.parent.exists() and freed > 0
    (waste,) = [w for w in find_waste(done.layout) if w.rows]
    assert waste.count == 12 and waste.size == 12 * 6 * 4  # vectors of 6 float32
    prune(done.layout, [waste])
    assert (rows.count("vector"), rows.count("inspection")) == (vectors - 12, others)
    assert query(done.layout, "SELECT * FROM predictions ORDER BY ALL").equals(before)
    assert done.run().steps == [] and find_waste(done.layout) == []


def test_young_rows_stay_for_a_run_may_be_about_to_use_them(done):
    rows = RowStore(done.layout.rows)
    rows.put("vector", [("f" * 64, b"0" * 100)])
    assert find_waste(done.layout) == []
    assert found(done.layout, days=0)["rows (vector) that no part refers to"] == 1


def test_answers_go_only_where_that_is_said(done):
    rows = RowStore(done.layout.rows)
    rows.put("answer", [("a" * 64, b"dog"), ("b" * 64, b"rain")])
    rows.put("another", [("c" * 64, b"?")])
    aged(done.layout)
    assert found(done.layout) == {}
    wastes = find_waste(done.layout, answers=True)
    assert [(w.what, w.count, w.size) for w in wastes] == [
        ("rows (answer) that no part refers to, which may have been paid for", 2, 7)
    ]
    prune(done.layout, wastes)
    assert (rows.count("answer"), rows.count("another")) == (0, 1)


def test_what_killed_processes_left_behind_goes_after_a_day(done):
    left = [
        done.layout.part("clips", "bench", None, 1).with_name(".part-0.parquet.123.tmp"),
        done.layout.root / ".results.99.duckdb",
        done.layout.studies / ".bench.json.7.tmp",
        done.layout.datasets / ".esc10.abc" / "archive" / "x.ogg",
        done.layout.scratch("bench.spectrograms.paper|1"),
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
    assert find_waste(done.layout) == []
    for path in [*left, *(p for folder in [done.layout.datasets / ".esc10.abc"] for p in [folder, *folder.rglob("*")])]:
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    (waste,) = find_waste(done.layout)
    assert (waste.what, waste.count) == ("left behind by killed processes", 5)
    assert waste.size == 5000
    prune(done.layout, [waste])
    assert not any(path.exists() for path in left) and not (done.layout.datasets / ".esc10.abc").exists()
    assert done.run().steps == []


def test_files_of_a_clock_that_was_set_back_are_left_alone(done):
    path = done.layout.part("clips", "bench", None, 1).with_name(".part-0.parquet.123.tmp")
    path.write_bytes(b"x")
    os.utime(path, (time.time() + 9 * DAY,) * 2)
    assert find_waste(done.layout) == []


def test_old_runs_go_but_those_the_ui_still_shows(done):
    done.record("1-low-0", "low", seed=99)
    done.run()
    instance = open_instance(done.layout)
    all_runs = {run.run_id for run in instance.get_runs()}
    aged(done.layout)
    vector, waste = find_waste(done.layout)
    assert (vector.what, vector.count) == ("rows (vector) that no part refers to", 1)  # of the recording before
    assert waste.what == "logs of runs older than 30 days" and 0 < waste.count < len(all_runs)
    assert waste.size > 0
    prune(done.layout, [waste])
    left = {run.run_id for run in instance.get_runs()}
    assert left == all_runs - set(waste.runs)
    graph = done.graph()
    for step in graph.steps.values():
        for node in step.nodes:
            there = instance.fetch_materializations(_records(step.key, node.fold), limit=1).records
            made = all(path.exists() for path in graph.parts(node).values())
            assert {record.run_id for record in there} <= left and bool(there) is made, node
    assert done.run().steps == []  # plans are made from parts, whatever history says


def _records(key, fold):
    import dagster as dg

    return dg.AssetRecordsFilter(asset_key=dg.AssetKey(key), asset_partitions=None if fold is None else [str(fold)])


def test_a_damaged_part_hides_no_waste_that_it_may_refer_to(done):
    RowStore(done.layout.rows).put("vector", [("f" * 64, b"0" * 100)])
    aged(done.layout)
    next(iter(done.graph().parts(Node("embeddings/bands", 1)).values())).write_bytes(b"broken")
    assert found(done.layout) == {}


def test_disk_use_adds_up(done):
    use = disk_use(done.layout)
    assert use["tables"] == sum(p.stat().st_size for p in done.layout.tables.rglob("*") if p.is_file()) > 0
    assert use["rows"] >= done.layout.rows.stat().st_size > 0
    assert use["run history"] > 0 and use["environments"] == 0
    assert size_of(done.layout.root / "absent") == 0


@pytest.mark.parametrize("size, words", [(0, "0.0 MB"), (999_949_999, "999.9 MB"), (1_000_000_000, "1.0 GB")])
def test_sizes_in_words(size, words):
    from vlm_audio_pipeline.storage.disk_usage import words_of

    assert words_of(size) == words
