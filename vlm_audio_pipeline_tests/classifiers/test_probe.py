import time
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.classifiers.probe import Probe, choose_c, fit, standardisation
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline_tests.classifiers.stage_runner import (
    clips_table,
    dataset,
    embeddings_table,
    esc10_dataset,
    gaussian_blobs,
    needs_esc10,
    predict_all_folds,
    run_fold,
)
from vlm_audio_pipeline_tests.datasets.clip_rows import typed_row


def tables(clips, x):
    return {"clips": clips, "embeddings/e": embeddings_table(clips, x)}


def oracle(clips, x, fold, c):
    """scikit-learn's own pipeline: learnt from the other folds, probabilities of this one."""
    folds, labels = clips["fold"].to_numpy(), np.array(clips["label"].to_pylist())
    x = x.astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000))
    model.fit(x[folds != fold], labels[folds != fold])
    return model, model.predict_proba(x[folds == fold])


def scores_of(predictions, classes):
    return np.array([[dict(row)[c] for c in classes] for row in predictions["scores"].to_pylist()])


@pytest.mark.parametrize("classes", [("a", "b"), ("c", "a", "b")])
@pytest.mark.parametrize("dimensions", [3, 20])
def test_probabilities_are_those_of_scikit_learn(classes, dimensions):
    data, clips, x = gaussian_blobs(classes=classes, dimensions=dimensions)
    for fold in data.folds:
        result = run_fold(Probe(encoder="e", c=0.5), "p", fold, data, tables(clips, x))
        model, theirs = oracle(clips, x, fold, 0.5)
        ours = scores_of(result["predictions"], list(model.classes_))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert result["predictions"]["predicted"].to_pylist() == list(model.classes_[theirs.argmax(1)])
        probe = result["probes"]
        assert set(probe["training_clips"].to_pylist()) == {4 * 6 * len(classes)}
        assert probe["inner_accuracy"].null_count == probe.num_rows
        assert probe.num_rows == len(classes) * (dimensions + 1)
        constants = result["predictions"].select(["kind", "encoder", "model", "scoring", "training_clips"]).to_pylist()
        expected = {"kind": "probe", "encoder": "e", "model": "toy", "scoring": "score"}
        assert constants == [expected | {"training_clips": 24 * len(classes)}] * result["predictions"].num_rows


def test_more_dimensions_than_clips_give_the_same_map():
    data, clips, x = gaussian_blobs(n_folds=3, per_class=2, dimensions=40)
    result = run_fold(Probe(encoder="e", c=1.0), "p", 1, data, tables(clips, x))
    model, theirs = oracle(clips, x, 1, 1.0)
    np.testing.assert_allclose(scores_of(result["predictions"], list(model.classes_)), theirs, atol=1e-3)
    # the optimum is unique: the objective of our map must not be worse than that of scikit-learn's
    z, y = np.random.default_rng(0).standard_normal((20, 50)), np.arange(20) % 3
    [(w, b)] = fit(z, y, (1.0,))
    direct = LogisticRegression(C=1.0, max_iter=5000).fit(z, y)

    def objective(w, b):
        logits = z @ w.T + b
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(20), y]
        return losses.sum() + 0.5 * (w**2).sum()

    assert objective(w, b) == pytest.approx(objective(direct.coef_, direct.intercept_), rel=1e-5)


def test_c_is_chosen_inside_the_training_folds_as_scikit_learn_would():
    data, clips, x = gaussian_blobs(per_class=8, dimensions=12, apart=0.6, seed=3)
    grid = (0.001, 0.03, 1.0, 30.0)
    for fold in data.folds:
        result = run_fold(Probe(encoder="e", c_grid=grid), "p", fold, data, tables(clips, x))
        folds, labels = clips["fold"].to_numpy(), np.array(clips["label"].to_pylist())
        inside = folds != fold
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        search = GridSearchCV(pipeline, {"logisticregression__C": list(grid)}, cv=LeaveOneGroupOut())
        search.fit(x[inside].astype(np.float64), labels[inside], groups=folds[inside])
        assert result["probes"]["c"][0].as_py() == search.best_params_["logisticregression__C"]
        assert result["probes"]["inner_accuracy"][0].as_py() == pytest.approx(search.best_score_)


