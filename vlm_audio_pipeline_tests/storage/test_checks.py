import pyarrow as pa
import pytest

from vlm_audio_pipeline.storage.checks import CheckContext, run_checks, table_checks
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.storage.making import clips, embeddings, leaderboard, predictions


def results(table: str, rows: pa.Table, inputs=None, shared_sources=()):
    return run_checks(TABLES[table], rows, CheckContext(inputs or {}, shared_sources))


def found(table: str, rows: pa.Table, inputs=None, shared_sources=()) -> dict[str, bool]:
    return {check.name: check.passed for check in results(table, rows, inputs, shared_sources)}


def detail(table: str, name: str, rows: pa.Table, inputs=None, shared_sources=()) -> str:
    return next(check.detail for check in results(table, rows, inputs, shared_sources) if check.name == name)


def check_docs(table: str) -> dict[str, str]:
    return {check.name: check.doc for check in table_checks(TABLES[table])}


GOOD = {
    "clips": clips(),
    "predictions": predictions(),
    "embeddings": embeddings([[1.0, 2.0]] * 3),
    "leaderboard": leaderboard([(1, "a", 0.5)]),
}


@pytest.mark.parametrize("table", GOOD)
def test_good_tables_pass_every_check_that_is_announced(table):
    assert found(table, GOOD[table], {"clips": clips()}) == dict.fromkeys(check_docs(table), True)


@pytest.mark.parametrize("table", TABLES)
def test_checks_of_a_table_have_different_names_and_run_on_no_rows(table):
    names = [check.name for check in table_checks(TABLES[table])]
    assert len(set(names)) == len(names)
    assert list(found(table, TABLES[table].empty(), {"clips": clips()})) == names
    assert all(text.endswith(".") for text in check_docs(table).values())


def test_the_tables_with_checks_of_their_own():
    assert {name for name, schema in TABLES.items() if schema.checks} == {"clips", "embeddings", "predictions"}


def test_a_row_twice_is_found():
    twice = pa.concat_tables([clips(), clips(1)])
    assert not found("clips", twice)["rows_unique"]
    assert detail("clips", "rows_unique", twice) == "4 rows, 3 distinct keys"


def test_an_empty_table_is_found():
    assert not found("clips", TABLES["clips"].empty())["fold_has_clips"]
    assert found("predictions", TABLES["predictions"].empty())["rows_unique"]  # a reader without readings in a fold


def test_a_source_in_two_folds_is_found_and_named():
    assert not found("clips", clips(), shared_sources=["r1"])["sources_in_one_fold"]
    assert "r1" in detail("clips", "sources_in_one_fold", clips(), shared_sources=["r1"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_counted(bad):
    made = embeddings([[1.0, bad], [2.0, 3.0], [bad, bad]])
    assert not found("embeddings", made, {"clips": clips()})["vectors_finite"]
    assert detail("embeddings", "vectors_finite", made).startswith("3 of 6")


def test_a_clip_without_vector_is_named():
    made = embeddings([[1.0, 2.0]] * 2)
    assert not found("embeddings", made, {"clips": clips()})["one_vector_a_clip"]
    assert "1-2" in detail("embeddings", "one_vector_a_clip", made, {"clips": clips()})


def test_a_check_that_could_not_look_does_not_pass():
    assert not found("embeddings", GOOD["embeddings"])["one_vector_a_clip"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"outcome": ["answered", "answered", "guessed"]}, "['guessed']"),
        ({"outcome": ["answered", "answered", "refused"]}, "1 rows contradict"),
        ({"predicted": ["dog", None, None]}, "2 rows contradict"),
    ],
)
def test_outcomes_that_contradict_themselves_are_found(other, said):
    made = predictions(**other)
    assert not found("predictions", made)["outcomes_known"]
    assert said in detail("predictions", "outcomes_known", made)


def test_failures_without_a_label_are_fine():
    made = predictions(outcome=["error", "refused", "unparseable"], predicted=pa.nulls(3, pa.string()))
    assert found("predictions", made)["outcomes_known"]
