"""Synthesise the ten sounds of the `synthetic` dataset.

Belongs here: (label, seed, source, take) -> samples. Does not belong here: listings, folds, files.

Each class is a small physical model: a glottal wave through the resonances of a vocal tract (dog, rooster, baby, sneeze),
coloured noise with an envelope (rain, waves, helicopter), impulses (fire, clock) or an engine (chainsaw). There are two
random generators. `source` determines what is constant within a source recording: pitch, timbre, room, background. `take`
determines what differs between its clips: timing, loudness of single events, noise. Every sound then gets a room, a
background (from clearly audible to faint) and a microphone, so that classes differ by their structure in time and frequency
and a classifier makes some mistakes.

Noise and rooms are computed in the frequency domain; harmonic sounds are read from a table with one period. A clip of 5 s at
44.1 kHz takes about ten milliseconds, most of them in numpy without the interpreter lock.
The models follow P. R. Cook, "Real Sound Synthesis for Interactive Applications" (2002).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from vlm_audio_pipeline.contracts.hashing import digest

VERSION = 2
"""Increase it when the same (label, seed, source, take) gives other samples."""

Samples = npt.NDArray[np.float32]
"""(samples,) float32."""
Random = np.random.Generator
Sound = Callable[[Random, Random, int, int], Samples]
"""(source, take, samples, rate in Hz) -> (samples,) float32, at any level."""

_TABLE = 4096  # points of a table with one period


def synthesise(
    label: str, seed: int, source: int, take: int, *, duration_s: float = 5.0, sample_rate_hz: int = 44100
) -> Samples:
    """Synthesise a clip; the same arguments always give the same samples.

    Args:
        label: one of `SOUNDS`.
        seed: of the dataset.
        source: number of the source recording; its clips share pitch, timbre, room and background.
        take: number of the clip within the source recording; determines timing and noise.
        duration_s: length, s.
        sample_rate_hz: sample rate, Hz; 8 kHz or more.

    Returns:
        (round(duration_s * sample_rate_hz),) float32, peak between 0.2 and 0.9.

    Raises:
        KeyError: for a label that is not in `SOUNDS`.
    """
    sound = SOUNDS[label]
    n = round(duration_s * sample_rate_hz)
    source_random = _generator(label, seed, source)
    take_random = _generator(label, seed, source, take)
    dry = sound(source_random, take_random, n, sample_rate_hz)
    return _record(dry, source_random, take_random, sample_rate_hz)


def _generator(*seeds: str | int) -> Random:
    return np.random.default_rng(int(digest(repr(seeds).encode())[:32], 16))


# Building blocks


def _noise(
    r: Random, n: int, rate: int, *, tilt: float = 0.0, low_hz: float = 20.0, high_hz: float | None = None
) -> Samples:
    """Return Gaussian noise with power ~ 1/f^tilt between two second-order slopes (Hz), standard deviation 1."""
    from scipy import fft

    m = fft.next_fast_len(n, real=True)
    spectrum = _random_spectrum(r, m // 2 + 1)
    f = np.arange(m // 2 + 1, dtype=np.float32) * np.float32(rate / m)
    f[0] = f[1]
    spectrum *= _band(f, low_hz, high_hz or rate / 2, tilt)
    x: Samples = fft.irfft(spectrum, m)[:n]
    return x / (np.std(x) + np.float32(1e-12))


def _random_spectrum(r: Random, bins: int) -> npt.NDArray[np.complex64]:
    return r.standard_normal(2 * bins, dtype=np.float32).view(np.complex64)


def _band(f: Samples, low_hz: float, high_hz: float, tilt: float = 0.0) -> Samples:
    """Return the magnitude of a band with second-order slopes and a spectral tilt, at frequencies `f` in Hz."""
    below, above = (f * np.float32(1 / high_hz)) ** 2, (np.float32(low_hz) / f) ** 2
    magnitude: Samples = 1 / np.sqrt((1 + below * below) * (1 + above * above))
    if tilt:
        magnitude *= np.exp(np.log(f * np.float32(1e-3)) * np.float32(-tilt / 2))
    return magnitude


def _harmonics(f0_hz: npt.NDArray[np.floating], amplitudes: Sequence[float] | Samples, rate: int) -> Samples:
    """Return the sum of harmonics of a gliding pitch, read from a table with one period; none is above Nyquist.

    Args:
        f0_hz: (samples,) pitch, Hz.
        amplitudes: of the harmonics 1, 2, ...; each harmonic has a fixed phase.
        rate: Hz.

    Returns:
        (samples,) float32, standard deviation about 1.
    """
    from scipy import fft

    count = max(1, min(len(amplitudes), int(0.48 * rate / max(float(f0_hz.max()), 1.0))))
    a = np.asarray(amplitudes[:count], dtype=np.float64)
    a = a / (np.sqrt(np.sum(a * a) / 2) + 1e-12)
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
    spectrum[1 : count + 1] = a * np.exp(1j * np.arange(count) ** 2) * _TABLE / 2
    table: Samples = fft.irfft(spectrum, _TABLE).astype(np.float32)
    where = np.cumsum(f0_hz, dtype=np.float64) * (_TABLE / rate)
    whole = where.astype(np.int64)
    rest = (where - whole).astype(np.float32)
    left = whole & (_TABLE - 1)
    samples: Samples = table[left] * (1 - rest) + table[(left + 1) & (_TABLE - 1)] * rest
    return samples


def _resonate(x: Samples, rate: int, peaks: Sequence[tuple[float, float, float]], floor: float = 0.05) -> Samples:
    """Filter a sound with resonances (centre Hz, width Hz, gain); between them the gain is `floor`."""
    from scipy import fft

    m = fft.next_fast_len(len(x), real=True)
    f = np.arange(m // 2 + 1, dtype=np.float32) * np.float32(rate / m)
    gain = np.full(len(f), floor, dtype=np.float32)
    for centre, width, height in peaks:
        gain += np.float32(height) / (1 + ((f - np.float32(centre)) * np.float32(1 / width)) ** 2)
    filtered: Samples = fft.irfft(fft.rfft(x, m) * gain, m)
    return filtered[: len(x)]


def _decay_curve(n: int, rate: int, attack_s: float, decay_s: float) -> Samples:
    """Return an envelope that rises linearly and then decays exponentially."""
    t = np.arange(n, dtype=np.float32) / np.float32(rate)
    rise: Samples = np.minimum(t / np.float32(attack_s), 1)
    decay: Samples = np.exp(-np.maximum(t - np.float32(attack_s), 0) / np.float32(decay_s))
    return rise * decay


def _swell_curve(n: int, rise: float, fall: float) -> Samples:
    """Return an envelope that rises and falls smoothly during these shares of its length and is 1 in between."""
    u = np.linspace(0, 1, n, dtype=np.float32)
    edge = np.clip(np.minimum(u / np.float32(rise), (1 - u) / np.float32(fall)), 0, 1)
    envelope: Samples = np.sin(edge * np.float32(np.pi / 2))
    return envelope


def _glide(n: int, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Interpolate linearly between equally spaced points; returns (n,)."""
    values: npt.NDArray[np.float64] = np.interp(
        np.linspace(0, 1, n), np.linspace(0, 1, np.size(points)), np.asarray(points)
    )
    return values


