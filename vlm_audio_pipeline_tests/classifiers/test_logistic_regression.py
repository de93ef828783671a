"""The solver against scikit-learn's, and its independence of rounding."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vlm_audio_pipeline.classifiers.logistic_regression import fit
from vlm_audio_pipeline.contracts.errors import VlmAudioError

STRENGTHS = (0.001, 0.1, 10.0, 100.0)


def correlated_clips(n=60, dimensions=30, classes=4, seed=0):
    """Return standardised vectors (n, dimensions) whose dimensions correlate, and classes: badly conditioned, as audio is."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    mixing = rng.standard_normal((dimensions, dimensions)) * np.logspace(0, -2, dimensions)[:, None]
    x = (rng.standard_normal((n, dimensions)) + 0.8 * rng.standard_normal((classes, dimensions))[y]) @ mixing
    return (x - x.mean(0)) / x.std(0), y


def objective(z, y, c, weights, intercepts):
    logits = z @ weights.T + intercepts
    cross_entropy = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    return c * cross_entropy.sum() + 0.5 * np.square(weights).sum()


@pytest.mark.parametrize("dimensions", [30, 90], ids=["fewer dimensions than clips", "more dimensions than clips"])
def test_the_objective_is_within_a_millionth_of_an_independent_optimum(dimensions):
    z, y = correlated_clips(dimensions=dimensions)
    for c, (weights, intercepts) in zip(STRENGTHS, fit(z, y, STRENGTHS), strict=True):
        newton = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(z, y)
        optimum = objective(z, y, c, newton.coef_, newton.intercept_)
        assert objective(z, y, c, weights, intercepts) == pytest.approx(optimum, rel=1e-6)


def test_two_classes_have_the_probabilities_of_scikit_learn_s_binary_model():
    z, y = correlated_clips(classes=2)
    for c, (weights, intercepts) in zip(STRENGTHS, fit(z, y, STRENGTHS), strict=True):
        binary = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-10, max_iter=1000).fit(z, y)
        difference = (z @ weights.T + intercepts) @ [-1, 1]
        np.testing.assert_allclose(1 / (1 + np.exp(-difference)), binary.predict_proba(z)[:, 1], atol=1e-3)


def test_a_start_from_the_previous_strength_does_not_change_the_result():
    z, y = correlated_clips()
    *_, (along_the_path, _) = fit(z, y, STRENGTHS)
    [(alone, _)] = fit(z, y, STRENGTHS[-1:])
    np.testing.assert_allclose(along_the_path, alone, atol=0.02 * np.abs(alone).max())


def test_threads_and_rounding_of_the_input_do_not_change_the_logits():
    z, y = correlated_clips()
    results = []
    for threads, noise in ((1, 0.0), (2, 0.0), (1, 1e-7)):
        with threadpool_limits(limits=threads):
            [(weights, intercepts)] = fit(
                z * (1 + noise * np.random.default_rng(1).standard_normal(z.shape)), y, (10.0,)
            )
        results.append(z @ weights.T + intercepts)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=0.01)  # logits between -10 and 10
        assert (other.argmax(1) == results[0].argmax(1)).all()


def test_a_fit_that_does_not_converge_is_an_error():
    z, y = correlated_clips()
    with pytest.raises(VlmAudioError, match=r"c = 100 did not converge: after 3 iterations .* set a smaller `c`"):
        list(fit(z, y, (100.0,), max_iterations=3))


def test_constant_vectors_give_the_shares_of_the_classes():
    y = np.array([0, 0, 0, 1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [(weights, intercepts)] = fit(np.zeros((5, 3)), y, (1.0,))
    np.testing.assert_array_equal(weights, 0)
    np.testing.assert_allclose(np.exp(intercepts) / np.exp(intercepts).sum(), [0.6, 0.2, 0.2], atol=1e-3)