def test_of_equally_good_strengths_the_smallest_is_taken():
    _, clips, x = gaussian_blobs(apart=50)  # blobs so far apart that every strength separates them
    y = np.array([["a", "b", "c"].index(label) for label in clips["label"].to_pylist()])
    source = np.array(clips["source"].to_pylist())
    c, accuracy = choose_c(x.astype(np.float64), y, clips["fold"].to_numpy(), source, (0.1, 1.0, 10.0))
    assert (c, accuracy) == (0.1, 1.0)
    assert Probe(encoder="e", c_grid=(10, 0.1, 1)).c_grid == (0.1, 1.0, 10.0), "ascending, whatever was written"


def test_two_training_folds_are_split_by_source_not_by_fold():
    from vlm_audio_pipeline.classifiers import probe

    _, clips, _ = gaussian_blobs(n_folds=2)
    source = np.array(clips["source"].to_pylist())
    y = np.array(clips["label"].to_pylist())
    splits = probe._inner_splits(y, clips["fold"].to_numpy(), source)
    assert len(splits) == 5  # 2 folds x 3 sources a class = 6 sources a class, at most 5 splits
    for test in splits:
        assert not set(source[test]) & set(source[~test])
    assert np.sum(splits, axis=0).tolist() == [1] * len(y), "every clip is tested once"


def test_nothing_to_choose_c_with_is_refused():
    data, clips, x = gaussian_blobs(n_folds=2, per_class=2)  # one training fold, one source a class
    with pytest.raises(
        VlmAudioError, match=r"c must be given .* got 3 source recordings in 1 training folds; set `c: 0.1`"
    ):
        run_fold(Probe(encoder="e"), "p", 1, data, tables(clips, x))
    assert run_fold(Probe(encoder="e", c=0.1), "p", 1, data, tables(clips, x))["predictions"].num_rows == 6