def _drift(r: Random, n: int, rate: int, per_second: float) -> Samples:
    """Return a slow random curve with `per_second` turning points and a standard deviation of about 1."""
    from scipy.interpolate import CubicSpline

    knots = max(4, int(n / rate * per_second) + 2)
    curve: npt.NDArray[np.float64] = CubicSpline(np.linspace(0, n, knots), r.standard_normal(knots))(np.arange(n))
    return curve.astype(np.float32)


def _add(out: Samples, event: Samples, at_s: float, rate: int) -> None:
    """Add an event to a clip; samples beyond the end of the clip are dropped."""
    at = int(at_s * rate)
    n = min(len(event), len(out) - at)
    if n > 0:
        out[at : at + n] += event[:n]


def _glottis(count: int, tilt: float) -> Samples:
    """Return the amplitudes of the harmonics of a voice before the vocal tract: k^-tilt."""
    return np.arange(1, count + 1, dtype=np.float32) ** np.float32(-tilt)


def _first_start_s(r: Random, duration: float, length: float) -> float:
    """Choose the start of the first event, s: early, and such that an event of this length fits into the clip."""
    return r.uniform(0.02, max(0.03, min(1.2, duration - length)))


# The ten sounds


def dog(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Bark: short voiced bursts whose pitch jumps up and falls, in groups, through a throat."""
    pitch = source.uniform(220, 700)
    length = source.uniform(0.07, 0.2)
    breath = source.uniform(0.1, 0.7)
    throat = source.uniform(650, 1500)
    gap = source.uniform(0.12, 0.45)
    shape = [0.75, 1.25, 1.1, source.uniform(0.6, 0.85), 0.6]
    out = np.zeros(n, np.float32)
    duration = n / rate
    t = _first_start_s(take, duration, 0.4)
    while t < duration - 0.05:
        d = length * take.uniform(0.8, 1.25)
        m = int(2.5 * d * rate)
        x = _harmonics(pitch * take.uniform(0.92, 1.08) * _glide(m, shape), _glottis(30, 0.7), rate)
        x += np.float32(breath) * take.standard_normal(m, dtype=np.float32)
        _add(out, x * _decay_curve(m, rate, 0.012, 0.4 * d) * np.float32(take.uniform(0.5, 1)), t, rate)
        t += d + (gap * take.uniform(0.8, 1.3) if take.random() < 0.65 else take.uniform(0.7, 1.9))
    return _resonate(out, rate, [(throat, 350, 1), (2.4 * throat, 600, 0.5), (0.45 * throat, 200, 0.4)])


def rooster(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Crow: three or four syllables rising to a long one that climbs and sinks, harsh and rich in overtones."""
    pitch = source.uniform(330, 640)
    rough, rasp = source.uniform(16, 34), source.uniform(0.004, 0.03)
    beak = source.uniform(1700, 2800)
    syllables = [(0.16, (1.0, 1.25)), (0.13, (1.2, 1.35)), (0.32, (1.3, 1.75)), (1.0, (1.75, 1.9, 1.6, 0.95))]
    if source.random() < 0.4:
        del syllables[1]
    durations = [source.uniform(0.8, 1.25) for _ in syllables]
    out = np.zeros(n, np.float32)
    duration = n / rate
    t = _first_start_s(take, duration, 2.0)
    for _ in range(3):
        tempo, tune = take.uniform(0.9, 1.12), take.uniform(0.95, 1.05)
        for (d, path), longer in zip(syllables, durations, strict=True):
            m = int(d * longer * tempo * rate)
            wobble = 1 + rasp * np.sin(2 * np.pi * rough * np.arange(m) / rate)
            x = _harmonics(pitch * tune * _glide(m, path) * wobble, _glottis(26, 0.45), rate)
            _add(out, x * _swell_curve(m, 0.12, 0.3), t, rate)
            t += m / rate + take.uniform(0.02, 0.06)
        t += take.uniform(0.5, 1.8)
        if t > duration - 1.5:
            break
    out += np.float32(0.05) * np.abs(out) * take.standard_normal(n, dtype=np.float32)
    return _resonate(out, rate, [(beak, 900, 1), (0.45 * beak, 400, 0.5), (1.9 * beak, 1100, 0.4)], 0.08)


def rain(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Make rain: steady broadband noise, and drops that ring for one or two milliseconds."""
    from scipy.signal import lfilter

    hiss = _noise(
        take, n, rate, tilt=source.uniform(0, 0.9), low_hz=source.uniform(150, 900), high_hz=source.uniform(8000, 18000)
    )
    drops = source.uniform(30, 250) * n / rate
    ring_hz, width_hz = source.uniform(700, 4000), source.uniform(200, 900)
    strength = source.uniform(0.3, 1.6)
    at = take.integers(0, n, take.poisson(drops))
    impulses = np.zeros(n, np.float32)
    np.add.at(impulses, at, take.exponential(0.5, len(at)).astype(np.float32))
    radius = np.exp(-np.pi * width_hz / rate)
    poles = [1, -2 * radius * np.cos(2 * np.pi * ring_hz / rate), radius**2]
    drip: Samples = lfilter(np.array([1, -1], np.float32), np.array(poles, np.float32), impulses)
    drip /= np.abs(drip).max() + np.float32(1e-9)
    swing: Samples = 1 + np.float32(0.06) * _drift(take, n, rate, source.uniform(0.3, 1))
    return hiss * swing + np.float32(3 * strength) * drip


def sea_waves(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Make waves: noise that grows for seconds and then breaks, first a low rumble, then bright noise."""
    period = source.uniform(2.0, 4.8)
    crest = source.uniform(0.35, 0.65)
    calm = source.uniform(0.03, 0.25)
    wash = source.uniform(0.4, 1.1)
    low = _noise(take, n, rate, tilt=1.2, low_hz=60, high_hz=source.uniform(900, 2200))
    high = _noise(take, n, rate, tilt=0.5, low_hz=source.uniform(500, 1100), high_hz=source.uniform(6000, 12000))
    duration = n / rate
    times, levels, t = [-period], [0.0], -period * take.uniform(0, 1)
    while t < duration + period:
        p = period * take.uniform(0.8, 1.25)
        times += [t, t + crest * p]
        levels += [0.0, take.uniform(0.6, 1)]
        t += p
    height = np.interp(np.arange(n) / rate, times, levels).astype(np.float32)
    rumble, foam = height**1.5 + np.float32(calm), height**3 + np.float32(0.5 * calm)
    return low * rumble + np.float32(wash) * high * foam


def crackling_fire(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Crackle: sharp cracks at random moments, a few strong and many faint, over a soft roar."""
    per_second = source.uniform(5, 30)
    m = int(0.06 * rate)
    bank = []
    for _ in range(8):
        low = source.uniform(700, 3500)
        crack = _noise(source, m, rate, low_hz=low, high_hz=low * source.uniform(2, 4))
        bank.append(crack * _decay_curve(m, rate, 0.0005, source.uniform(0.0015, 0.012)))
    roar = source.uniform(0.02, 0.12)
    hiss = source.uniform(0.0, 0.06)
    out = np.float32(roar) * _noise(take, n, rate, tilt=1.4, low_hz=40, high_hz=source.uniform(300, 700))
    out += np.float32(hiss) * _noise(take, n, rate, tilt=0.4, low_hz=800)
    burning = np.exp(0.7 * _drift(take, n, rate, 1.0))  # cracks come in flurries
    chances = np.cumsum(burning)
    moments = np.searchsorted(chances, take.uniform(0, chances[-1], take.poisson(per_second * n / rate)))
    for at, index, level in zip(
        moments, take.integers(0, len(bank), len(moments)), take.lognormal(-1.2, 0.9, len(moments)), strict=True
    ):
        _add(out, bank[index] * np.float32(min(level, 3)), at / rate, rate)
    return out


def crying_baby(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Cry repeatedly for about a second: a high voice whose pitch rises, falls and trembles, with breaths between cries."""
    pitch = source.uniform(350, 620)
    tremble, depth = source.uniform(4.5, 9), source.uniform(0.01, 0.04)
    tract = [(source.uniform(950, 1500), 350, 1.0), (source.uniform(2700, 3900), 600, 0.7), (pitch * 1.1, 250, 0.3)]
    length, rest = source.uniform(0.45, 1.3), source.uniform(0.1, 0.5)
    breath = source.uniform(0.05, 0.35)
    out = np.zeros(n, np.float32)
    duration = n / rate
    t = _first_start_s(take, duration, 1.4) * 0.4
    while t < duration - 0.1:
        m = int(length * take.uniform(0.75, 1.3) * rate)
        seconds = np.arange(m) / rate
        f0 = pitch * _glide(m, [0.86, take.uniform(1.05, 1.15), 1.12, 1.05, 0.85])
        f0 *= 1 + depth * np.sin(2 * np.pi * tremble * seconds + take.uniform(0, 6))
        x = _harmonics(f0, _glottis(30, 0.5), rate) + np.float32(breath) * take.standard_normal(m, dtype=np.float32)
        _add(out, x * _swell_curve(m, 0.15, 0.25) * np.float32(take.uniform(0.7, 1)), t, rate)
        t += m / rate
        m = int(0.6 * rest * rate)
        gasp = np.float32(0.5 * breath) * take.standard_normal(m, dtype=np.float32) * _swell_curve(m, 0.5, 0.3)
        _add(out, gasp, t + 0.3 * rest, rate)
        t += rest * take.uniform(1, 1.4)
    return _resonate(out, rate, tract, 0.06)


def sneezing(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Sneeze: an inhaled breath that grows, a pause, and a burst of bright noise with a short falling voice."""
    pitch = source.uniform(170, 400)
    inhale, burst = source.uniform(0.25, 0.8), source.uniform(0.15, 0.4)
    draw, voice = source.uniform(0.08, 0.45), source.uniform(0.15, 0.9)
    low, high = source.uniform(700, 2000), source.uniform(7000, 14000)
    mouth = source.uniform(1100, 2200)
    times = 1 if source.random() < 0.6 else 2
    out = np.zeros(n, np.float32)
    duration = n / rate
    t = _first_start_s(take, duration, inhale + burst) + take.uniform(0, max(0.0, duration - 4.0))
    for _ in range(times):
        m = int(inhale * take.uniform(0.85, 1.15) * rate)
        u = np.linspace(0, 1, m, dtype=np.float32)
        breath = _noise(take, m, rate, low_hz=600, high_hz=3500)
        breath += np.float32(0.3) * _harmonics(pitch * _glide(m, [0.8, 1.3]), _glottis(6, 1), rate)
        _add(out, np.float32(draw) * breath * u * u, t, rate)
        t += m / rate + take.uniform(0.02, 0.15)
        d = burst * take.uniform(0.85, 1.15)
        m = int(2.5 * d * rate)
        spray = _noise(take, m, rate, low_hz=low, high_hz=high) * _decay_curve(m, rate, 0.006, 0.35 * d)
        decay = _decay_curve(m, rate, 0.02, 0.4 * d)
        cry = _harmonics(pitch * _glide(m, [1.7, 1.2, 0.9]), _glottis(20, 0.8), rate) * decay
        _add(out, np.float32(1.6) * spray + np.float32(voice) * cry, t, rate)
        t += d + take.uniform(0.7, 1.6)
        if t > duration - 0.6:
            break
    return _resonate(out, rate, [(mouth, 700, 0.8), (0.4 * mouth, 250, 0.4), (3.2 * mouth, 1800, 0.5)], 0.3)


def clock_tick(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Tick: regular clicks that ring for a few milliseconds; every second click sounds slightly different."""
    period = source.choice([0.2, 0.25, 1 / 3, 0.5, 1.0]) * source.uniform(0.94, 1.06)
    pitch, alternate = source.uniform(1200, 5000), source.uniform(0.8, 1.25)
    ring, click = source.uniform(0.004, 0.014), source.uniform(0.4, 1.6)
    m = int(0.1 * rate)
    t = np.arange(m, dtype=np.float32) / np.float32(rate)
    ticks = []
    for f in (pitch, pitch * alternate):
        x = np.float32(click) * source.standard_normal(m, dtype=np.float32) * np.exp(-t / np.float32(0.0015))
        for ratio, level, longer in ((1, 1, 1.6), (1.73, 0.6, 1), (2.9, 0.4, 0.6)):
            if f * ratio < 0.45 * rate:
                wave = np.sin(np.float32(2 * np.pi * f * ratio) * t + np.float32(source.uniform(0, 6)))
                x += np.float32(level) * wave * np.exp(-t / np.float32(ring * longer))
        ticks.append(x)
    out = np.zeros(n, np.float32)
    for i, at in enumerate(np.arange(take.uniform(0, min(period, n / rate / 2)), n / rate, period)):
        _add(out, ticks[i % 2] * np.float32(take.uniform(0.8, 1)), max(0.0, at + take.normal(0, 0.001)), rate)
    return out


def helicopter(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Fly past: low noise modulated by the blades 10 to 20 times per second, a turbine's hum, and a slow approach."""
    blades_hz, sharp = source.uniform(9, 22), source.uniform(2, 7)
    low = _noise(take, n, rate, tilt=1.0, low_hz=45, high_hz=source.uniform(350, 1000))
    air = _noise(take, n, rate, tilt=0.6, low_hz=500, high_hz=source.uniform(2500, 5000))
    whine = _harmonics(np.full(n, source.uniform(65, 140)), _glottis(6, 1), rate)
    between, breeze, hum = source.uniform(0.08, 0.35), source.uniform(0.05, 0.3), source.uniform(0.03, 0.25)
    speed = blades_hz * (1 + 0.02 * _drift(take, n, rate, 0.6))
    turn = np.cumsum(speed, dtype=np.float64) / rate + take.uniform(0, 1)
    chop = np.exp(np.float32(sharp) * (np.cos(2 * np.pi * turn).astype(np.float32) - 1))
    near = _glide(n, take.uniform(0.45, 1, 3)).astype(np.float32)
    blades: Samples = chop + np.float32(between)
    sound: Samples = low * blades + np.float32(breeze) * air * blades + np.float32(hum) * whine
    return near * sound


def chainsaw(source: Random, take: Random, n: int, rate: int) -> Samples:
    """Saw: the buzz of an engine that idles, accelerates and works under load in turn, and the rasp of the chain."""
    from scipy.signal import lfilter

    full_hz, idle = source.uniform(80, 170), source.uniform(0.35, 0.6)
    colour = _glottis(60, source.uniform(0.3, 0.7)) * np.exp(source.normal(0, 0.5, 60)).astype(np.float32)
    chain, sway = source.uniform(0.2, 1.0), source.uniform(0.6, 2.2)
    rasp = _noise(take, n, rate, tilt=0.3, low_hz=source.uniform(900, 2000), high_hz=source.uniform(6000, 12000))
    steps = max(2, int(sway * n / rate) + 2)
    throttle = np.where(take.random(steps) < 0.35, idle, take.uniform(0.7, 1.2, steps))
    lag = np.float64(np.exp(-1 / (0.12 * rate)))  # the engine follows the throttle within 0.12 s
    target = np.repeat(throttle, -(-n // steps))[:n]
    revs, _ = lfilter([1 - lag], [1, -lag], target, zi=[lag * target[0]])
    rough = 1 + 0.012 * _noise(take, n, rate, tilt=1.0, low_hz=5, high_hz=60)
    buzz = _harmonics(full_hz * revs * rough, colour, rate)
    load = revs.astype(np.float32)
    engine: Samples = buzz * (np.float32(0.4) + np.float32(0.6) * load)
    cutting: Samples = np.float32(chain) * rasp * np.clip(load - 0.4, 0.05, 1)
    return engine + cutting


SOUNDS: dict[str, Sound] = {
    f.__name__: f
    for f in (
        dog,
        rooster,
        rain,
        sea_waves,
        crackling_fire,
        crying_baby,
        sneezing,
        clock_tick,
        helicopter,
        chainsaw,
    )
}
"""Label -> function that synthesises the sound."""


# From the sound to the recording


def _record(dry: Samples, source: Random, take: Random, rate: int) -> Samples:
    """Add the reverberation of a room, its background and a microphone, all in the frequency domain.

    The background is 4 to 30 dB below the sound (both as RMS over the clip). Level: a peak of -14 to -1 dBFS.
    """
    from scipy import fft

    n = len(dry)
    reverberation_s, wet = source.uniform(0.1, 0.9), source.uniform(0.0, 0.5)
    snr_db, tilt = source.uniform(4, 30), source.uniform(0.2, 2.0)
    microphone = source.uniform(20, 150), source.uniform(5000, 20000)
    hum_hz = source.choice([0.0, 0.0, 0.0, 50.0, 60.0])
    m = fft.next_fast_len(n + int(0.5 * rate), real=True)  # zero padding, so that the reverberation does not wrap
    f = np.arange(m // 2 + 1, dtype=np.float32) * np.float32(rate / m)
    f[0] = f[1]
    tail = source.standard_normal(int(0.5 * rate), dtype=np.float32)
    tail *= np.exp(-np.arange(len(tail), dtype=np.float32) * np.float32(6.9 / (reverberation_s * rate)))
    tail *= np.float32(wet / np.sqrt(np.sum(tail * tail)))
    tail[0] = 1  # the direct sound
    response = _band(f, microphone[0], min(microphone[1], 0.45 * rate))
    sound = fft.rfft(dry, m) * fft.rfft(tail, m) * response
    background = _random_spectrum(take, len(f)) * (_band(f, 20, rate / 2, tilt) * response)
    if hum_hz:
        for k in range(1, 6):
            background[int(k * hum_hz * m / rate)] += np.float32(0.25 / k) * np.linalg.norm(background)
    background *= np.float32(_rms(sound) / _rms(background) * np.sqrt(m / n) * 10 ** (-snr_db / 20))
    recorded: Samples = fft.irfft(sound + background, m)[:n]
    peak = 10 ** (take.uniform(-14, -1) / 20)
    return recorded * np.float32(peak / np.abs(recorded).max())


def _rms(spectrum: npt.NDArray[np.complex64]) -> float:
    return float(np.linalg.norm(spectrum)) + 1e-12
