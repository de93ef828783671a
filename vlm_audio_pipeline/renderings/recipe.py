"""A recipe: everything that decides what the picture of a clip looks like, and the stage that draws a fold.

What belongs here: the fields, their units and which combinations make sense. What does not: how pixels are computed
(`picture`), and what is done to pictures as a control (`controls`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.specs import not_identity
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.renderings.base import RENDERINGS, RenderingSpec
from vlm_audio_pipeline.renderings.drawing import drawn, spectrograms
from vlm_audio_pipeline.renderings.picture import Picture, render
from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS, preset

if TYPE_CHECKING:
    from vlm_audio_pipeline.datasets.base import Dataset

STEP_VERSION = 2
"""Raised whenever the same clip and recipe would give other pixels; guarded by golden pictures."""

_USUAL_COLORMAPS = frozenset(
    [
        "viridis",
        "magma",
        "inferno",
        "plasma",
        "cividis",
        "gray",
        "Greys",
        "jet",
        "hot",
        "turbo",
        "bone",
        "coolwarm",
        "twilight",
    ]
)
_USUAL_WINDOWS = frozenset(["hann", "hamming", "blackman", "boxcar", "tukey:0.25"])
_AXES: dict[str, tuple[str, ...]] = {  # frequency axes a transform can be drawn on; the first is its default
    "stft": ("linear", "log", "mel"),
    "mel": ("mel", "linear", "log"),
    "cqt": ("log", "linear"),
    "mfcc": ("linear",),
}


class FrameParts(BaseModel):
    """What is drawn around the data."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    labels: bool = True
    """Name the axes and their units."""
    ticks: bool = True
    """Tick marks and numbers on the axes."""
    title: bool = False
    """The word "Spectrogram" above the data; never the clip's name, which may give its class away."""
    colorbar: bool = False
    """The scale of colours at the right."""


