import pyarrow as pa

from vlm_audio_pipeline.evaluation.completeness import ExpectedRun, incomplete_reason
from vlm_audio_pipeline_tests.measures.prediction_tables import predictions_table

FOLD_1 = [(1, "a", "a", None), (1, "b", "unparseable", None)]
FOLD_2 = [(2, "a", "b", None), (2, "b", "refused", None)]
RUN = ExpectedRun({1: 2, 2: 2})


def test_a_complete_run_has_no_reason():
    assert incomplete_reason("janus", predictions_table(FOLD_1 + FOLD_2), RUN) is None


def test_missing_folds_predictions_and_errors_are_reasons():
    assert incomplete_reason("janus", predictions_table(FOLD_1), RUN) == "janus has no predictions of fold 2 yet"
    assert incomplete_reason("janus", predictions_table(FOLD_1), ExpectedRun({1: 2, 2: 2, 3: 2})) == (
        "janus has no predictions of folds 2, 3 yet"
    )
    one_missing = predictions_table(FOLD_1 + FOLD_2[:1])
    assert incomplete_reason("janus", one_missing, RUN) == "1 of 4 predictions of janus are missing"
    failed = predictions_table([*FOLD_1, (2, "a", "b", None), (2, "b", "error", None)])
    assert incomplete_reason("janus", failed, RUN) == "1 of 4 predictions of janus are errors; run the study again"


def test_left_out_folds_and_folds_without_clips_are_not_missing():
    assert incomplete_reason("janus", predictions_table(FOLD_1), RUN, without_folds=(2,)) is None
    assert incomplete_reason("janus", predictions_table(FOLD_1), ExpectedRun({1: 2, 3: 0})) is None


def test_the_number_of_annotations_is_not_fixed():
    annotations = ExpectedRun({1: None, 2: None})
    rows = pa.concat_tables([predictions_table(FOLD_1 + FOLD_2), predictions_table(FOLD_1, trial=1)])
    assert incomplete_reason("listeners", rows, annotations) is None
    assert incomplete_reason("listeners", predictions_table(FOLD_2), annotations) is not None
