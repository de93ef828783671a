"""Named starting points for recipes, each with its source.

What belongs here: parameters that were published, or that this project proposes. What does not: what the parameters do
(`recipe`). A study's own keys override a preset's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion

PAPER = "https://arxiv.org/abs/2411.12058"


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        values: the fields of `Recipe` that differ from their defaults.
        about: one sentence: what it is, and what of it is not known.
        source: where the parameters come from, a URL, or "this project".
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    source: str = "this project"


_FRAMED = {"frame": {"labels": True, "ticks": True, "title": False, "colorbar": False}}


def _variant(about: str, **changed: Any) -> Preset:
    return Preset({**_FRAMED, "frequency": "log", **changed}, f"Ablation of `paper`: {about}. Reconstruction.", PAPER)


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        {**_FRAMED, "frequency": "log"},
        "The default picture of Dixit, Heller and Donahue (2024): 22.05 kHz, window 2048, hop 512, log frequency, dB, "
        "viridis, axis labels, no colorbar. Reconstruction: its size and DPI were not published; matplotlib's are used.",
        PAPER,
    ),
    "paper_linear_frequency": _variant("linear frequency", frequency="linear"),
    "paper_linear_amplitude": _variant("linear amplitude", amplitude="linear"),
    "paper_no_labels": _variant(
        "neither axis labels nor their numbers", frame={**_FRAMED["frame"], "labels": False, "ticks": False}
    ),
    "paper_magma": _variant("colormap magma", colormap="magma"),
    "paper_mel": _variant("128 mel bands on a mel axis", transform="mel", frequency="mel"),
    "paper_colorbar": _variant("colorbar shown", frame={**_FRAMED["frame"], "colorbar": True}),
    "paper_low_resolution": _variant("a quarter of the pixels each way, text included", width=160, height=120, dpi=25),
    "paper_mfcc": _variant("20 cepstral coefficients of 128 mel bands", transform="mfcc", frequency="linear"),
    "notebook": Preset(
        {
            "rate": None,
            "sample_format": "int16",
            "n_fft": 256,
            "hop_length": 224,
            "window": "tukey:0.25",
            "center": False,
            "detrend": True,
            "scaling": "density",
            "frequency": "linear",
            "reference": 1.0,
            "range_db": None,
            "frame": {"labels": True, "ticks": True, "title": True, "colorbar": True},
        },
        "The picture of can-vlms-hear: defaults of scipy.signal.spectrogram on 16-bit samples of full scale, "
        "10 log10, pcolormesh, linear frequency, title, labels, colorbar. Its limits are rounded outward to 10 dB here.",
        "https://github.com/harpreetsahota204/can-vlms-hear",
    ),
    "plain": Preset(
        {"frequency": "log", "width": 384, "height": 384},
        "The data of `paper` without a frame, square: every pixel of an encoder's input is sound.",
    ),
}

GROUPS: dict[str, tuple[str, ...]] = {"paper_ablation": tuple(name for name in PRESETS if name.startswith("paper"))}
"""Names that stand for several presets."""


def preset(name: str) -> Preset:
    """Give a preset.

    Raises:
        VlmAudioError: for an unknown name, with the one probably meant and all options.
    """
    if name in GROUPS:
        raise VlmAudioError(f"preset must be one picture here, got '{name}', which stands for {len(GROUPS[name])}")
    if name not in PRESETS:
        raise VlmAudioError(f"unknown preset '{name}'; {suggestion(name, [*PRESETS, *GROUPS])}")
    return PRESETS[name]
