"""A recipe: all fields that decide what the image of a clip looks like.

Belongs here: the fields, their units, and which combinations are allowed. Does not belong here: computing the pixels
(`image`), and replacing images as a control (`controls`).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.specs import excluded_from_fingerprint
from vlm_audio_pipeline.renderings.layout import FrameParts, ImageLayout, image_layout
from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS, find_preset
from vlm_audio_pipeline.renderings.transforms import TRANSFORMS, SpectrumParameters

_COMMON_COLORMAPS = frozenset(
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


class Recipe(SpectrumParameters):
    """How the image of a clip is rendered: samples, transform, scales, colours, frame and file."""

    kind: ClassVar[str] = "recipe"

    preset: str | None = excluded_from_fingerprint(None)
    """Named recipe that supplies every field not given here (`vlm-audio renderings` lists them)."""
    amplitude: Literal["db", "linear", "power"] = "db"
    """Colours follow decibels, the square root of the power, or the power; mfcc is always computed from decibels."""
    reference: Literal["max"] | float = "max"
    """Power at the top of the colours (0 dB, or 1): the clip's maximum, or a number."""
    range_db: float | None = Field(80.0, gt=0, le=400)
    """Range of the colours below the reference, dB; null: from the clip's minimum to its maximum, rounded outward to 10 dB."""
    colormap: str = "viridis"
    """Any colormap of matplotlib."""
    frame: FrameParts | Literal["none"] = "none"
    """none: the data fill the image; otherwise the parts around them: labels, ticks, title, colorbar."""
    width: int = Field(640, ge=8, le=8192)
    """Width of the image, pixels."""
    height: int = Field(480, ge=8, le=8192)
    """Height of the image, pixels."""
    size: int | None = excluded_from_fingerprint(None, ge=8, le=8192)
    """Width and height of a square image, pixels."""
    dpi: int = Field(100, ge=10, le=600)
    """Pixels per inch; the text of the frame has 10 points."""
    resampling: Literal["nearest", "bilinear", "area"] = "nearest"
    """From cells to pixels. nearest: the cell under the pixel's centre, as matplotlib; bilinear: interpolated between cells; area: mean of the cells under the pixel."""
    format: Literal["palette", "rgb", "jpeg"] = "palette"
    """palette: PNG with 256 colours; rgb: PNG with the same pixels in 24 bits; jpeg."""
    quality: int = Field(90, ge=1, le=100)
    """Quality of a JPEG."""

    @classmethod
    def variants(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the entries that one entry of a study stands for: `preset: paper_ablation` stands for nine.

        The member that has the same name as the group's stem ("paper") adds nothing to the entry's name; "paper_magma"
        adds "magma". The fields that distinguish a member keep the member's values, whatever the entry says.
        """
        name = values.get("preset")
        if name not in GROUPS:
            return {"": values}
        stem = GROUPS[name][0]
        return {m[len(stem) :].strip("_"): {**cls._own_values(values, stem, m), "preset": m} for m in GROUPS[name]}

    @classmethod
    def _own_values(cls, values: dict[str, Any], stem: str, member: str) -> dict[str, Any]:
        """Return the entry's own values for a member of a group, without the fields that distinguish the member.

        Sizes are scaled: `paper_low_resolution` is a quarter of 640 x 480, and so a quarter of any other size.
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
    def _fill_in(cls, data: Any) -> Any:
        """Take missing fields from the preset, width and height from `size`, and the axis from the transform."""
        if not isinstance(data, Mapping):
            return data
        values = dict(data)
        size = values.get("size")
        if size is not None:
            if {"width", "height"} & set(values):
                raise ValueError("size must be given alone, got width or height too; remove one of them")
            values |= {"width": size, "height": size}
        if values.get("frame", "") in (None, False):
            values["frame"] = "none"
        if values.get("preset") is not None:
            try:
                base = dict(find_preset(str(values["preset"])).values)
            except VlmAudioError as error:
                raise ValueError(str(error)) from None
            own_frame, base_frame = values.get("frame"), base.get("frame")
            if isinstance(own_frame, Mapping) and isinstance(base_frame, Mapping):
                values["frame"] = {**base_frame, **own_frame}
            if "transform" in values and "frequency" not in values:
                base.pop("frequency", None)  # another transform has another axis
            values = {**base, **values}
        transform = TRANSFORMS.get(str(values.get("transform", "stft")))
        if values.get("frequency") is None and transform is not None:
            values["frequency"] = transform.axes[0]
        return values

    @field_validator("colormap")
    @classmethod
    def _check_colormap(cls, name: str) -> str:
        if name not in _COMMON_COLORMAPS:  # the common ones need no import of matplotlib
            from matplotlib import colormaps

            if name not in colormaps:
                raise ValueError(f"colormap must be one of matplotlib's, got '{name}'; {suggestion(name, colormaps)}")
        return name

    @model_validator(mode="after")
    def _check_image(self) -> Self:
        if isinstance(self.reference, float) and self.reference <= 0:
            raise ValueError(f"reference must be 'max' or a power above 0, got {self.reference}; use 1")
        _ = self.layout  # raises for an image that is too small for its frame
        return self

    @property
    def layout(self) -> ImageLayout:
        """Where the data and the colorbar lie."""
        return image_layout(self.width, self.height, self.dpi, self.frame)

    def resolved(self) -> Self:
        """Return the same recipe without preset and size, every field spelled out."""
        return self.model_copy(update={"preset": None, "size": None})

    def summary(self) -> str:
        """Return one line that describes the image, with units.

        >>> Recipe(preset="paper").summary()
        'stft, log frequency, db, viridis, 640 x 480 pixels, with labels, ticks'
        """
        transform = TRANSFORMS[self.transform]
        axis = [f"{self.frequency} frequency"] if transform.unit == "Hz" else []
        amplitude = [self.amplitude] if transform.is_power else []
        parts = [] if self.frame == "none" else [part for part, is_drawn in self.frame if is_drawn]
        frame = f"with {', '.join(parts)}" if parts else "without frame" if self.frame == "none" else "in a box"
        size = f"{self.width} x {self.height} pixels"
        return ", ".join([self.transform, *axis, *amplitude, self.colormap, size, frame])


def preset_recipes() -> dict[str, Recipe]:
    """Return the recipe of every preset, by name."""
    return {name: Recipe(preset=name) for name in PRESETS}
