"""k-NN by hand, and thresholds without the tested fold."""

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers import knn
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.tasks.multi_label.classifiers import knn as multi_label_knn
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import MULTI_LABEL_CLASSIFIERS
from vlm_audio_pipeline.tasks.multi_label.classifiers.knn import NearestNeighbourShares, neighbour_shares
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, embeddings_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips, matrix, run_fold


def test_the_score_is_the_share_of_neighbours_with_the_class():
    truth = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    distance = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, np.inf], [np.inf, np.inf, np.inf, 1.0]])
    # nearest 3: clips 0 1 2: 2/3 and 1/3; clips 2 1 0: 2/3 and 1/3; only clip 3: 0 and 1
    assert neighbour_shares(distance, truth, 3).ravel() == pytest.approx([2 / 3, 1 / 3, 2 / 3, 1 / 3, 0, 1])
    with pytest.raises(VlmAudioError, match="a clip has none"):
        neighbour_shares(np.full((1, 4), np.inf), truth, 3)


def test_scores_agree_with_scikit_learn_and_thresholds_are_of_other_folds():
    from sklearn.neighbors import KNeighborsClassifier

    data, truth, x = labelled_clips()
    spec = NearestNeighbourShares(encoder="e", k=7, metric="euclidean", standardise=False)
    assert MULTI_LABEL_CLASSIFIERS.get("knn") is NearestNeighbourShares
    tables = {"embeddings/e": embeddings_table(clips_table(data.clips), x)}
    rows = run_fold(spec, 2, data, tables)["multi_label_predictions"]
    test = np.array([c.fold == 2 for c in data.clips])
    model = KNeighborsClassifier(7).fit(x[~test], truth[~test])
    expected = np.stack([p[:, 1] for p in model.predict_proba(x[test])], axis=1)
    assert matrix(rows, "score", data.classes) == pytest.approx(expected)
    assert (matrix(rows, "predicted", data.classes) == (expected >= matrix(rows, "threshold", data.classes))).all()


def test_a_clip_of_the_same_source_recording_is_no_neighbour_when_thresholds_are_chosen():
    # every clip has a copy in its recording: with it, each training clip would be perfectly predicted at k = 1
    data, truth, _ = labelled_clips()
    random = np.random.default_rng(0)
    x = np.repeat(random.standard_normal((len(truth) // 2, 3)), 2, axis=0).astype(np.float32)
    tables = {"embeddings/e": embeddings_table(clips_table(data.clips), x)}
    rows = run_fold(NearestNeighbourShares(encoder="e", k=9), 1, data, tables)["multi_label_predictions"]
    assert max(rows["threshold"].to_pylist()) < 1


def test_memory_does_not_grow_with_the_number_of_clips(monkeypatch):
    data, _, x = labelled_clips()
    spec, tables = NearestNeighbourShares(encoder="e"), {"embeddings/e": embeddings_table(clips_table(data.clips), x)}
    in_one_block = run_fold(spec, 1, data, tables)["multi_label_predictions"]
    sizes = []

    def record_size(distance, truth, k):
        sizes.append(distance.size)
        return neighbour_shares(distance, truth, k)

    monkeypatch.setattr(multi_label_knn, "neighbour_shares", record_size)
    monkeypatch.setattr(knn, "BLOCK_PAIRS", 300)
    in_blocks = run_fold(spec, 1, data, tables)["multi_label_predictions"]
    # 40 training clips: 7 of them at a time with all, which makes 5 blocks and a block of 5; 20 queries: 2 blocks and a block of 6
    assert sizes == [280] * 5 + [200] + [280] * 2 + [240]
    assert in_blocks.equals(in_one_block)
