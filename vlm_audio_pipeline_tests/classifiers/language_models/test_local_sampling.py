"""Token selection: greedy, seeded, and nucleus sampling."""

from collections import Counter

import numpy as np
import torch

from vlm_audio_pipeline.classifiers.language_models.local.sampling import token_chooser
from vlm_audio_pipeline.classifiers.language_models.messages import Sampling

LOGITS = torch.log(torch.tensor([0.1, 0.5, 0.15, 0.25]))


def count_draws(n: int = 2000, **sampling) -> Counter:
    choose = token_chooser(Sampling(**sampling))
    return Counter(choose(LOGITS) for _ in range(n))


def test_temperature_0_chooses_the_most_likely_token():
    assert count_draws(5, temperature=0.0) == {1: 5}


def test_draws_follow_the_probabilities():
    draws = count_draws(temperature=1.0)
    # standard error of a share p of 2000 draws: sqrt(p (1 - p) / 2000) <= 0.0112; the tolerance is four times that
    np.testing.assert_allclose([draws[i] / 2000 for i in range(4)], [0.1, 0.5, 0.15, 0.25], atol=0.045)


def test_temperature_divides_the_logits():
    # at temperature 0.5 probabilities are squared and normalised: 0.01, 0.25, 0.0225, 0.0625 over 0.345
    draws = count_draws(temperature=0.5)
    np.testing.assert_allclose([draws[i] / 2000 for i in range(4)], [0.029, 0.725, 0.065, 0.181], atol=0.045)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p():
    assert set(count_draws(temperature=1.0, top_p=0.7)) == {1, 3}  # 0.5 is not enough, 0.75 is
    assert set(count_draws(temperature=1.0, top_p=0.5)) == {1}
    assert set(count_draws(temperature=1.0, top_p=0.0)) == {1}
    assert set(count_draws(temperature=1.0, top_p=1.0)) == {0, 1, 2, 3}


def test_the_seed_determines_the_tokens():
    def ten(seed: int) -> list[int]:
        choose = token_chooser(Sampling(temperature=1.0, seed=seed))
        return [choose(LOGITS) for _ in range(10)]

    assert ten(3) == ten(3)
    assert len({tuple(ten(seed)) for seed in range(20)}) > 15
