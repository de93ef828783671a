"""A recipe: all fields that determine the image of a clip.

Belongs here: the fields, their units, and which combinations are allowed. Does not belong here: computing the pixels
(`image`), and replacing images as a control (`controls`).
"""

from collections.abc import Mapping
from types import MappingProxyType
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
    """Named recipe that sets every field which this rendering does not set (`vlm-audio renderings` lists the presets)."""
    amplitude: Literal["db", "linear", "power"] = "db"
    """Colours represent decibels, the square root of the power, or the power; mfcc is always computed from decibels."""
    reference: Literal["max", "visible_max"] | float = "max"
    """Power of the highest colour (0 dB, or 1). max: the clip's maximum over all frequencies; visible_max: over the frequencies from f_min to f_max, so that loud sounds outside of them do not darken the image; or a number."""
    range_db: float | None = Field(80.0, gt=0, le=400)
    """Range of the colours below the reference, dB; null: from the clip's minimum to its maximum."""
    round_limits: bool = True
    """Round limits of the colours that come from the clip outward to whole tens, so that clips share the frame around the data; false: the clip's own minimum and maximum, as matplotlib does."""
    silence: Literal["lowest", "white"] = "lowest"
    """Colour of cells whose power is exactly 0 (digital silence, where decibels are minus infinity): the lowest colour, or white, as matplotlib draws them."""
    colormap: str = "viridis"
    """Any colormap of matplotlib."""
    frame: FrameParts | Literal["none"] = "none"
    """none: the data fill the image; otherwise the parts around them: labels, ticks, title, colorbar, and their style and texts."""
    width: int = Field(640, ge=8, le=8192)
    """Width of the image, pixels."""
    height: int = Field(480, ge=8, le=8192)
    """Height of the image, pixels."""
    size: int | None = excluded_from_fingerprint(None, ge=8, le=8192)
    """Width and height of a square image, pixels."""
    dpi: int = Field(100, ge=10, le=600)
    """Pixels per inch; the text of the frame has 10 points."""
    resampling: Literal["nearest", "bilinear", "area", "max"] = "nearest"
    """From cells to pixels. nearest: the cell under the pixel's centre, as matplotlib; bilinear: interpolated between cells; area: mean of the cells under the pixel; max: the highest of them, so that short sounds in long clips stay visible."""
    format: Literal["palette", "rgb", "jpeg"] = "palette"
    """palette: PNG with 256 colours; rgb: PNG with the same pixels in 24 bits; jpeg."""
    quality: int = Field(90, ge=1, le=100)
    """Quality of a JPEG."""

    @classmethod
    def variants(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the entries that one entry of a study stands for: `preset: paper_ablation` stands for nine.

        The first member of the group ("paper") adds nothing to the entry's name; "paper_magma" adds "magma". The fields that
        distinguish a member have the member's values, even if the entry sets them.
        """
        name = values.get("preset")
        if not isinstance(name, str) or name not in GROUPS:
            return {"": values}
        stem = GROUPS[name][0]
        return {m[len(stem) :].strip("_"): {**cls._entry_values(values, stem, m), "preset": m} for m in GROUPS[name]}

    @classmethod
    def _entry_values(cls, values: dict[str, Any], stem: str, member: str) -> dict[str, Any]:
        """Return the entry's own values for a member of a group, without the fields that distinguish the member.

        Sizes are scaled: `paper_low_resolution` is a quarter of 640 x 480, and so a quarter of any other size.
        """
        base = PRESETS[stem].values
        changed = {k: v for k, v in PRESETS[member].values.items() if base.get(k) != v}
        entry = dict(values)
        if "width" in changed and entry.get("size") is not None:
            entry |= dict.fromkeys(("width", "height"), entry.pop("size"))
        for key in changed.keys() & entry.keys():
            if key in ("width", "height", "dpi"):
                entry[key] = max(1, round(entry[key] * changed[key] / cls.model_fields[key].default))
            elif key == "frame" and isinstance(entry[key], Mapping):
                entry[key] = {**entry[key], **{k: v for k, v in changed[key].items() if base[key][k] != v}}
            else:
                del entry[key]
        return entry

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
                raise ValueError("size must not be combined with width or height, got both; remove one of them")
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
                base.pop("frequency", None)  # the axis of the preset belongs to its transform
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
            raise ValueError(f"reference must be 'max', 'visible_max' or a power above 0, got {self.reference}; use 1")
        if self.silence == "white" and (not TRANSFORMS[self.transform].is_power or self.resampling != "nearest"):
            raise ValueError(
                "silence must be lowest for transforms without power and for interpolated pixels, got white with transform "
                f"{self.transform} and resampling {self.resampling}; remove it"
            )
        if self.has_matplotlib_style and self.resampling != "nearest":
            raise ValueError(
                f"resampling must be nearest for frame.style matplotlib, got {self.resampling}; remove one of them"
            )
        if self.has_matplotlib_style and self.frame.waveform:  # type: ignore[union-attr]
            raise ValueError("frame.waveform must be false for frame.style matplotlib, got true; remove one of them")
        _ = self.layout  # raises for an image that is too small for its frame
        return self

    @property
    def layout(self) -> ImageLayout:
        """Where the data and the colorbar lie."""
        return image_layout(self.width, self.height, self.dpi, self.frame)

    @property
    def has_matplotlib_style(self) -> bool:
        """Whether matplotlib draws the whole image (see `FrameParts.style`)."""
        return self.frame != "none" and self.frame.style == "matplotlib"

    def expand_preset(self) -> Self:
        """Return the same recipe without preset and size, with every field set."""
        return self.model_copy(update={"preset": None, "size": None})

    def summary(self) -> str:
        """Return one line that describes the image, with units.

        >>> Recipe(preset="paper").summary()
        'stft, log frequency, db, viridis, 640 x 480 pixels, with labels, ticks'
        """
        transform = TRANSFORMS[self.transform]
        axis = [f"{self.frequency} frequency"] if transform.unit == "Hz" else []
        amplitude = [self.amplitude] if transform.is_power else []
        parts = [] if self.frame == "none" else [part for part, value in self.frame if value is True]
        khz = ["axis in kHz"] if self.frame != "none" and self.frame.frequency_unit == "kHz" else []
        frame = f"with {', '.join(parts)}" if parts else "without frame" if self.frame == "none" else "in a box"
        size = f"{self.width} x {self.height} pixels"
        return ", ".join([self.transform, *axis, *amplitude, self.colormap, size, frame, *khz])


def preset_recipes() -> dict[str, Recipe]:
    """Return the recipe of every preset, by name."""
    return {name: Recipe(preset=name) for name in PRESETS}


def find_recipe(name: str, renderings: Mapping[str, Recipe] = MappingProxyType({})) -> Recipe:
    """Return a rendering of a study, or else a preset, by name.

    Args:
        name: the name.
        renderings: the renderings of the study.

    Raises:
        VlmAudioError: for an unknown name.
    """
    recipes = {**preset_recipes(), **renderings}
    if name not in recipes:
        raise VlmAudioError(f"'{name}' is neither a rendering of the study nor a preset; {suggestion(name, recipes)}")
    return recipes[name]
