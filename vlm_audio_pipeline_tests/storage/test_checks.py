import pyarrow as pa
import pytest

from vlm_audio_pipeline.storage.checks import ONE_MODEL, CheckContext, run_checks, table_checks
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.storage.example_tables import clips, embeddings, leaderboard, predictions


def check_results(table: str, rows: pa.Table, inputs=None, shared_sources=()):
    return run_checks(TABLES[table], rows, CheckContext(inputs or {}, shared_sources))


def passed_by_name(table: str, rows: pa.Table, inputs=None, shared_sources=()) -> dict[str, bool]:
    return {check.name: check.passed for check in check_results(table, rows, inputs, shared_sources)}


def detail(table: str, name: str, rows: pa.Table, inputs=None, shared_sources=()) -> str:
    return next(check.detail for check in check_results(table, rows, inputs, shared_sources) if check.name == name)


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
    assert passed_by_name(table, GOOD[table], {"clips": clips()}) == dict.fromkeys(check_docs(table), True)


@pytest.mark.parametrize("table", TABLES)
def test_checks_of_a_table_have_different_names_and_run_on_no_rows(table):
    names = [check.name for check in table_checks(TABLES[table])]
    assert len(set(names)) == len(names)
    assert list(passed_by_name(table, TABLES[table].empty_table(), {"clips": clips()})) == names
    assert all(text.endswith(".") for text in check_docs(table).values())


def test_the_tables_with_checks_of_their_own():
    names = {name for name, schema in TABLES.items() if schema.checks}
    assert names == {"clips", "embeddings", "responses", "predictions", "metrics", "multi_label_predictions"}


def test_a_row_twice_is_found():
    twice = pa.concat_tables([clips(), clips(1)])
    assert not passed_by_name("clips", twice)["rows_unique"]
    assert detail("clips", "rows_unique", twice) == "4 rows, 3 distinct keys"


def test_an_empty_table_is_found():
    assert not passed_by_name("clips", TABLES["clips"].empty_table())["fold_has_clips"]
    # a fold may have no annotations
    assert passed_by_name("predictions", TABLES["predictions"].empty_table())["rows_unique"]


def test_a_source_in_two_folds_is_found_and_named():
    assert not passed_by_name("clips", clips(), shared_sources=["r1"])["sources_in_one_fold"]
    assert "r1" in detail("clips", "sources_in_one_fold", clips(), shared_sources=["r1"])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_counted(bad):
    rows = embeddings([[1.0, bad], [2.0, 3.0], [bad, bad]])
    assert not passed_by_name("embeddings", rows, {"clips": clips()})["vectors_finite"]
    assert detail("embeddings", "vectors_finite", rows).startswith("3 of 6")


def test_a_clip_without_vector_is_named():
    rows = embeddings([[1.0, 2.0]] * 2)
    assert not passed_by_name("embeddings", rows, {"clips": clips()})["one_vector_per_clip"]
    assert "1-2" in detail("embeddings", "one_vector_per_clip", rows, {"clips": clips()})


def test_a_check_that_could_not_look_does_not_pass():
    assert not passed_by_name("embeddings", GOOD["embeddings"])["one_vector_per_clip"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"outcome": ["answered", "answered", "guessed"]}, "['guessed']"),
        ({"outcome": ["answered", "answered", "refused"]}, "1 rows have a label that contradicts"),
        ({"predicted": ["dog", None, None]}, "2 rows have a label that contradicts"),
    ],
)
def test_outcomes_that_contradict_themselves_are_found(other, expected):
    rows = predictions(**other)
    assert not passed_by_name("predictions", rows)["outcomes_consistent"]
    assert expected in detail("predictions", "outcomes_consistent", rows)


def test_failures_without_a_label_are_fine():
    rows = predictions(outcome=["error", "refused", "unparseable"], predicted=pa.nulls(3, pa.string()))
    assert passed_by_name("predictions", rows)["outcomes_consistent"]


def responses(*revisions):
    return pa.table({"revision": list(revisions), "outcome": ["answered"] * len(revisions)})


def test_responses_of_two_models_are_found_where_an_endpoint_answers():
    table = responses("gpt-4o-2024-08-06 fp_1", "gpt-4o-2024-11-20 fp_2 without seed")
    assert not ONE_MODEL.run(table, CheckContext({}, accepted_models=()))[0]
    assert ONE_MODEL.run(table, CheckContext({}, accepted_models=("gpt-4o-2024-11-20",)))[0]
    assert ONE_MODEL.run(table, CheckContext({})) == (True, "no endpoint")  # revisions of weights are no ids


def test_a_summary_is_checked_over_the_predictions_of_all_folds():
    predictions = responses("gpt-4o-2024-08-06", "gpt-4o-mini", None)
    context = CheckContext({"predictions/gpt": predictions}, accepted_models=())
    passed, detail_text = ONE_MODEL.run(pa.table({"value": [1.0]}), context)
    assert not passed and "gpt-4o-mini" in detail_text