@RENDERINGS.register("recipe")
class Recipe(RenderingSpec):
    """How the picture of a clip is drawn: samples, transform, scales, colours, frame and file."""

    preset: str | None = not_identity(None)
    """Take what is not given here from a named recipe (`vlm-audio renderings` lists them)."""
    rate: int | None = Field(22050, ge=100)
    """Sampling rate the clip is brought to (soxr, HQ), Hz; null: the file's own."""
    sample_format: Literal["float", "int16"] = "float"
    """float: as decoded, 1 = full scale; int16: scaled to a peak of 32767 and cut to whole numbers, as programs that write 16-bit WAV first do."""
    duration: Literal["native", "pad", "crop", "repeat"] = "native"
    """native: as it is; crop: cut to `seconds`; pad, repeat: made just `seconds` long, silence or the clip itself behind."""
    seconds: float | None = Field(None, gt=0, le=3600)
    """Wanted length, s; for every duration but native."""
    transform: Literal["stft", "mel", "cqt", "mfcc"] = "stft"
    """Short-time spectrum, mel bands, constant-Q transform (librosa: slow), or mel-frequency cepstral coefficients."""
    n_fft: int = Field(2048, ge=16, le=65536)
    """Window and transform length, samples."""
    hop_length: int = Field(512, ge=1)
    """Step between frames, samples."""
    window: str = "hann"
    """A window that scipy.signal.get_window knows; one with a parameter as `tukey:0.25`."""
    center: bool = True
    """Pad both ends with n_fft / 2 zeros, so that a frame is centred on its time, as librosa does; false: whole windows only, as scipy does."""
    detrend: bool = False
    """Subtract from each frame its mean, as scipy.signal.spectrogram does."""
    scaling: Literal["power", "density"] = "power"
    """power: |X|^2 (librosa); density: power a Hz, one-sided (scipy)."""
    n_mels: int = Field(128, ge=2, le=1024)
    """Mel bands, for mel and mfcc."""
    n_mfcc: int = Field(20, ge=2)
    """Cepstral coefficients, at most n_mels."""
    bins_per_octave: int = Field(12, ge=1, le=96)
    """Bins an octave, for cqt."""
    frequency: Literal["linear", "log", "mel"] | None = None
    """Frequency axis, as `librosa.display.specshow` scales it: linear; log: logarithmic above 65.4 Hz; mel: above 1 kHz. By default linear for stft, mel for mel, log for cqt."""
    f_min: float | None = Field(None, ge=0)
    """Lowest frequency, Hz; by default 0, for cqt 32.7 Hz (C1)."""
    f_max: float | None = Field(None, gt=0)
    """Highest frequency, Hz; by default half the rate."""
    amplitude: Literal["db", "linear", "power"] = "db"
    """Colours follow decibels, the square root of the power, or the power; mfcc is always made from decibels."""
    reference: Literal["max"] | float = "max"
    """What the top of the colours is (0 dB, or 1): the clip's loudest value, or a power."""
    range_db: float | None = Field(80.0, gt=0, le=400)
    """Range of the colours below the reference, dB; null: from the clip's smallest to its largest value, rounded outward to 10 dB."""
    colormap: str = "viridis"
    """Any name matplotlib knows."""
    frame: FrameParts | Literal["none"] = "none"
    """none: the data fill the picture; else what is drawn around them: labels, ticks, title, colorbar."""
    width: int = Field(640, ge=8, le=8192)
    """Width of the picture, pixels."""
    height: int = Field(480, ge=8, le=8192)
    """Height of the picture, pixels."""
    size: int | None = not_identity(None, ge=8, le=8192)
    """Width and height of a square picture, pixels."""
    dpi: int = Field(100, ge=10, le=600)
    """Pixels an inch: text of the frame is 10 points."""
    resampling: Literal["nearest", "bilinear", "area"] = "nearest"
    """From the cells of the transform to pixels: the cell under the pixel's centre (matplotlib's), between cells, or the mean of the cells under the pixel."""
    format: Literal["palette", "rgb", "jpeg"] = "palette"
    """PNG of 256 colours, the same pixels as a PNG of 24 bits, or JPEG."""
    quality: int = Field(90, ge=1, le=100)
    """Quality of a JPEG."""

    @classmethod
    def variants(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Give the entries one entry of a study stands for: `preset: paper_ablation` stands for nine.

        The member that has the group's stem for a name ("paper") adds nothing to the entry's name, "paper_magma" adds
        "magma". What a member exists to change is left to it, whatever the entry says of it.
        """
        name = values.get("preset")
        if name not in GROUPS:
            return {"": values}
        stem = GROUPS[name][0]
        return {m[len(stem) :].strip("_"): {**cls._own_keys(values, stem, m), "preset": m} for m in GROUPS[name]}

    @classmethod
    def _own_keys(cls, values: dict[str, Any], stem: str, member: str) -> dict[str, Any]:
        """Give the entry's own keys for a member of a group, without those the member exists to change.

        A size is kept in proportion: the quarter of 640 x 480 that `paper_low_resolution` has is a quarter of any other.
        """
        base = PRESETS[stem].values
        changed = {k: v for k, v in PRESETS[member].values.items() if base.get(k) != v}
        own = dict(values)
        if "width" in changed and own.get("size") is not None:
            own |= dict.fromkeys(("width", "height"), own.pop("size"))
        for key in changed.keys() & own.keys():
            if key in ("width", "height", "dpi"):
                own[key] = max(1, round(own[key] * changed[key] / cls.model_fields[key].default))
            elif key == "frame" and isinstance(own[key], Mapping):
                own[key] = {**own[key], **{k: v for k, v in changed[key].items() if base[key][k] != v}}
            else:
                del own[key]
        return own

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        """Take what is not given from the preset, and width and height from `size`."""
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        size = values.get("size")
        if size is not None:
            if {"width", "height"} & set(values):
                raise ValueError("size must be given alone, got width or height too; drop one of them")
            values |= {"width": size, "height": size}
        if values.get("frame", "") in (None, False):
            values["frame"] = "none"
        if values.get("preset") is not None:
            try:
                base = dict(preset(str(values["preset"])).values)
            except VlmAudioError as error:
                raise ValueError(str(error)) from None
            own, its = values.get("frame"), base.get("frame")
            if isinstance(own, Mapping) and isinstance(its, Mapping):
                values["frame"] = {**its, **own}
            if "transform" in values and "frequency" not in values:
                base.pop("frequency", None)  # another transform has another axis
            values = {**base, **values}
        if values.get("frequency") is None and values.get("transform", "stft") in _AXES:
            values["frequency"] = _AXES[values.get("transform", "stft")][0]
        return values

    @field_validator("colormap")
    @classmethod
    def _known_colormap(cls, name: str) -> str:
        if name not in _USUAL_COLORMAPS:  # so that reading a study seldom imports matplotlib
            from matplotlib import colormaps

            if name not in colormaps:
                raise ValueError(f"colormap must be one of matplotlib's, got '{name}'; {suggestion(name, colormaps)}")
        return name

    @field_validator("window")
    @classmethod
    def _known_window(cls, name: str) -> str:
        if name not in _USUAL_WINDOWS:
            from vlm_audio_pipeline.renderings.time_frequency import window_weights

            try:
                window_weights(name, 16)
            except VlmAudioError as error:
                raise ValueError(str(error)) from None
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.frequency not in _AXES[self.transform]:
            raise ValueError(
                f"frequency must be one of {list(_AXES[self.transform])} for transform {self.transform}, "
                f"got '{self.frequency}'; drop it"
            )
        if (self.duration == "native") != (self.seconds is None):
            raise ValueError(
                f"seconds must be given for duration pad, crop and repeat alone, got duration '{self.duration}' and "
                f"seconds {self.seconds}; correct one of them"
            )
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc must be at most n_mels = {self.n_mels}, got {self.n_mfcc}; lower it")
        if isinstance(self.reference, float) and self.reference <= 0:
            raise ValueError(f"reference must be 'max' or a power above 0, got {self.reference}; use 1")
        top = self.f_max if self.f_max is not None else self.rate / 2 if self.rate else float("inf")
        if self.rate and top > self.rate / 2:
            raise ValueError(f"f_max must be at most half the rate, {self.rate / 2:g} Hz, got {top:g}; lower it")
        if self.lowest_hz >= top:
            raise ValueError(f"f_min must be below f_max = {top:g} Hz, got {self.lowest_hz:g}; correct them")
        if self.frame != "none":
            from vlm_audio_pipeline.renderings.frame import layout

            layout(self)  # refuses a picture too small for its frame
        return self

    @property
    def lowest_hz(self) -> float:
        """Lowest frequency, Hz."""
        return (32.70319566257483 if self.transform == "cqt" else 0.0) if self.f_min is None else self.f_min

    def resolved(self) -> "Recipe":
        """Give the same recipe spelled out, without preset and size."""
        return self.model_copy(update={"preset": None, "size": None})

    def draw(self, dataset: "Dataset", clip: Mapping[str, Any]) -> Picture:
        """Draw one clip.

        Args:
            dataset: the opened dataset.
            clip: a row of `clips`: file, start_s, end_s, rate_hz.
        """
        rate = self.rate or clip["rate_hz"]
        return render(dataset.load(clip["file"], rate, clip["start_s"], clip["end_s"]), rate, self)

    def stages(self, name: str) -> list[Stage]:
        """Give the one stage of this rendering: the pictures of a fold."""

        def run(context: StageContext) -> dict[str, pa.Table]:
            clips = context.inputs["clips"].to_pylist()
            pictures = drawn(
                context, clips, lambda clip: self.draw(context.dataset, clip), [STEP_VERSION, self.identity()]
            )
            return {"spectrograms": spectrograms([c["clip"] for c in clips], pictures)}

        return [
            Stage(
                asset="spectrograms",
                tables=("spectrograms",),
                version=STEP_VERSION,
                parameters=self.identity(),
                inputs=(Input("clips"),),
                run=run,
                description=f"Pictures of clips: {self.summary()}.",
            )
        ]

    def summary(self) -> str:
        """Say in a line what the picture is, with units.

        >>> Recipe(preset="paper").summary()
        'stft, log frequency, db, viridis, 640 x 480 pixels, with labels, ticks'
        """
        parts = [] if self.frame == "none" else [part for part, on in self.frame if on]
        around = f"with {', '.join(parts)}" if parts else "without frame" if self.frame == "none" else "in a box"
        shown = [self.transform, f"{self.frequency} frequency", self.amplitude]
        if self.transform == "mfcc":
            shown = ["mfcc"]
        return ", ".join([*shown, self.colormap, f"{self.width} x {self.height} pixels", around])


def recipes() -> dict[str, Recipe]:
    """Give the recipe of every preset, by name."""
    return {name: Recipe(preset=name) for name in PRESETS}


__all__ = ["GROUPS", "STEP_VERSION", "FrameParts", "Recipe", "recipes"]
