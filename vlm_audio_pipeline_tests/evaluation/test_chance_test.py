import itertools

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.chance_test import DRAWS, chance_test

K = 10


def answer_table(predicted, classes=K):
    """Turn predicted class indices, -1 for no label, into shares of answers."""
    return np.array([[float(p == k) for k in range(classes)] for p in predicted])


def own_sources(n):
    return np.array([f"s{i}" for i in range(n)])


@pytest.mark.parametrize("correct", [0, 2, 8, 14, 15, 20])
def test_with_one_clip_for_each_source_it_is_the_exact_binomial_test(correct):
    from scipy.stats import binom

    labels = np.arange(80) % K
    predicted = np.where(np.arange(80) < correct, labels, (labels + 1) % K)
    p, method = chance_test(answer_table(predicted), labels, own_sources(80))
    expected = binom.sf(correct - 1, 80, 0.1) if correct > 8 else binom.cdf(correct, 80, 0.1)
    assert (p, method) == (pytest.approx(min(1, 2 * expected)), "exact, over the labels of sources")


def test_the_labels_of_a_source_are_drawn_together():
    # sources x (2 clips, answers 0 and 0), y (1 clip, answer 1), z (3 clips, answers 0, 1, 2); labels 0, 1 and 2
    predicted, labels, sources = [0, 0, 1, 0, 1, 2], np.array([0, 0, 1, 2, 2, 2]), np.array(list("xxyzzz"))
    frequencies = [2 / 6, 1 / 6, 3 / 6]
    gains = [[2, 0, 0], [0, 1, 0], [1, 1, 1]]  # correct answers of each source for each label
    observed = 2 + 1 + 1
    tail = sum(
        np.prod([frequencies[k] for k in drawn])
        for drawn in itertools.product(range(3), repeat=3)
        if sum(gain[k] for gain, k in zip(gains, drawn, strict=True)) >= observed
    )
    assert chance_test(answer_table(predicted, 3), labels, sources)[0] == pytest.approx(2 * tail)


def test_a_constant_answer_is_neither_better_nor_worse():
    labels = np.repeat(np.arange(K), 8)
    for answer in range(K):
        assert chance_test(answer_table(np.full(80, answer)), labels, own_sources(80))[0] > 0.8
    # the most frequent class, with half of the clips: its accuracy is 0.5, and independent of the clips
    unequal = np.array([0] * 40 + [1] * 20 + [2] * 20)
    assert chance_test(answer_table(np.zeros(80), 3), unequal, own_sources(80))[0] > 0.8


def test_predictions_without_a_label_count_as_one_guess_of_each_source():
    labels = np.arange(60) % K
    p, _ = chance_test(answer_table(np.full(60, -1)), labels, own_sources(60))
    assert p == pytest.approx(2 * 0.9**60)  # no guess of 60 is correct
    p, _ = chance_test(answer_table(np.full(60, -1)), np.zeros(60, int), np.repeat(own_sources(20), 3))
    assert p == pytest.approx(2 * 0.9**20)


def test_answers_of_several_trials_are_averaged_and_exact():
    # two trials on 30 clips: the first always correct, the second never
    labels = np.arange(30) % 3
    answers = (answer_table(labels, 3) + answer_table((labels + 1) % 3, 3)) / 2
    # a drawn label gives a half for two of three classes: P(all 30 of 30) = (2/3)^30
    assert chance_test(answers, labels, own_sources(30))[0] == pytest.approx(2 * (2 / 3) ** 30)


