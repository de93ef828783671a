"""The test of a classifier against chance.

The sign-flip test is not used here: the difference from a constant is not symmetric, so that it reports 7 to 9 % of the
classifiers that guess on 80 clips as worse than chance.

Labels of source recordings are drawn, not permuted: the classes of a dataset can have very different numbers of source recordings
(ESC-10: 15 of helicopter, 40 of rain, 40 clips each). After a permutation of the labels of whole source recordings, the expected
accuracy of a classifier that prefers one class is not the chance level.
"""

from math import gcd

import numpy as np

from vlm_audio_pipeline.measures.uncertainty import seed_of

DRAWS = 20_000
_UNITS = 232_792_560
"""lcm(1, ..., 20): in these units, shares of up to 20 trials are whole numbers."""
_MAX_TOTALS = 100_000
"""Maximum number of possible totals of which the probabilities are computed; above it, labels are drawn at random."""


def chance_test(answers: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> tuple[float, str]:
    """Test whether a classifier is as often correct as a guess among all classes.

    If the answers have nothing to do with the clips, the true class of a source recording could as well be another one. The
    test keeps the answers and draws the class of every source recording, with the frequencies of the classes among the clips; the
    clips of one source recording and class share a draw, so the answers to them may depend on each other in any way. Predictions
    without a label count as one guess for each source recording. `p` is twice the probability of a number of correct predictions that is at
    least as far on the side of the observed difference from 1 / classes. So guesses are reported as better, and as worse,
    with a probability of at most 2.5 % each. A classifier that always gives the same answer is neither.

    The probabilities are exact (by convolution over the source recordings) if few totals are possible; otherwise `DRAWS` random draws
    give (b + 1) / (draws + 1) (Phipson and Smyth, Permutation P-values Should Never Be Zero, 2010).

    Args:
        answers: (n, classes) float, the share of the predictions of a clip that names each class; the rest has no label.
        labels: (n,) int, index of the true class.
        sources: (n,) str.

    Returns:
        The two-sided p-value, and how it was computed.
    """
    n, classes = answers.shape
    frequencies = np.bincount(labels, minlength=classes) / n
    _, group_of = np.unique(np.char.add(sources.astype(str), np.char.mod("\t%d", labels)), return_inverse=True)
    by_group = np.zeros((group_of.max() + 1, classes))
    np.add.at(by_group, group_of, answers)
    without_label = np.bincount(group_of) - by_group.sum(axis=1)
    correct = np.rint(by_group * _UNITS).astype(np.int64)
    guessed = np.rint(without_label * _UNITS).astype(np.int64)
    total = int(np.rint(answers * _UNITS).astype(np.int64)[np.arange(n), labels].sum())
    is_above = total > n * _UNITS / classes
    step = gcd(*correct.ravel().tolist(), *guessed.tolist(), total) or 1
    if n * _UNITS // step > _MAX_TOTALS:
        tail = _random_tail(correct, guessed, frequencies, total, is_above)
        return min(1.0, 2 * tail), f"{DRAWS} random draws of the labels of sources"
    probabilities = _total_probabilities(correct // step, guessed // step, frequencies)
    observed = total // step
    tail = float((probabilities[observed:] if is_above else probabilities[: observed + 1]).sum())
    return min(1.0, 2 * tail), "exact, over the labels of sources"


def _total_probabilities(correct: np.ndarray, guessed: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """Return the probability of each total.

    Args:
        correct: (groups, classes) int, number of correct predictions of a group if its class is drawn.
        guessed: (groups,) int, number of predictions without a label.
        frequencies: (classes,) float, probabilities of the classes.
    """
    totals: np.ndarray = np.ones(1)
    for group_correct, guesses in zip(correct, guessed.tolist(), strict=True):
        group_totals = np.bincount(group_correct, weights=frequencies)
        if guesses:
            guess = np.zeros(guesses + 1)
            guess[0], guess[-1] = 1 - 1 / len(frequencies), 1 / len(frequencies)
            group_totals = np.convolve(group_totals, guess)
        totals = np.convolve(totals, group_totals)
    return totals


def _random_tail(
    correct: np.ndarray, guessed: np.ndarray, frequencies: np.ndarray, total: int, is_above: bool
) -> float:
    """Estimate the probability of a total at least as far on one side; the arguments are in units of `_UNITS`."""
    random = np.random.default_rng(seed_of(correct, guessed))
    groups, classes = correct.shape
    block = max(1, 4_000_000 // groups)  # bounds memory
    extreme_count = 0
    for start in range(0, DRAWS, block):
        size = (min(block, DRAWS - start), groups)
        labels = random.choice(classes, size, p=frequencies)
        totals = correct[np.arange(groups), labels].sum(axis=1) + (random.random(size) < 1 / classes) @ guessed
        extreme_count += int((totals >= total).sum() if is_above else (totals <= total).sum())
    return (extreme_count + 1) / (DRAWS + 1)
