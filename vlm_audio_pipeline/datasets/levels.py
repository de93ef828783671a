"""Check the levels of decoded samples: values, scale, and channels that cancel each other."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MAX_PEAK = 8.0
"""Largest plausible peak, 1 = full scale. Lossy codecs and floating-point recorders exceed 1, but not by 18 dB."""

_MAX_CANCELLED_POWER = 0.1
"""Power of the sum of the channels, as a share of that of uncorrelated channels. Two channels of equal power are below it if
their correlation is below -0.9."""
_MIN_RMS = 1e-4
"""Root mean square below which channels count as silent, 1 = full scale."""
_MIN_SAMPLES = 32
"""Number of samples below which channels may cancel by chance."""
_SCALES = {2.0**7: "8-bit", 2.0**15: "16-bit", 2.0**23: "24-bit", 2.0**31: "32-bit"}


def find_level_problem(samples: "np.ndarray", mono: "np.ndarray") -> str | None:
    """Return why samples cannot be used, or None.

    Args:
        samples: (n, channels) float32, 1 = full scale.
        mono: (n,) float32, their mean over the channels.
    """
    import numpy as np

    finite = np.isfinite(samples).all(axis=1)
    if not finite.all():
        return f"not finite: {int((~finite).sum())} of {len(samples)} samples are NaN or infinite"
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > MAX_PEAK:
        scale, name = next(((s, n) for s, n in _SCALES.items() if peak <= s), (peak, "unknown"))
        return (
            f"impossible level: the peak is {peak:.6g}, where 1 is full scale, as of samples on a {name} integer scale; "
            f"divide the samples by {scale:.0f} and save them again"
        )
    channels = samples.shape[1]
    if channels > 1 and len(samples) >= _MIN_SAMPLES:
        power = float(np.square(samples, dtype=np.float64).mean())
        mono_power = float(np.square(mono, dtype=np.float64).mean())
        if power > _MIN_RMS**2 and channels * mono_power < _MAX_CANCELLED_POWER * power:
            return (
                f"channels cancel: the mean of the {channels} channels has an RMS of {mono_power**0.5:.3g}, the channels "
                f"{power**0.5:.3g}, as if one were inverted; save one channel, or invert one"
            )
    return None
