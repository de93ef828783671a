"""The probe: agreement with scikit-learn, and nothing of the tested fold in what was fitted."""

from dataclasses import replace

import numpy as np
import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import label_text
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import MULTI_LABEL_CLASSIFIERS
from vlm_audio_pipeline.tasks.multi_label.classifiers.probe import SigmoidProbe, choose_c, inner_scores, sigmoid
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, dataset, embeddings_table
from vlm_audio_pipeline_tests.tasks.multi_label.classifiers.label_runner import labelled_clips, matrix, run_fold

GRID = (0.01, 1.0)


def tables(data, x):
    return {"embeddings/e": embeddings_table(clips_table(data.clips), x)}


def test_it_is_registered():
    assert MULTI_LABEL_CLASSIFIERS.get("probe") is SigmoidProbe


def test_probabilities_agree_with_a_logistic_regression_per_class():
    from sklearn.linear_model import LogisticRegression

    data, truth, x = labelled_clips()
    rows = run_fold(SigmoidProbe(encoder="e", c=0.1), 2, data, tables(data, x))["multi_label_predictions"]
    test = np.array([c.fold == 2 for c in data.clips])
    z = (x.astype(float) - x[~test].astype(float).mean(axis=0)) / x[~test].astype(float).std(axis=0)
    for i, label in enumerate(data.classes):
        model = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(z[~test], truth[~test, i])
        expected = model.predict_proba(z[test])[:, 1]
        assert matrix(rows, "score", data.classes)[:, i] == pytest.approx(expected, abs=1e-5), label
    assert (matrix(rows, "truth", data.classes) == truth[test]).all()


def test_a_class_is_predicted_from_its_threshold_on():
    data, _, x = labelled_clips()
    rows = run_fold(SigmoidProbe(encoder="e", c_grid=GRID), 1, data, tables(data, x))["multi_label_predictions"]
    score, threshold = np.array(rows["score"].to_pylist()), np.array(rows["threshold"].to_pylist())
    assert rows["predicted"].to_pylist() == (score >= threshold).tolist()
    assert len(set(rows["threshold"].to_pylist())) == len(data.classes)


def test_labels_of_the_tested_fold_change_neither_coefficients_nor_thresholds():
    data, _, x = labelled_clips()
    spec = SigmoidProbe(encoder="e", c_grid=GRID)
    before = run_fold(spec, 3, data, tables(data, x))
    turned = [
        replace(c, labels=(names := tuple(sorted(set(data.classes) - set(c.labels)))), label=label_text(names))
        if c.fold == 3
        else c
        for c in data.clips
    ]
    after = run_fold(spec, 3, dataset(turned, data.classes), tables(data, x))
    assert after["multi_label_probes"].equals(before["multi_label_probes"])
    rows = [result["multi_label_predictions"] for result in (before, after)]
    assert rows[0].drop_columns("truth").equals(rows[1].drop_columns("truth"))
    assert rows[0]["truth"] != rows[1]["truth"]


@pytest.mark.parametrize("n_folds", [2, 4])
def test_thresholds_and_c_are_those_of_clips_that_the_inner_probes_have_not_seen(n_folds):
    data, truth, x = labelled_clips(n_folds)
    probe = run_fold(SigmoidProbe(encoder="e", c_grid=GRID), 1, data, tables(data, x))["multi_label_probes"]
    training = np.array([c.fold != 1 for c in data.clips])
    source, fold = (np.array([getattr(c, name) for c in data.clips])[training] for name in ("source", "fold"))
    order = np.argsort(data.classes)
    scores = inner_scores(x[training].astype(float), truth[training][:, order], fold, source, GRID)
    chosen, cmap = choose_c(truth[training][:, order], scores, source)
    assert set(probe["c"].to_pylist()) == {GRID[chosen]}
    assert probe["inner_cmap"][0].as_py() == pytest.approx(cmap)
    expected = [best_threshold(truth[training][:, k], scores[chosen, :, i]) for i, k in enumerate(order)]
    assert probe["threshold"].to_numpy()[:: x.shape[1] + 1] == pytest.approx(expected)
    # a clip that was moved far away in one inner fold changes the scores of other inner folds only
    moved = x[training].astype(float)
    moved[0] += 100
    other = inner_scores(moved, truth[training][:, order], fold, source, (0.1,))[0]
    own = source == source[0]
    base = inner_scores(x[training].astype(float), truth[training][:, order], fold, source, (0.1,))[0]
    assert np.array_equal(other[own][1:], base[own][1:])


def test_the_smallest_strength_within_one_standard_error_is_chosen():
    random = np.random.default_rng(0)
    truth = random.random((60, 2)) < 0.5
    noise = random.standard_normal((60, 2))
    source = np.repeat([f"r{i}" for i in range(30)], 2)
    scores = np.stack([noise, truth + 0.30 * noise, truth + 0.29 * noise])  # chance, good, as good
    assert choose_c(truth, scores, source)[0] == 1


def test_a_class_that_all_or_no_training_clips_have_is_refused():
    data, _, x = labelled_clips()
    clips = [replace(c, labels=tuple(n for n in c.labels if n != "a" or c.fold == 1)) for c in data.clips]
    with pytest.raises(VlmAudioError, match=r"got none with \['a'\] in the folds other than 1"):
        run_fold(SigmoidProbe(encoder="e", c_grid=GRID), 1, dataset(clips, data.classes), tables(data, x))
    clips = [replace(c, labels=tuple(sorted({*c.labels, "c"}))) for c in data.clips]
    with pytest.raises(VlmAudioError, match=r"got none without \['c'\]"):
        run_fold(SigmoidProbe(encoder="e", c_grid=GRID), 1, dataset(clips, data.classes), tables(data, x))


def test_the_sigmoid_does_not_overflow():
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-700.0, 0.0, 700.0])) == pytest.approx([0, 0.5, 1])
