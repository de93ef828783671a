"""Presets: named recipes, each with its publication.

Belongs here: parameters that were published, or that this project proposes. Does not belong here: what the parameters
mean (`recipe`). A study's own keys override those of a preset.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion

PAPER = "https://arxiv.org/abs/2411.12058"
NOTEBOOK = "https://github.com/harpreetsahota204/can-vlms-hear"


@dataclass(frozen=True)
class Preset:
    """A named recipe.

    Attributes:
        values: the fields of `Recipe` that differ from their defaults.
        description: one or two sentences about the image, and the parameters that were not published.
        publication: URL of the publication of the parameters, or "this project".
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    publication: str = "this project"


_FRAME = {"frame": {"labels": True, "ticks": True, "title": False, "colorbar": False}}


def _ablation(change: str, **changed: Any) -> Preset:
    return Preset({**_FRAME, "frequency": "log", **changed}, f"Ablation of `paper`: {change}. Reconstruction.", PAPER)


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        {**_FRAME, "frequency": "log"},
        "The default image of Dixit, Heller and Donahue (2024): 22.05 kHz, window 2048, hop 512, log frequency, dB, "
        "viridis, axis labels, no colorbar. Reconstruction: its size and DPI were not published; matplotlib's are used.",
        PAPER,
    ),
    "paper_linear_frequency": _ablation("linear frequency", frequency="linear"),
    "paper_linear_amplitude": _ablation("linear amplitude", amplitude="linear"),
    "paper_no_labels": _ablation(
        "neither axis labels nor their numbers", frame={**_FRAME["frame"], "labels": False, "ticks": False}
    ),
    "paper_magma": _ablation("colormap magma", colormap="magma"),
    "paper_mel": _ablation("128 mel bands on a mel axis", transform="mel", frequency="mel"),
    "paper_colorbar": _ablation("colorbar shown", frame={**_FRAME["frame"], "colorbar": True}),
    "paper_low_resolution": _ablation(
        "a quarter of the pixels in each direction, including the text", width=160, height=120, dpi=25
    ),
    "paper_mfcc": _ablation("20 cepstral coefficients of 128 mel bands", transform="mfcc", frequency="linear"),
    "notebook": Preset(
        {
            "rate": None,
            "sample_format": "int16",
            "transform": "scipy_spectrogram",
            "n_fft": 256,
            "hop_length": 224,
            "window": "tukey:0.25",
            "center": False,
            "detrend": True,
            "scaling": "density",
            "frequency": "linear",
            "reference": 1.0,
            "range_db": None,
            "round_limits": False,
            "silence": "white",
            "frame": {
                "labels": True,
                "ticks": True,
                "title": True,
                "colorbar": True,
                "style": "matplotlib",
                "time_label": "Time [sec]",
                "row_label": "Frequency [Hz]",
                "color_label": "Intensity [dB]",
            },
            "format": "rgb",
        },
        "The image of can-vlms-hear, in every pixel: scipy.signal.spectrogram with its defaults on 16-bit samples of full "
        "scale, 10 log10, pcolormesh in the default figure with its colorbar. Digital silence is white; `silence: lowest` "
        "switches that off.",
        NOTEBOOK,
    ),
    "scipy": Preset(
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
        "The spectrogram of `notebook` in this project's frame: limits of the colours are rounded outward to 10 dB, and "
        "digital silence has the lowest colour.",
    ),
    "plain": Preset(
        {"frequency": "log", "width": 384, "height": 384},
        "The data of `paper` without a frame, square: every pixel shows data.",
    ),
}

GROUPS: dict[str, tuple[str, ...]] = {"paper_ablation": tuple(name for name in PRESETS if name.startswith("paper"))}
"""Group -> names of its presets. The first preset is the one that the others vary."""


def find_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        VlmAudioError: for an unknown name, with a suggestion and all options, and for the name of a group.
    """
    if name in GROUPS:
        raise VlmAudioError(
            f"preset must name a single preset here, got '{name}', a group of {len(GROUPS[name])} presets; choose one of them"
        )
    if name not in PRESETS:
        raise VlmAudioError(f"unknown preset '{name}'; {suggestion(name, [*PRESETS, *GROUPS])}")
    return PRESETS[name]
