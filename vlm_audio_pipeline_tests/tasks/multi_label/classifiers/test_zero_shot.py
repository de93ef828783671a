"""Zero-shot scores are cosines without labels; thresholds are those of other folds."""

import numpy as np
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.tasks.multi_label.classifiers.zero_shot import ZeroShotScores
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold
from vlm_audio_pipeline_tests.classifiers.scripted_encoders import ScriptedTextEncoder
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, embeddings_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips, matrix, run_fold


def test_scores_are_cosines_and_thresholds_have_the_highest_f1_on_other_folds(tmp_path):
    data, truth, x = labelled_clips(n_folds=2, dimensions=3)
    vectors = {f"This is a sound of {name}.": tuple(np.eye(3)[i]) for i, name in enumerate(data.classes)}
    rows = run_fold(
        ZeroShotScores(encoder="e"),
        1,
        data,
        {"embeddings/e": embeddings_table(clips_table(data.clips), x)},
        {"e": ScriptedTextEncoder(vectors=vectors)},
        ResultStore(tmp_path / "results.sqlite"),
    )["multi_label_predictions"]
    cosines = x / np.linalg.norm(x, axis=1, keepdims=True)  # the text of a class is an axis
    is_tested = np.array([clip.fold == 1 for clip in data.clips])
    assert matrix(rows, "score", data.classes) == pytest.approx(cosines[is_tested], abs=1e-6)
    expected = [best_threshold(truth[~is_tested, i], cosines[~is_tested, i]) for i in range(3)]
    assert matrix(rows, "threshold", data.classes)[0] == pytest.approx(expected, abs=1e-6)


def test_a_temperature_is_refused():
    with pytest.raises(
        ValidationError, match=r"must be null in the task multi_label, whose scores are cosines, got 0\.5"
    ):
        ZeroShotScores(encoder="e", temperature=0.5)
