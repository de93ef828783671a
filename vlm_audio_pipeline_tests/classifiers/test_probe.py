import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.classifiers.probe import Probe, choose_c, standard_error, standardisation
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline_tests.classifiers.stage_runner import (
    clips_table,
    dataset,
    embeddings_table,
    gaussian_blobs,
    run_fold,
)


def tables(clips, x):
    return {"clips": clips, "embeddings/e": embeddings_table(clips, x)}


def sklearn_reference(clips, x, fold, c):
    """Return the pipeline of scikit-learn fitted on the other folds, and its probabilities for this fold."""
    folds, labels = clips["fold"].to_numpy(), np.array(clips["label"].to_pylist())
    x = x.astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-9, max_iter=5000))
    model.fit(x[folds != fold], labels[folds != fold])
    return model, model.predict_proba(x[folds == fold])


def scores_of(predictions, classes):
    return np.array([[dict(row)[c] for c in classes] for row in predictions["scores"].to_pylist()])


@pytest.mark.parametrize("classes", [("a", "b"), ("c", "a", "b")])
@pytest.mark.parametrize("dimensions", [3, 20])
def test_probabilities_equal_those_of_scikit_learn(classes, dimensions):
    data, clips, x = gaussian_blobs(classes=classes, dimensions=dimensions)
    for fold in data.folds:
        result = run_fold(Probe(encoder="e", c=0.5), "p", fold, data, tables(clips, x))
        model, expected = sklearn_reference(clips, x, fold, 0.5)
        ours = scores_of(result["predictions"], list(model.classes_))
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        assert result["predictions"]["predicted"].to_pylist() == list(model.classes_[expected.argmax(1)])
        probe = result["probes"]
        assert set(probe["training_clips"].to_pylist()) == {4 * 6 * len(classes)}
        assert probe["inner_accuracy"].null_count == probe.num_rows
        assert probe.num_rows == len(classes) * (dimensions + 1)
        constants = result["predictions"].select(["kind", "encoder", "model", "scoring", "training_clips"]).to_pylist()
        expected = {"kind": "probe", "encoder": "e", "model": "toy", "scoring": "score"}
        assert constants == [expected | {"training_clips": 24 * len(classes)}] * result["predictions"].num_rows


def test_more_dimensions_than_clips_give_the_same_probabilities():
    data, clips, x = gaussian_blobs(n_folds=3, per_class=2, dimensions=40)
    result = run_fold(Probe(encoder="e", c=1.0), "p", 1, data, tables(clips, x))
    model, expected = sklearn_reference(clips, x, 1, 1.0)
    np.testing.assert_allclose(scores_of(result["predictions"], list(model.classes_)), expected, atol=1e-3)


def test_the_standard_error_of_an_accuracy_is_that_of_statsmodels():
    from statsmodels.regression.linear_model import OLS

    rng = np.random.default_rng(0)
    correct, source = rng.random(50) < 0.7, rng.integers(0, 20, 50)
    clustered = OLS(correct.astype(float), np.ones(50)).fit(cov_type="cluster", cov_kwds={"groups": source})
    assert standard_error(correct, source.astype(str)) == pytest.approx(clustered.bse[0])
    assert standard_error(correct, np.full(50, "one")) == 0


def test_c_is_the_smallest_within_one_standard_error_of_the_best_inside_the_training_folds():
    data, clips, x = gaussian_blobs(per_class=8, dimensions=12, separation=0.6, seed=3)
    grid = (0.01, 0.1, 1.0, 30.0)
    is_below_the_best = False
    for fold in data.folds:
        result = run_fold(Probe(encoder="e", c_grid=grid), "p", fold, data, tables(clips, x))
        folds, labels = clips["fold"].to_numpy(), np.array(clips["label"].to_pylist())
        inside = folds != fold
        source = np.array(clips["source"].to_pylist())[inside]
        correct = []
        for c in grid:
            pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-9, max_iter=5000))
            inner = LeaveOneGroupOut().split(x[inside], groups=folds[inside])
            correct.append(
                cross_val_predict(pipeline, x[inside].astype(float), labels[inside], cv=inner) == labels[inside]
            )
        accuracies = np.mean(correct, axis=1)
        best = int(accuracies.argmax())
        minimum = accuracies[best] - standard_error(correct[best], source)
        chosen = next(i for i, accuracy in enumerate(accuracies) if accuracy >= minimum)
        assert result["probes"]["c"][0].as_py() == grid[chosen]
        assert result["probes"]["inner_accuracy"][0].as_py() == pytest.approx(accuracies[chosen])
        is_below_the_best |= chosen < best
    assert is_below_the_best, "in one fold or more, the rule must choose another value than the best"


def test_the_smallest_of_equally_good_values_of_c_is_chosen():
    _, clips, x = gaussian_blobs(separation=50)  # so far apart that every value of C separates them
    y = np.array([["a", "b", "c"].index(label) for label in clips["label"].to_pylist()])
    source = np.array(clips["source"].to_pylist())
    c, accuracy = choose_c(x.astype(np.float64), y, clips["fold"].to_numpy(), source, (0.1, 1.0, 10.0))
    assert (c, accuracy) == (0.1, 1.0)
    assert Probe(encoder="e", c_grid=(10, 0.1, 1)).c_grid == (0.1, 1.0, 10.0), "ascending for any order in the study"


