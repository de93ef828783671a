"""Perturbations: change the audio of clips by noise, gain or a low-pass filter, to measure how much that lowers the accuracy.

Belongs here: the key `perturb` of a study, the change of the samples, and the stages that read changed samples. Does not belong
here: images and vectors of the changed samples; their own stages compute them.

A perturbation is a condition of a classifier, as a control is. It changes the decoded samples at the sample rate of the
recording, before they are resampled, so images and encoders receive the same audio. Training clips stay unchanged.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.file_copies import readable_path
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.regular_files import digest_file, file_stamp
from vlm_audio_pipeline.contracts.specs import StudyPath, check_distinct
from vlm_audio_pipeline.contracts.stages import Stage, StageContext

if TYPE_CHECKING:
    import numpy as np

VERSION = 1
"""Increase it whenever a perturbation computes other samples."""

Quantity = Literal["snr_db", "gain_db", "low_pass_hz"]
"""What a perturbation sets: the signal-to-noise ratio (dB), the level (dB), or the highest frequency (Hz)."""
_FILTER_ORDER = 8  # 48 dB per octave


@dataclass(frozen=True)
class Perturbation:
    """One change of the audio of a clip; picklable and small.

    Attributes:
        name: name of the condition, such as "white_noise_20db"; a value of the column `control`.
        quantity: what is set.
        value: its value, dB or Hz.
        noise: file of the noise; None for white noise, and for a change without noise.
        noise_sha256: SHA-256 of that file; None without one, and for a missing file.
        seed: seed of the noise.
    """

    name: str
    quantity: Quantity
    value: float
    noise: Path | None = None
    noise_sha256: str | None = None
    seed: int = 0

    @property
    def words(self) -> str:
        """The change in words.

        >>> Perturbation("white_noise_20db", "snr_db", 20.0).words
        'white noise, SNR 20 dB'
        """
        if self.quantity == "gain_db":
            return f"gain {self.value:g} dB"
        if self.quantity == "low_pass_hz":
            return f"low-pass {self.value:g} Hz"
        return f"{self.series}, SNR {self.value:g} dB"

    @property
    def series(self) -> str:
        """What the perturbations of one axis have in common, in words: "white noise", "noise of rain.wav", "gain", "low-pass"."""
        if self.quantity == "snr_db":
            return "white noise" if self.noise is None else f"noise of {self.noise.name}"
        return "gain" if self.quantity == "gain_db" else "low-pass"

    def parameters(self) -> dict[str, Any]:
        """Return the plain values that determine the changed samples: neither the name nor the path of the noise."""
        noise = {"noise": "white" if self.noise is None else self.noise_sha256, "seed": self.seed}
        return {"version": VERSION, self.quantity: self.value, **(noise if self.quantity == "snr_db" else {})}

    def content_sha256(self, samples_sha256: str) -> str:
        """Return a hash of the changed samples of a clip, from the content hash of its own samples."""
        return fingerprint("perturbed", self.parameters(), samples_sha256, length=64)

    def unavailable(self) -> str | None:
        """Return why the change cannot be computed on this machine (the file of the noise is missing), or None."""
        return None if self.noise is None or self.noise.is_file() else f"the noise {self.noise} is missing"

    def apply(self, samples: "np.ndarray", sample_rate_hz: int, samples_sha256: str) -> "np.ndarray":
        """Return the changed samples of a clip. Samples beyond full scale are kept.

        Noise: x + g n with g^2 = mean(x^2) / (mean(n^2) 10^(snr_db / 10)), both means over the whole clip. White noise n has
        independent normal samples. Noise of a file begins at a random place in it, and is repeated if it is shorter than the clip.
        Both are seeded by the content of the clip, so n is the same at every ratio. Digital silence has no ratio and stays silent.
        Gain: 10^(gain_db / 20) x. Low-pass: a Butterworth filter of order 8 with -3 dB at its limit (`scipy.signal.butter`), without
        effect if half the sample rate is not above the limit.

        Args:
            samples: (n,) float32 mono, 1 = full scale, as decoded.
            sample_rate_hz: their sample rate, Hz.
            samples_sha256: content hash of the clip.

        Returns:
            (n,) float32.

        Raises:
            VlmAudioError: for a file of noise that cannot be read, has changed, or is silent.
        """
        import numpy as np

        if self.quantity == "gain_db":
            return samples * np.float32(10 ** (self.value / 20))
        if self.quantity == "low_pass_hz":
            return _low_pass(samples, sample_rate_hz, self.value)
        rng = np.random.default_rng(int(fingerprint("noise", self.seed, samples_sha256), 16))
        noise = (
            _cut(self._read_noise(sample_rate_hz), len(samples), rng) if self.noise else rng.normal(size=len(samples))
        )
        noise_power = float(np.square(noise, dtype=np.float64).mean())
        if noise_power == 0:
            raise VlmAudioError(
                f"noise must not be silent, got {self.noise} with {len(samples) / sample_rate_hz:g} s of digital silence; "
                "cut the silence out of it"
            )
        power = float(np.square(samples, dtype=np.float64).mean())
        gain = np.sqrt(power / (noise_power * 10 ** (self.value / 10)))
        mixed: np.ndarray = (samples + gain * noise).astype(np.float32)
        return mixed

    def _read_noise(self, sample_rate_hz: int) -> "np.ndarray":
        if self.noise is None or self.noise_sha256 is None:
            raise NotAvailable(f"the noise {self.noise} is missing; put it there, or remove it from `perturb`")
        return _decode_noise(self.noise, self.noise_sha256, sample_rate_hz)


_Ratio = Annotated[float, Field(ge=-60, le=120)]
_Gain = Annotated[float, Field(ge=-120, le=60)]
_Limit = Annotated[float, Field(ge=1, le=1_000_000)]


class Perturb(BaseModel):
    """Changes of the audio under which clips are classified again: one condition for each value, which changes nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    noise: Literal["white"] | StudyPath | None = None
    """Noise that is added: white, or the path of a recording."""
    snr_db: Annotated[tuple[_Ratio, ...], AfterValidator(check_distinct)] = ()
    """Signal-to-noise ratios, dB: mean power of the clip over mean power of the noise, both over the whole clip."""
    gain_db: Annotated[tuple[_Gain, ...], AfterValidator(check_distinct)] = ()
    """Changes of the level, dB."""
    low_pass_hz: Annotated[tuple[_Limit, ...], AfterValidator(check_distinct)] = ()
    """Frequencies above which the audio is removed, Hz."""
    seed: int = Field(0, ge=0)
    """Seed of the noise. The noise of a clip depends on it and on the clip's samples."""

    @model_validator(mode="after")
    def _noise_has_ratios(self) -> Self:
        if (self.noise is None) != (not self.snr_db):
            missing = "snr_db" if self.noise else "noise"
            raise ValueError(
                f"noise and snr_db belong together, got no {missing}; write both: `noise: white, snr_db: [20, 10, 0]`"
            )
        return self

    @property
    def perturbations(self) -> tuple[Perturbation, ...]:
        """The conditions, in the order of their keys and values. A changed file of noise has another digest in them."""
        file = self.noise if isinstance(self.noise, Path) else None
        sha256 = None if file is None else _digest(file)
        noise_name = "white" if file is None else _name_part(file.stem)
        noisy = (
            Perturbation(f"{noise_name}_noise_{_value_name(v)}db", "snr_db", v, file, sha256, self.seed)
            for v in self.snr_db
        )
        gains = (Perturbation(f"gain_{_value_name(v)}db", "gain_db", v) for v in self.gain_db)
        limits = (Perturbation(f"low_pass_{_value_name(v)}hz", "low_pass_hz", v) for v in self.low_pass_hz)
        return (*noisy, *gains, *limits)


