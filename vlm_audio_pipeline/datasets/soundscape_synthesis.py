"""Synthesise long recordings with known events: overlapping sounds of twelve classes above noise, and periods of silence.

Belongs here: (seed, recording) -> events and samples. Does not belong here: segments, labels and folds (`soundscape.py`).

Ten classes are those of `synthesis.py`; sirens and bells are added here, because their frequencies overlap with those of other
classes. All events of a class in one recording are of one source, as in nature the same bird or engine is heard again.
"""

from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.datasets import synthesis

VERSION = 1
"""Increase it when the same seed and recording give other events or samples."""
RATE_HZ = 16000
CLASSES = tuple(sorted((*synthesis.SOUNDS, "church_bells", "siren")))

_EVENT_SECONDS = (0.8, 5.0)
_LEVELS_DB = (-18.0, 0.0)
_NOISE_DB = (-50.0, -35.0)
_FADE_S = 0.02


@dataclass(frozen=True)
class SoundEvent:
    """A sound in a recording, from `start_s` to `end_s` (s), with its level in dB (0 = the loudest)."""

    label: str
    start_s: float
    end_s: float
    level_db: float


def plan_events(seed: int, recording: int, duration_s: float, events_per_minute: float) -> tuple[SoundEvent, ...]:
    """Return the events of a recording, by start. The first fifth of every fifth recording is silent.

    The classes of all recordings together are a repeated random order of all classes, so that each occurs about equally often.

    Args:
        seed: of the dataset.
        recording: number of the recording, from 0.
        duration_s: length of the recording, s.
        events_per_minute: number of events in a minute.
    """
    r = _generator("events", seed, recording)
    count = max(1, round(events_per_minute * duration_s / 60))
    first_start_s = duration_s / 5 if recording % 5 == 4 else 0.0
    events = []
    for number in range(recording * count, (recording + 1) * count):
        order = _generator("classes", seed, number // len(CLASSES)).permutation(len(CLASSES))
        label = CLASSES[order[number % len(CLASSES)]]
        length_s = min(r.uniform(*_EVENT_SECONDS), duration_s - first_start_s)
        start_s = r.uniform(first_start_s, duration_s - length_s)
        events.append(
            SoundEvent(label, round(start_s, 3), round(start_s + length_s, 3), round(r.uniform(*_LEVELS_DB), 1))
        )
    return tuple(sorted(events, key=lambda e: (e.start_s, e.label)))


def synthesise_recording(seed: int, recording: int, duration_s: float, events_per_minute: float) -> np.ndarray:
    """Synthesise a recording; the same arguments always give the same samples.

    Returns:
        (round(duration_s * RATE_HZ),) float32, peak at most 0.95; events are mixed with their levels above faint noise.
    """
    r = _generator("noise", seed, recording)
    n = round(duration_s * RATE_HZ)
    mix = r.standard_normal(n).astype(np.float32) * 10 ** (r.uniform(*_NOISE_DB) / 20)
    for take, event in enumerate(plan_events(seed, recording, duration_s, events_per_minute)):
        start = round(event.start_s * RATE_HZ)
        sound = _sound(event, seed, recording, take)[: n - start]
        mix[start : start + len(sound)] += 10 ** (event.level_db / 20) * 0.5 * sound
    peak = float(np.abs(mix).max())
    return (mix * min(1.0, 0.95 / peak)).astype(np.float32)


def _sound(event: SoundEvent, seed: int, recording: int, take: int) -> np.ndarray:
    duration_s = event.end_s - event.start_s
    if event.label in synthesis.SOUNDS:
        sound = synthesis.synthesise(event.label, seed, recording, take, duration_s=duration_s, sample_rate_hz=RATE_HZ)
    else:
        source, own = _generator(event.label, seed, recording), _generator(event.label, seed, recording, take)
        sound = {"church_bells": _bells, "siren": _siren}[event.label](source, own, round(duration_s * RATE_HZ))
    fade = np.minimum(1.0, np.arange(1, len(sound) + 1) / (_FADE_S * RATE_HZ)).astype(np.float32)
    return sound * fade * fade[::-1]


def _siren(source: np.random.Generator, take: np.random.Generator, n: int) -> np.ndarray:
    """Three harmonics whose pitch goes up and down once in one to four seconds."""
    low_hz, octaves, period_s = source.uniform(450, 700), source.uniform(0.6, 1.1), source.uniform(1.0, 4.0)
    time = np.arange(n) / RATE_HZ + take.uniform(0, period_s)
    frequency_hz = low_hz * 2 ** (octaves * (1 - np.cos(2 * np.pi * time / period_s)) / 2)
    phase = 2 * np.pi * np.cumsum(frequency_hz) / RATE_HZ
    sound = np.sum([np.sin(k * phase) / k for k in (1, 2, 3)], axis=0)
    return np.asarray(0.5 * sound, np.float32)


def _bells(source: np.random.Generator, take: np.random.Generator, n: int) -> np.ndarray:
    """Strokes of a bell: partials at the ratios of a minor-third bell, each with its own decay."""
    strike_hz, period_s = source.uniform(250, 600), source.uniform(0.7, 1.6)
    ratios, decays_s = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0]), np.array([2.0, 1.2, 0.9, 0.6, 0.6, 0.3, 0.2])
    time = np.arange(n) / RATE_HZ
    stroke = np.sum(
        [np.exp(-time / d) * np.sin(2 * np.pi * strike_hz * q * time) for q, d in zip(ratios, decays_s, strict=True)],
        axis=0,
    )
    sound = np.zeros(n)
    at_s = take.uniform(0, 0.2)
    while round(at_s * RATE_HZ) < n:
        at = round(at_s * RATE_HZ)
        sound[at:] += stroke[: n - at] * take.uniform(0.7, 1.0)
        at_s += period_s * take.uniform(0.95, 1.05)
    return np.asarray(0.8 * sound / np.abs(sound).max(), np.float32)


def _generator(*seeds: str | int) -> np.random.Generator:
    return np.random.default_rng(int(digest(repr(("soundscape", *seeds)).encode())[:32], 16))