def test_two_training_folds_are_split_by_source_recording_not_by_fold():
    from vlm_audio_pipeline.classifiers import probe

    _, clips, _ = gaussian_blobs(n_folds=2)
    source = np.array(clips["source"].to_pylist())
    y = np.array(clips["label"].to_pylist())
    splits = probe._inner_splits(y, clips["fold"].to_numpy(), source)
    assert len(splits) == 5  # 2 folds x 3 = 6 source recordings per class, at most 5 splits
    for test in splits:
        assert not set(source[test]) & set(source[~test])
    assert np.sum(splits, axis=0).tolist() == [1] * len(y), "every clip is tested once"


def test_a_source_recording_in_two_folds_is_not_on_both_sides_of_an_inner_split():
    # Three folds of one recording per class, each with the same vectors: if copies were training clips, every clip were correct.
    rng = np.random.default_rng(0)
    y, fold = np.tile([0, 1, 2], 9), np.repeat([1, 2, 3], 9)
    source = np.tile(np.repeat(np.arange(3), 3), 3) * 3 + y
    x = rng.standard_normal((9, 20))[source]
    with pytest.raises(VlmAudioError, match="c must be set"):
        choose_c(x, y, fold, source.astype(str), (1.0,))


def test_too_few_training_clips_to_choose_c_are_refused():
    data, clips, x = gaussian_blobs(n_folds=2, per_class=2)  # one training fold, one source recording per class
    with pytest.raises(
        VlmAudioError, match=r"c must be set .* got 3 source recordings in 1 training folds; set `c: 0.1`"
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
def test_standardisation_equals_that_of_scikit_learn(seed, offset, spread):
    x = offset + spread * np.random.default_rng(seed).standard_normal((17, 3))
    x[:, 1] = offset
    scaler = StandardScaler().fit(x)
    mean, scale = standardisation(x)
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(scale, scaler.scale_, rtol=1e-3)


def test_a_class_that_occurs_only_in_the_tested_fold_is_refused_by_name():
    data, _, x = gaussian_blobs()
    only = [c for c in data.clips if c.label != "b" or c.fold == 2]
    keep = np.array([c in only for c in data.clips])
    data = dataset(only, data.classes)
    reduced_tables = tables(clips_table(only), x[keep])
    with pytest.raises(VlmAudioError, match=r"'p' needs training clips of every class, got none of \['b'\].*than 2"):
        run_fold(Probe(encoder="e", c=1), "p", 2, data, reduced_tables)


def test_one_class_and_mismatched_tables_are_refused():
    data, clips, x = gaussian_blobs(classes=("a",))
    with pytest.raises(VlmAudioError, match="at least 2 classes"):
        run_fold(Probe(encoder="e", c=1), "p", 1, data, tables(clips, x))
    data, clips, x = gaussian_blobs()
    incomplete = {"clips": clips, "embeddings/e": embeddings_table(clips.slice(0, 80), x[:80])}
    with pytest.raises(
        VlmAudioError,
        match=r"the embeddings of 'e' and the clips table contain different clips: 10 clips without a vector",
    ):
        run_fold(Probe(encoder="e", c=1), "p", 1, data, incomplete)


def test_a_sample_predicts_some_clips_and_is_fitted_on_all_training_clips():
    data, clips, x = gaussian_blobs()
    spec = Probe(encoder="e", c=1.0, sample={"clips": 7}, folds=(2, 4))
    result = {f: run_fold(spec, "p", f, data, tables(clips, x)) for f in (2, 4)}
    # 7 clips over 2 folds: 4 and 3
    assert [result[f]["predictions"].num_rows for f in (2, 4)] == [4, 3]
    complete = run_fold(Probe(encoder="e", c=1.0), "p", 2, data, tables(clips, x))
    everything = {r["clip"]: dict(r["scores"]) for r in complete["predictions"].to_pylist()}
    for row in result[2]["predictions"].to_pylist():
        assert dict(row["scores"]) == pytest.approx(everything[row["clip"]])
    assert result[2]["probes"].equals(complete["probes"])
    few = run_fold(Probe(encoder="e", c=1.0, sample={"clips": 1}), "p", 5, data, tables(clips, x))
    assert few["predictions"].num_rows == 0


def test_parameters_contain_everything_that_can_change_the_result():
    def parameters(**values):
        return [s.parameters for s in Probe(encoder="e", **values).stages("p", (1, 2))]

    assert parameters(sample={"clips": 3})[0] == parameters()[0], "a sample does not change the fitted probe"
    assert parameters(sample={"clips": 3})[1] != parameters()[1]
    assert parameters(sample={"clips": 3}, folds=(1,))[1] != parameters(sample={"clips": 3})[1]
    assert parameters(folds=(1,)) == parameters()
    assert parameters(c=1.0)[0] != parameters()[0]
    assert parameters(c=1.0, c_grid=(3,))[0] == parameters(c=1.0)[0], "with a fixed c, the grid has no effect"
    assert parameters(c=1.0)[1] == parameters()[1]


@pytest.mark.parametrize("wrong", [{"c": 0}, {"c": -1}, {"c_grid": ()}, {"c_grid": (0, 1)}])
def test_values_of_c_must_be_above_zero(wrong):
    with pytest.raises(ValidationError):
        Probe(encoder="e", **wrong)


def test_registered():
    assert CLASSIFIERS.get("probe") is Probe