def perturbed_stage(stage: Stage, perturbation: Perturbation) -> Stage:
    """Return a stage that reads the changed samples of the clips, and computes the same from them.

    Args:
        stage: a stage that reads samples only through `StageContext.dataset`.
        perturbation: the change.
    """

    def change(context: StageContext) -> StageContext:
        return replace(context, dataset=context.dataset.perturb(perturbation))

    def run_ahead(contexts: Sequence[StageContext]) -> None:
        assert stage.run_ahead is not None
        stage.run_ahead([change(context) for context in contexts])

    return replace(
        stage,
        run=lambda context: stage.run(change(context)),
        run_ahead=None if stage.run_ahead is None else run_ahead,
        parameters={**stage.parameters, "perturbation": perturbation.parameters()},
        unavailable=lambda: stage.unavailable() or perturbation.unavailable(),
        description=f"{stage.description.removesuffix('.')}; audio changed: {perturbation.words}.",
    )


def _cut(noise: "np.ndarray", length: int, rng: "np.random.Generator") -> "np.ndarray":
    """Return `length` samples of the noise from a random place on; noise that is shorter is repeated."""
    import numpy as np

    if len(noise) >= length:
        start = int(rng.integers(len(noise) - length + 1))
        return noise[start : start + length]
    return np.take(noise, np.arange(length) + int(rng.integers(len(noise))), mode="wrap")


@lru_cache(maxsize=4)
def _decode_noise(path: Path, sha256: str, sample_rate_hz: int) -> "np.ndarray":
    """Return the samples of a file of noise, (n,) float32 mono, at the sample rate of a clip, Hz."""
    from vlm_audio_pipeline.datasets.audio import decode, resample

    if digest_file(readable_path(path)) != sha256:
        raise VlmAudioError(
            f"{path} changed while the study was running (its content hash differs). Run the study again to use the new noise."
        )
    samples, file_rate_hz, _ = decode(readable_path(path))
    noise = resample(samples, file_rate_hz, sample_rate_hz)
    noise.setflags(write=False)
    return noise


def _low_pass(samples: "np.ndarray", sample_rate_hz: int, limit_hz: float) -> "np.ndarray":
    import numpy as np
    from scipy.signal import butter, sosfilt

    if sample_rate_hz / 2 <= limit_hz:
        return samples
    sections = butter(_FILTER_ORDER, limit_hz, fs=sample_rate_hz, output="sos")
    filtered: np.ndarray = sosfilt(sections, samples.astype(np.float64)).astype(np.float32)
    return filtered


def _digest(path: Path) -> str | None:
    try:
        return _stored_digest(path, file_stamp(os.stat(path)))
    except OSError:  # a missing file, or no file at all: `Perturbation.unavailable` says so
        return None


@lru_cache(maxsize=16)
def _stored_digest(path: Path, stamp: str) -> str:  # noqa: ARG001  # another stamp is another entry of the cache
    return digest_file(path)


def _name_part(text: str) -> str:
    """Convert the name of a file to the characters that names of conditions have.

    >>> _name_part("Rain on roof (2)")
    'rain_on_roof_2'
    """
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].rstrip("_") or "file"


def _value_name(value: float) -> str:
    """Convert a number to the characters that names of conditions have.

    >>> _value_name(-2.5)
    'minus_2_5'
    """
    digits = f"{abs(value):.10f}".rstrip("0").rstrip(".").replace(".", "_")
    return f"minus_{digits}" if value < 0 else digits
