from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.evaluation.history import Made, Result, history_table, results_of
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES

PROMPT = Made("1:aaaa", {"prompt": "paper", "encoder": {"rate": 22050}})


def predictions(*rows, **constants):
    """Give rows of (fold, clip, right) or (fold, clip, right, trial)."""
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
def seen(layout):
    """Count results and list the history."""
    rows = RowStore(layout.rows)

    def see(table=None, made=PROMPT, study="s", classifier="c"):
        given = {} if table is None else {classifier: table}
        made_table = history_table(study, given, {classifier: made}, rows)
        return TABLES["history"].conform(made_table, study=study).to_pylist()

    see.rows = rows
    return see


OLD = [(1, "a1", 1), (1, "a2", 0), (2, "b1", 0), (2, "b2", 0)]
NEW = [(1, "a1", 0), (1, "a2", 1), (2, "b1", 1), (2, "b2", 1)]


def test_an_old_result_stays_beside_the_new_one(seen):
    [first] = seen(predictions(*OLD, model="m", revision="r1"))
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
    was, now = seen(
        predictions(*NEW, model="m", revision="r2"), Made("2:bbbb", {"prompt": "short", "encoder": {"rate": 22050}})
    )
    assert was == {**first, "current": False}
    assert (now["entry"], now["current"], now["accuracy"]) == (2, True, 3 / 4)
    assert now["changed"] == "revision r1 -> r2; code version 1 -> 2; prompt: paper -> short"
    # by hand: three gained, one lost; two-sided binomial of 1 in 4 at one half: 2 (1 + 4) / 16
    assert (now["common_clips"], now["before"], now["after"], now["difference"]) == (4, 1 / 4, 3 / 4, 1 / 2)
    assert (now["gained"], now["lost"], now["p_mcnemar"]) == (3, 1, 10 / 16)
    # two sources with differences 0 and 2: flipping signs leaves |2| always
    assert now["p"] == 1.0 and now["low"] <= 0.5 <= now["high"] and now["reason"] is None


def test_counting_the_same_result_again_changes_nothing(seen):
    first = seen(predictions(*OLD))
    assert seen(predictions(*reversed(OLD))) == first
    assert seen.rows.count("history/s") == 1


def test_other_settings_that_give_the_same_predictions_are_no_new_result(seen):
    first = seen(predictions(*OLD))
    assert seen(predictions(*OLD), Made("2:bbbb", {"prompt": "short"})) == first


def test_going_back_makes_the_old_result_current_again(seen):
    seen(predictions(*OLD))
    seen(predictions(*NEW), Made("1:bbbb", {"prompt": "short"}))
    was, now = seen(predictions(*OLD))
    assert (was["current"], now["current"]) == (True, False)


def test_folds_that_are_added_or_missing_are_no_new_result(seen):
    seen(predictions(*OLD[:2]))
    [whole] = seen(predictions(*OLD))
    assert (whole["predictions"], whole["current"], whole["entry"]) == (4, True, 1)
    [still] = seen(predictions(*OLD[2:]))
    assert (still["predictions"], still["current"]) == (4, True)
    rows = seen(predictions(*NEW[:2]), Made("1:bbbb", {"prompt": "short"}))
    # before: fold 1 of the old result, as far as the new one goes
    assert [(r["predictions"], r["current"]) for r in rows] == [(4, False), (2, True)]
    assert (rows[1]["common_clips"], rows[1]["before"], rows[1]["after"]) == (2, 1 / 2, 1 / 2)
    assert (rows[1]["gained"], rows[1]["lost"], rows[1]["p_mcnemar"]) == (1, 1, 1.0)


def test_scorings_and_controls_and_studies_have_histories_of_their_own(seen):
    both = pa.concat_tables([predictions(*OLD), predictions(*NEW, control="blank")])
    assert [(r["control"], r["entry"]) for r in seen(both)] == [("blank", 1), ("none", 1)]
    assert seen(predictions(*OLD), study="other")[0]["entry"] == 1
    assert len(seen()) == 2, "a study without predictions lists what it had"
    assert {r["current"] for r in seen()} == {False}


def test_several_predictions_of_a_clip_are_compared_by_their_shares(seen):
    seen(predictions((1, "a1", 1, 0), (1, "a1", 0, 1), (1, "b1", 0, 0), (1, "b1", 0, 1)))
    _, now = seen(predictions((1, "a1", 1, 0), (1, "a1", 1, 1), (1, "b1", 1, 0), (1, "b1", 0, 1)), Made("1:b", {}))
    assert (now["before"], now["after"], now["predictions"], now["clips"]) == (1 / 4, 3 / 4, 4, 2)
    assert (now["gained"], now["p_mcnemar"]) == (None, None)
    assert now["reason"] == "gained, lost and McNemar's test: clips were predicted several times"
    assert now["p"] == 0.5  # two sources, +1/2 each: of four ways of signs two are as far


def test_other_clips_cannot_be_compared(seen):
    seen(predictions((1, "a1", 1)))
    _, now = seen(predictions((1, "z9", 0)))
    assert (now["common_clips"], now["difference"], now["reason"]) == (0, None, "no clip in common")
    assert now["changed"] == "what it reads: its own settings are the same"


def test_what_was_not_answered_says_so():
    table = predictions((1, "a1", 0), (1, "a2", 1))
    table = table.set_column(table.column_names.index("predicted"), "predicted", pa.array([None, "dog"]))
    table = table.set_column(table.column_names.index("outcome"), "outcome", pa.array(["refused", "answered"]))
    [result] = results_of("c", table, PROMPT)
    assert result.answers == {"0|a1": ("a", 1, "(refused)", False), "0|a2": ("a", 1, "dog", True)}


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(min_size=1), st.tuples(st.text(), st.integers(1, 9), st.text(), st.booleans())))
def test_results_survive_packing(answers):
    result = Result("c", "score", "none", "d", "1:a", "{}", "0.1", None, "r", {f"0|{k}": v for k, v in answers.items()})
    assert Result.unpacked(result.payload()) == result
    assert sorted(result.by_clip()) == sorted(answers)
