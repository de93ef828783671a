from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.planning.pruning import find_unused_items, prune
from vlm_audio_pipeline.storage.history_store import HistoryEntry, HistoryStore, PastPrediction
from vlm_audio_pipeline.storage.result_store import ResultStore

KEYS = st.tuples(st.integers(0, 9), st.text(min_size=1))
PREDICTIONS = st.builds(PastPrediction, st.text(), st.integers(1, 9), st.text(), st.booleans())


def entry(data_version="d", predictions=None, **changes):
    values = {
        "classifier": "c",
        "scoring": "score",
        "control": "none",
        "step_version": "1:a",
        "settings": "{}",
        "package_version": "0.1",
        "model": None,
        "revision": "r",
    }
    values |= changes
    return HistoryEntry(data_version=data_version, predictions=predictions or {}, **values)


@pytest.fixture
def store(data_folder):
    ResultStore(data_folder.result_store).close()
    return HistoryStore(data_folder.result_store)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, PREDICTIONS))
def test_entries_are_returned_as_they_were_stored(tmp_path_factory, predictions):
    store = HistoryStore(tmp_path_factory.mktemp("history") / "results.sqlite")
    store.add("s", [entry(predictions=predictions)])
    [stored] = store.entries("s")
    assert abs((datetime.now(UTC) - stored.first_seen).total_seconds()) < 60
    assert vars(stored) == {**vars(entry(predictions=predictions)), "first_seen": stored.first_seen}


def test_entries_are_listed_oldest_first_and_keep_their_first_settings(store):
    for version in ("b", "a", "c"):
        store.add("s", [entry(version)])
    store.add("s", [entry("b", settings='{"other": 1}')])
    store.add("other", [entry("b", settings='{"other": 1}')])
    assert [(e.data_version, e.settings) for e in store.entries("s")] == [("b", "{}"), ("a", "{}"), ("c", "{}")]
    assert [e.settings for e in store.entries("other")] == ['{"other": 1}']


@pytest.mark.parametrize("damage", ["classifier = 'd'", "step_version = '1:b'", "model = 'm'", "predictions = x''"])
def test_a_damaged_entry_is_left_out_with_a_warning(store, caplog, damage):
    store.add("s", [entry("a"), entry("b")])
    with store._connection() as db, db:
        db.execute(f"UPDATE history SET {damage} WHERE data_version = 'a'")
    assert [e.data_version for e in store.entries("s")] == ["b"]
    assert "is damaged and left out" in caplog.text


def test_entries_of_an_older_version_have_no_checksum(store):
    store.add("s", [entry("a")])
    with store._connection() as db, db:
        db.execute("ALTER TABLE history DROP COLUMN checksum")
    store.add("s", [entry("b")])
    assert [e.data_version for e in store.entries("s")] == ["a", "b"]


def test_each_scoring_and_control_has_its_own_entries(store):
    entries = [entry(), entry(scoring="likelihood"), entry(control="blank"), entry(classifier="d")]
    store.add("s", [*entries, *entries])
    assert len(store.entries("s")) == 4


def test_pruning_keeps_the_history(store, data_folder):
    store.add("s", [entry()])
    result_store = ResultStore(data_folder.result_store)
    result_store.put("vector", [("k", b"v")])
    result_store.close()
    waste = find_unused_items(data_folder, days=-1)
    assert sum(w.count for w in waste) == 1
    prune(data_folder, waste)
    assert len(store.entries("s")) == 1


def test_a_damaged_file_is_reported(tmp_path):
    file = tmp_path / "results.sqlite"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(VlmAudioError, match=r"the history in .*results\.sqlite cannot be used: file is not a database"):
        HistoryStore(file).entries("s")