def test_a_constant_dimension_changes_nothing():
    data, clips, x = gaussian_blobs()
    wider = np.hstack([x, np.full((len(x), 1), 0.1, np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run_fold(Probe(encoder="e", c=1.0), "p", 1, data, tables(clips, wider))
    plain = run_fold(Probe(encoder="e", c=1.0), "p", 1, data, tables(clips, x))
    last = result["probes"].filter(pa.compute.equal(result["probes"]["dimension"], 4))
    assert set(last["scale"].to_pylist()) == {1.0}
    np.testing.assert_allclose(last["coefficient"].to_numpy(), 0, atol=1e-6)
    both = [scores_of(m["predictions"], data.classes) for m in (result, plain)]
    np.testing.assert_allclose(*both, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), offset=st.sampled_from([0.0, 1e3, -1e6]), spread=st.sampled_from([1e-6, 1.0, 1e4]))
def test_standardisation_is_that_of_scikit_learn(seed, offset, spread):
    x = offset + spread * np.random.default_rng(seed).standard_normal((17, 3))
    x[:, 1] = offset
    scaler = StandardScaler().fit(x)
    mean, scale = standardisation(x)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scale, scaler.scale_, rtol=1e-3)


def test_a_class_that_is_only_in_the_tested_fold_is_refused_by_name():
    data, _, x = gaussian_blobs()
    only = [c for c in data.clips if c.label != "b" or c.fold == 2]
    keep = np.array([c in only for c in data.clips])
    data = dataset(only, data.classes)
    some = tables(clips_table(only), x[keep])
    with pytest.raises(VlmAudioError, match=r"'p' needs training clips of every class, got none of \['b'\].*than 2"):
        run_fold(Probe(encoder="e", c=1), "p", 2, data, some)


def test_one_class_and_mismatched_tables_are_refused():
    data, clips, x = gaussian_blobs(classes=("a",))
    with pytest.raises(VlmAudioError, match="at least 2 classes"):
        run_fold(Probe(encoder="e", c=1), "p", 1, data, tables(clips, x))
    data, clips, x = gaussian_blobs()
    other = {"clips": clips, "embeddings/e": embeddings_table(clips.slice(0, 80), x[:80])}
    with pytest.raises(
        VlmAudioError, match=r"embeddings of 'e' must contain the same clips .* 10 clips without a vector"
    ):
        run_fold(Probe(encoder="e", c=1), "p", 1, data, other)


def test_a_sample_asks_about_some_clips_and_still_learns_from_all():
    data, clips, x = gaussian_blobs()
    spec = Probe(encoder="e", c=1.0, sample={"clips": 7}, folds=(2, 4))
    result = {f: run_fold(spec, "p", f, data, tables(clips, x)) for f in (2, 4)}
    # 7 clips over 2 folds: 4 and 3
    assert [result[f]["predictions"].num_rows for f in (2, 4)] == [4, 3]
    whole = run_fold(Probe(encoder="e", c=1.0), "p", 2, data, tables(clips, x))
    everything = {r["clip"]: dict(r["scores"]) for r in whole["predictions"].to_pylist()}
    for row in result[2]["predictions"].to_pylist():
        assert dict(row["scores"]) == pytest.approx(everything[row["clip"]])
    assert result[2]["probes"].equals(whole["probes"])
    few = run_fold(Probe(encoder="e", c=1.0, sample={"clips": 1}), "p", 5, data, tables(clips, x))
    assert few["predictions"].num_rows == 0


def test_parameters_say_what_can_change_the_result():
    def parameters(**given):
        return [s.parameters for s in Probe(encoder="e", **given).stages("p", (1, 2))]

    assert parameters(sample={"clips": 3})[0] == parameters()[0], "a sample does not make the probe learn anew"
    assert parameters(sample={"clips": 3})[1] != parameters()[1]
    assert parameters(sample={"clips": 3}, folds=(1,))[1] != parameters(sample={"clips": 3})[1]
    assert parameters(folds=(1,)) == parameters()
    assert parameters(c=1.0)[0] != parameters()[0]
    assert parameters(c=1.0, c_grid=(3,))[0] == parameters(c=1.0)[0], "a given c leaves the grid without effect"
    assert parameters(c=1.0)[1] == parameters()[1]


@pytest.mark.parametrize("wrong", [{"c": 0}, {"c": -1}, {"c_grid": ()}, {"c_grid": (0, 1)}])
def test_strengths_must_be_above_zero(wrong):
    with pytest.raises(ValidationError):
        Probe(encoder="e", **wrong)


def test_registered():
    assert CLASSIFIERS.get("probe") is Probe


@pytest.mark.slow
@needs_esc10
def test_classical_features_on_the_official_folds_of_esc10():
    from vlm_audio_pipeline.encoders.features import Features

    data, encoder = esc10_dataset(), Features()
    clips = clips_table(data.clips)
    assert clips.num_rows == 400
    x = np.stack([encoder.vector(data.samples(typed_row(data, c), encoder.sample_rate_hz)) for c in data.clips])
    start = time.perf_counter()
    predictions = predict_all_folds(Probe(encoder="e"), "classical", data, tables(clips, x))
    assert time.perf_counter() - start < 60
    right = sum(predictions["correct"].to_pylist())
    # 0.830 was measured with scikit-learn alone, C chosen inside the training folds; chance is 0.1
    assert predictions.num_rows == 400 and right >= 320
    fixed = predict_all_folds(Probe(encoder="e", c=0.1), "classical", data, tables(clips, x))
    assert sum(fixed["correct"].to_pylist()) >= 330
