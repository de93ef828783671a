from datetime import UTC, datetime

import pyarrow as pa
import pytest

from vlm_audio_pipeline.evaluation.history import PredictionSettings, current_entries, history_table
from vlm_audio_pipeline.storage.history_store import HistoryStore
from vlm_audio_pipeline.storage.schemas import TABLES

PROMPT = PredictionSettings("1:aaaa", {"prompt": "paper", "encoder": {"rate": 22050}})


def predictions(*rows, **constants):
    """Build rows from (fold, clip, correct) or (fold, clip, correct, trial)."""
    columns = {
        "fold": [r[0] for r in rows],
        "clip": [r[1] for r in rows],
        "source": [r[1][0] for r in rows],
        "label": ["dog"] * len(rows),
        "predicted": ["dog" if r[2] else "rain" for r in rows],
        "correct": [bool(r[2]) for r in rows],
        "outcome": ["answered"] * len(rows),
        "trial": [r[3] if len(r) > 3 else 0 for r in rows],
    }
    for name, value in {"kind": "k", "scoring": "score", "control": "none", **constants}.items():
        columns[name] = [value] * len(rows)
    return TABLES["predictions"].conform(pa.table(columns), study="s", classifier="c")


@pytest.fixture
def history(data_folder):
    """Return a function that stores results and lists the history."""
    store = HistoryStore(data_folder.result_store)
    store.path.parent.mkdir(parents=True, exist_ok=True)

    def list_history(table=None, settings=PROMPT, study="s", classifier="c"):
        tables = {} if table is None else {classifier: table}
        rows = history_table(study, tables, {classifier: settings}, store)
        return TABLES["history"].conform(rows, study=study).to_pylist()

    list_history.store = store
    return list_history


OLD = [(1, "a1", 1), (1, "a2", 0), (2, "b1", 0), (2, "b2", 0)]
NEW = [(1, "a1", 0), (1, "a2", 1), (2, "b1", 1), (2, "b2", 1)]


def test_the_history_lists_the_old_and_the_new_result(history):
    [first] = history(predictions(*OLD, model="m", revision="r1"))
    assert (first["entry"], first["current"], first["accuracy"], first["correct"], first["predictions"]) == (
        1,
        True,
        1 / 4,
        1,
        4,
    )
    assert (first["clips"], first["folds"], first["model"], first["revision"]) == (4, "1,2", "m", "r1")
    assert (first["changed"], first["reason"], first["common_clips"]) == ("", "the first result", None)
    assert (datetime.now(UTC) - first["first_seen"]).total_seconds() < 60
    before, after = history(
        predictions(*NEW, model="m", revision="r2"),
        PredictionSettings("2:bbbb", {"prompt": "short", "encoder": {"rate": 22050}}),
    )
    assert before == {**first, "current": False}
    assert (after["entry"], after["current"], after["accuracy"]) == (2, True, 3 / 4)
    assert after["changed"] == "revision r1 -> r2; code version 1 -> 2; prompt: paper -> short"
    # by hand: three gained, one lost; two-sided binomial of 1 in 4 at one half: 2 (1 + 4) / 16
    assert (after["common_clips"], after["before"], after["after"], after["difference"]) == (4, 1 / 4, 3 / 4, 1 / 2)
    assert (after["gained"], after["lost"], after["p_mcnemar"]) == (3, 1, 10 / 16)
    # two sources with differences 0 and 2: flipping signs leaves |2| always
    assert after["p"] == 1.0 and after["low"] <= 0.5 <= after["high"] and after["reason"] is None


def test_storing_the_same_result_again_changes_nothing(history):
    first = history(predictions(*OLD))
    assert history(predictions(*reversed(OLD))) == first
    assert len(history.store.entries("s")) == 1


def test_other_settings_that_give_the_same_predictions_are_no_new_result(history):
    first = history(predictions(*OLD))
    assert history(predictions(*OLD), PredictionSettings("2:bbbb", {"prompt": "short"})) == first


def test_returning_to_old_settings_makes_the_old_result_current_again(history):
    history(predictions(*OLD))
    history(predictions(*NEW), PredictionSettings("1:bbbb", {"prompt": "short"}))
    before, after = history(predictions(*OLD))
    assert (before["current"], after["current"]) == (True, False)


def test_folds_that_are_added_or_missing_are_no_new_result(history):
    history(predictions(*OLD[:2]))
    [whole] = history(predictions(*OLD))
    assert (whole["predictions"], whole["current"], whole["entry"]) == (4, True, 1)
    [partial] = history(predictions(*OLD[2:]))
    assert (partial["predictions"], partial["current"]) == (4, True)
    rows = history(predictions(*NEW[:2]), PredictionSettings("1:bbbb", {"prompt": "short"}))
    # before: fold 1 of the old result, as far as the new one goes
    assert [(r["predictions"], r["current"]) for r in rows] == [(4, False), (2, True)]
    assert (rows[1]["common_clips"], rows[1]["before"], rows[1]["after"]) == (2, 1 / 2, 1 / 2)
    assert (rows[1]["gained"], rows[1]["lost"], rows[1]["p_mcnemar"]) == (1, 1, 1.0)


def test_each_scoring_control_and_study_has_its_own_history(history):
    both = pa.concat_tables([predictions(*OLD), predictions(*NEW, control="blank")])
    assert [(r["control"], r["entry"]) for r in history(both)] == [("blank", 1), ("none", 1)]
    assert history(predictions(*OLD), study="other")[0]["entry"] == 1
    assert len(history()) == 2, "a study without predictions lists what it had"
    assert {r["current"] for r in history()} == {False}


def test_several_predictions_of_a_clip_are_compared_by_their_shares(history):
    history(predictions((1, "a1", 1, 0), (1, "a1", 0, 1), (1, "b1", 0, 0), (1, "b1", 0, 1)))
    _, after = history(
        predictions((1, "a1", 1, 0), (1, "a1", 1, 1), (1, "b1", 1, 0), (1, "b1", 0, 1)), PredictionSettings("1:b", {})
    )
    assert (after["before"], after["after"], after["predictions"], after["clips"]) == (1 / 4, 3 / 4, 4, 2)
    assert (after["gained"], after["p_mcnemar"]) == (None, None)
    assert after["reason"] == "gained, lost and McNemar's test: clips were predicted several times"
    assert after["p"] == 0.5  # two sources, +1/2 each: of four ways of signs two are as far


def test_results_over_different_clips_are_not_compared(history):
    history(predictions((1, "a1", 1)))
    _, after = history(predictions((1, "z9", 0)))
    assert (after["common_clips"], after["difference"], after["reason"]) == (0, None, "no clip in common")
    assert after["changed"] == "only its inputs: its own settings are the same"


def test_a_prediction_without_a_label_is_stored_with_its_outcome():
    table = predictions((1, "a1", 0), (1, "a2", 1))
    table = table.set_column(table.column_names.index("predicted"), "predicted", pa.array([None, "dog"]))
    table = table.set_column(table.column_names.index("outcome"), "outcome", pa.array(["refused", "answered"]))
    [entry] = current_entries("c", table, PROMPT)
    assert entry.predictions == {(0, "a1"): ("a", 1, "(refused)", False), (0, "a2"): ("a", 1, "dog", True)}
