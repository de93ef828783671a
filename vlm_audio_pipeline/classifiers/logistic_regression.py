"""Multinomial logistic regression, fitted to its optimum.

Belongs here: the solver and its test of convergence. Does not belong here: standardisation and the choice of the
regularisation strength (`probe`).

With weak regularisation, a loose tolerance ends a fit several per cent above the optimum. Which strength is then best depends on
rounding, and so on the machine. Here a fit ends only when a bound on its distance from the optimum is small enough.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.contracts.errors import VlmAudioError

TOLERANCE = 1e-8
"""Largest distance of the objective from its optimum, relative to the objective (an upper bound of it, see `fit`)."""

_MAX_ITERATIONS = 20_000
_MIN_CURVATURE = 1e-12  # where every probability rounds to 0 or 1
_RANK_TOLERANCE = 1e-12  # singular values below this share of the largest are rounding errors


def fit(
    z: np.ndarray, y: np.ndarray, strengths: tuple[float, ...], max_iterations: int = _MAX_ITERATIONS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Fit L2-regularised multinomial logistic regressions, one for each regularisation strength; see `fit_in_basis`.

    Args:
        z: (clips, dimensions) float64, standardised.
        y: (clips,) int, class indices; two or more different ones.
        strengths: inverse regularisation strengths, ascending; each fit starts from the previous solution.
        max_iterations: of one fit.

    Yields:
        weights (classes, dimensions) and intercepts (classes,), float64, rows in the order of the sorted indices in y.

    Raises:
        VlmAudioError: if a fit does not converge.
    """
    yield from fit_in_basis(Basis.from_vectors(z), y, strengths, max_iterations)


@dataclass(frozen=True)
class Basis:
    """The singular vectors and values of (clips, dimensions) standardised vectors, without those that are rounding errors.

    Attributes:
        left: (clips, rank) float64.
        singular: (rank,) float64, descending.
        right: (rank, dimensions) float64.
    """

    left: np.ndarray
    singular: np.ndarray
    right: np.ndarray

    @classmethod
    def from_vectors(cls, z: np.ndarray) -> "Basis":
        """Decompose vectors; several fits to the same vectors need only one decomposition."""
        left, singular, right = np.linalg.svd(z, full_matrices=False)
        rank = int(np.sum(singular > _RANK_TOLERANCE * singular[0]))
        return cls(left[:, :rank], singular[:rank], right[:rank])


def fit_in_basis(
    basis: Basis, y: np.ndarray, strengths: tuple[float, ...], max_iterations: int = _MAX_ITERATIONS
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Fit L2-regularised multinomial logistic regressions to decomposed vectors, one for each regularisation strength.

    Minimises C * (sum of cross-entropies) + |W|^2 / 2 (Hastie, Tibshirani & Friedman, The Elements of Statistical
    Learning, 2nd edition, sections 4.4 and 18.4). Intercepts are not regularised. Two classes have one weight vector, as in
    scikit-learn's `LogisticRegression`.

    The solution lies in the span of the clips, so the fit runs in the basis of singular vectors, which has at most as many
    dimensions as there are clips. There the Hessian is close to diagonal: each dimension is scaled by the inverse root of
    C * s^2 * (mean p (1 - p)) + 1, where s is its singular value and p are the probabilities of the previous fit. L-BFGS
    (Liu & Nocedal, Mathematical Programming 45, 1989) needs a few hundred iterations at most in these coordinates.

    A fit ends when the bound is below `TOLERANCE`: the objective is 1-strongly convex in W, so it lies at most
    |gradient|^2 / 2 above its optimum (Boyd & Vandenberghe, Convex Optimization, equation 9.9). The gradient of the intercepts
    is added with its approximate curvature.

    Args:
        basis: of the standardised vectors.
        y: (clips,) int, class indices; two or more different ones.
        strengths: inverse regularisation strengths, ascending; each fit starts from the previous solution.
        max_iterations: of one fit.

    Yields:
        weights (classes, dimensions) and intercepts (classes,), float64, rows in the order of the sorted indices in y.

    Raises:
        VlmAudioError: if a fit does not converge.
    """
    from scipy.optimize import minimize

    labels, y = np.unique(y, return_inverse=True)
    left, singular, right = basis.left, basis.singular, basis.right
    n, k, rank = len(left), len(labels), len(singular)
    one_hot = np.eye(k)[y]
    weights, intercepts, probability = np.zeros((k, rank)), np.zeros(k), one_hot.mean(axis=0)[None]
    for c in strengths:
        strength = c / 2 if k == 2 else c  # rows w/2 and -w/2 have half the penalty of scikit-learn's single row w
        curvature = strength * max((probability * (1 - probability)).mean(), _MIN_CURVATURE)
        scale, intercept_scale = 1 / np.sqrt(1 + curvature * singular**2), 1 / np.sqrt(curvature * n)
        design = np.hstack([left * (singular * scale), np.full((n, 1), intercept_scale)])
        objective = _Objective(design, one_hot, strength, scale)
        start = np.hstack([weights / scale, intercepts[:, None] / intercept_scale])
        result = minimize(
            objective.evaluate,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=objective.stop_if_converged,
            options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "ftol": 0, "gtol": 0},
        )
        solution = result.x.reshape(k, -1)
        objective.evaluate(result.x)
        if objective.bound > TOLERANCE * objective.value:
            raise VlmAudioError(
                f"the logistic regression with c = {c:g} did not converge: after {result.nit} iterations its objective is up to "
                f"{objective.bound / objective.value:.1e} above the optimum (at most {TOLERANCE:g} is allowed); set a smaller `c`"
            )
        weights, intercepts, probability = (
            solution[:, :-1] * scale,
            solution[:, -1] * intercept_scale,
            objective.probability,
        )
        yield weights @ right, intercepts


class _Objective:
    """The objective and its gradient at the last evaluated point, with the bound on its distance from the optimum."""

    def __init__(self, design: np.ndarray, one_hot: np.ndarray, strength: float, scale: np.ndarray) -> None:
        self._design, self._one_hot, self._strength, self._scale = design, one_hot, strength, scale
        self._point = np.empty(0)
        self.value = self.bound = np.inf
        self.probability = one_hot

    def evaluate(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient at scaled weights and intercepts, (classes * (rank + 1),) float64."""
        self._point = point.copy()
        scaled = point.reshape(self._one_hot.shape[1], -1)
        logits = self._design @ scaled.T
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        sums = exponentials.sum(axis=1, keepdims=True)
        weights = scaled[:, :-1] * self._scale
        cross_entropy = np.log(sums).sum() - (logits * self._one_hot).sum()
        self.value = float(self._strength * cross_entropy + 0.5 * np.square(weights).sum())
        self.probability = exponentials / sums
        gradient = self._strength * ((self.probability - self._one_hot).T @ self._design)
        gradient[:, :-1] += weights * self._scale
        weights_gradient = (
            gradient[:, :-1] / self._scale
        )  # in unscaled coordinates, where the objective is 1-strongly convex
        self.bound = float(0.5 * np.square(weights_gradient).sum() + 0.5 * np.square(gradient[:, -1]).sum())
        return self.value, gradient.ravel()

    def stop_if_converged(self, point: np.ndarray) -> None:
        """End the fit at a point whose bound is small enough; scipy calls this after each iteration."""
        # The line search usually accepts the last point that it has evaluated.
        if self._point is None or not np.array_equal(point, self._point):
            self.evaluate(point)
        if self.bound <= TOLERANCE * self.value:
            raise StopIteration