def test_many_possible_totals_use_random_draws(monkeypatch):
    rng = np.random.default_rng(3)
    labels, sources = np.arange(300) % K, (np.arange(300) // 20).astype(str)
    answers = (answer_table(rng.integers(0, K, 300)) + answer_table(rng.integers(-1, K, 300))) / 2
    answers[:16] = answer_table(labels[:16])
    exact, method = chance_test(answers, labels, sources)
    assert method.startswith("exact") and 0.001 < exact < 0.05
    monkeypatch.setattr("vlm_audio_pipeline.evaluation.chance_test._MAX_TOTALS", 10)
    p, method = chance_test(answers, labels, sources)
    assert method == f"{DRAWS} random draws of the labels of sources"
    assert p == pytest.approx(exact, abs=4 * 2 * (exact / 2 / DRAWS) ** 0.5)  # four standard errors of a share of draws
    assert chance_test(answers[::-1], labels[::-1], sources[::-1])[0] == p, "the same clips in another order"


def guesser(rng, sources, copies, preferences):
    """Guess independently of the labels; a share of the clips repeats the guess of its source."""
    n = len(sources)
    _, source_of = np.unique(sources, return_inverse=True)
    own, common = (rng.choice(K, size, p=preferences) for size in (n, source_of.max() + 1))
    return np.where(rng.random(n) < copies, common[source_of], own)


UNIFORM = np.full(K, 1 / K)
PREFERS_TWO = np.array([0.4, 0.4, *[0.2 / 8] * 8])
LAYOUTS = {
    # clips of each source by class, like fold 1 and all folds of ESC-10: some classes have few sources with many clips
    "80 clips": [[1] * 8] * 4 + [[2, 1, 1, 1, 1, 1, 1]] * 2 + [[2, 2, 2, 2]] * 2 + [[3, 2, 2, 1], [5, 3]],
    "400 clips": [[1] * 40] * 4
    + [[1] * 24 + [2] * 8] * 2
    + [[2] * 16 + [1] * 8] * 2
    + [[7, 5, 3, 3, 3] + [1] * 19] * 2,
}


def clips_of(layout):
    labels, sources = [], []
    for label, sizes in enumerate(LAYOUTS[layout]):
        for i, size in enumerate(sizes):
            labels += [label] * size
            sources += [f"{label}-{i}"] * size
    return np.array(labels), np.array(sources)


def findings(layout, rng, repetitions, predict):
    """Return the shares of simulated classifiers that are found better and worse than chance."""
    labels, sources = clips_of(layout)
    better = worse = 0
    for _ in range(repetitions):
        predicted = predict(rng, labels, sources)
        found = chance_test(answer_table(predicted), labels, sources)[0] < 0.05
        is_above = (predicted == labels).mean() > 1 / K
        better += found and is_above
        worse += found and not is_above
    return better / repetitions, worse / repetitions


@pytest.mark.parametrize("preferences", [UNIFORM, PREFERS_TWO], ids=["uniform", "prefers two"])
def test_of_all_guesses_on_80_clips_of_their_own_sources_at_most_2_5_percent_are_found_on_each_side(preferences):
    """The exact shares: with equal classes, what is found depends only on the number of correct guesses."""
    labels = np.arange(80) % K
    probabilities = np.ones(1)  # of each number of correct guesses
    for label in labels:
        probabilities = np.convolve(probabilities, [1 - preferences[label], preferences[label]])
    shares = {"better": 0.0, "worse": 0.0}
    for correct, probability in enumerate(probabilities):
        predicted = np.where(np.arange(80) < correct, labels, (labels + 1) % K)
        if chance_test(answer_table(predicted), labels, own_sources(80))[0] < 0.05:
            shares["better" if correct > 8 else "worse"] += probability
    assert 0.002 < shares["better"] <= 0.025 and 0.002 < shares["worse"] <= 0.025, shares


def test_of_all_guesses_of_whole_sources_at_most_2_5_percent_are_found_on_each_side():
    """Each of six sources guesses one of three classes for all its clips: 3^6 cases, with two preferences for the classes."""
    labels, source_of = np.array([0, 0, 1, 1, 2, 2, 2, 0]), np.array([0, 0, 1, 2, 3, 4, 4, 5])
    shares = {(k, side): 0.0 for k in range(2) for side in ("better", "worse")}
    for guess in itertools.product(range(3), repeat=6):
        predicted = np.array(guess)[source_of]
        if chance_test(answer_table(predicted, 3), labels, source_of.astype(str))[0] < 0.05:
            for k, preferences in enumerate(([1 / 3] * 3, [0.6, 0.2, 0.2])):
                side = "better" if (predicted == labels).mean() > 1 / 3 else "worse"
                shares[k, side] += np.prod([preferences[label] for label in guess])
    assert max(shares.values()) <= 0.025 and min(shares[0, "better"], shares[1, "better"]) > 0, shares


def test_few_guesses_are_found_better_or_worse():
    rates = findings("80 clips", np.random.default_rng(1), 150, lambda rng, _, s: guesser(rng, s, 0.5, UNIFORM))
    assert max(rates) <= 0.025 + 3 * (0.025 * 0.975 / 150) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("copies", [0.0, 0.9])
@pytest.mark.parametrize("preferences", [UNIFORM, PREFERS_TWO], ids=["uniform", "prefers two"])
def test_at_most_2_5_percent_of_guesses_are_found_better_and_at_most_2_5_percent_worse(layout, copies, preferences):
    repetitions = 2000
    rates = findings(
        layout, np.random.default_rng(2), repetitions, lambda rng, _, s: guesser(rng, s, copies, preferences)
    )
    print(f"{layout}, {copies} copies: better {rates[0]:.4f}, worse {rates[1]:.4f}")  # noqa: T201
    assert max(rates) <= 0.025 + 2 * (0.025 * 0.975 / repetitions) ** 0.5  # two standard errors of the simulation


@pytest.mark.slow
def test_power_at_an_accuracy_of_0_2_on_80_clips():
    """The exact binomial test finds P(Bin(80, 0.2) >= 15) = 0.654 of them, with 80 clips of their own sources."""

    def predict(rng, labels, sources):
        return np.where(rng.random(len(labels)) < 1 / 9, labels, guesser(rng, sources, 0.0, UNIFORM))

    better, worse = findings("80 clips", np.random.default_rng(3), 2000, predict)
    print(f"found better {better:.3f}")  # noqa: T201
    assert better > 0.57 and worse == 0
