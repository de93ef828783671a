"""Variance components against arithmetic, another library, and simulated data with known components."""

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.variance_components import mean_square, variance_components


def components(correct, factors, source=None):
    source = np.arange(len(correct)) if source is None else source
    return {c.effect: c for c in variance_components(np.asarray(correct, float), factors, source)}


def test_the_analysis_of_variance_by_hand():
    # four clips (rows) in two draws (columns): means of clips 1, 1, 0.5, 0, of draws 0.75, 0.5, of all 0.625
    correct = np.array([[1, 1], [1, 1], [1, 0], [0, 0]], float)[:, :, None]
    # clips: 2 (0.375^2 + 0.375^2 + 0.125^2 + 0.625^2) / 3 = 2 x 0.6875 / 3
    assert mean_square(correct, (0,)) == pytest.approx(2 * 0.6875 / 3)
    # draws: 4 (0.125^2 + 0.125^2) / 1 = 0.125
    assert mean_square(correct, (1,)) == pytest.approx(0.125)
    # residuals: -+0.125 for the three clips with equal draws, +-0.375 for the third: 2 (3 x 0.125^2 + 0.375^2) / 3 = 0.125
    assert mean_square(correct, (0, 1)) == pytest.approx(0.125)
    found = components(correct, ("clip", "draw"))
    # clip: (MS_clip - MS_residual) / 2 draws; draw: (MS_draw - MS_residual) / 4 clips
    assert found["clip",].variance == pytest.approx((2 * 0.6875 / 3 - 0.125) / 2)
    assert found["draw",].variance == pytest.approx(0)
    assert found["clip", "draw"].variance == pytest.approx(0.125)
    # the variance of the mean accuracy: each variance / its number of levels
    assert [c.variance_of_mean for c in found.values()] == pytest.approx([found["clip",].variance / 4, 0, 0.125 / 8])


def test_mean_squares_of_three_factors_equal_statsmodels():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    correct = np.random.default_rng(0).integers(0, 2, (5, 3, 2, 2)).astype(float)
    index = np.indices(correct.shape).reshape(4, -1)
    frame = pd.DataFrame({"y": correct.ravel(), **dict(zip("cdor", index, strict=True))})
    table = anova_lm(ols("y ~ C(c) * C(d) * C(o)", frame).fit())
    for effect, name in {(0,): "C(c)", (1, 2): "C(d):C(o)", (0, 1, 2): "C(c):C(d):C(o)", (): "Residual"}.items():
        assert mean_square(correct, effect) == pytest.approx(table["mean_sq"][name])


def test_known_components_are_estimated_without_bias():
    random, found = np.random.default_rng(0), []
    sd = {("clip",): 0.15, ("draw",): 0.08, ("clip", "draw"): 0.1}
    for _ in range(60):
        share = 0.5 + 0.15 * random.standard_normal((60, 1)) + 0.08 * random.standard_normal((1, 6))
        share = share + 0.1 * random.standard_normal((60, 6))
        correct = random.random((60, 6, 3)) < np.clip(share, 0, 1)[:, :, None]
        found.append(components(correct, ("clip", "draw")))
    for effect, expected in sd.items():
        estimates = np.array([f[effect].variance for f in found])
        assert estimates.mean() == pytest.approx(expected**2, abs=4 * estimates.std() / np.sqrt(60))
        covered = np.mean([f[effect].low <= expected**2 <= f[effect].high for f in found])
        assert covered > 0.83, "95 % nominal; 4 SD of 60 worlds below it"
    repeat = np.mean([f["repeat",].variance for f in found])
    assert repeat == pytest.approx(0.25 - 0.15**2 - 0.08**2 - 0.1**2, abs=0.004)  # p (1 - p), mean over p


def test_clips_of_one_source_recording_widen_the_interval_of_clips():
    random = np.random.default_rng(0)
    share = np.repeat(0.5 + 0.3 * random.standard_normal(30), 4).clip(0, 1)
    correct = (random.random((120, 5)) < share[:, None])[:, :, None]
    independent, clustered = (
        components(correct, ("clip", "draw"), source)["clip",] for source in (None, np.repeat(np.arange(30), 4))
    )
    assert clustered.variance == independent.variance
    assert clustered.high - clustered.low > 1.3 * (independent.high - independent.low)


def test_a_factor_with_one_level_is_an_error():
    with pytest.raises(ValueError, match="every factor must have at least 2 levels"):
        components(np.ones((5, 1, 1)), ("clip", "draw"))
