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


_FRAME: dict[str, Any] = {"frame": {"labels": True, "ticks": True, "title": False, "colorbar": False}}
_KHZ: dict[str, Any] = {"frame": {**_FRAME["frame"], "frequency_unit": "kHz"}, "frequency": "linear"}


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
    "pcen": Preset(
        {
            **_KHZ,
            "transform": "pcen",
            "frequency": "mel",
            "round_limits": False,
            "colormap": "magma",
            "resampling": "area",
        },
        "128 mel bands with per-channel energy normalisation: steady noise is dark, onsets are bright, and near and distant "
        "sounds are similar. The parameters are the defaults of librosa.",
        "https://arxiv.org/abs/1607.05666",
    ),
    "band_limited": Preset(
        {
            **_KHZ,
            "f_min": 500.0,
            "f_max": 10_000.0,
            "n_fft": 1024,
            "hop_length": 256,
            "range_db": 70.0,
            "reference": "visible_max",
        },
        "0.5 to 10 kHz on a linear axis, where most songbirds sing: wind and traffic below are left out. Set `f_min` and `f_max`, "
        "and `rate` to at least twice `f_max`, for other species.",
    ),
    "ultrasonic": Preset(
        {
            **_KHZ,
            "rate": None,
            "n_fft": 512,
            "hop_length": 128,
            "f_min": 10_000.0,
            "range_db": 60.0,
            "reference": "visible_max",
            "resampling": "max",
            "colormap": "inferno",
        },
        "10 kHz to half the sample rate of the recording, with windows of 512 samples (1.3 to 2.7 ms at 384 to 192 kHz), for bats. Each pixel "
        "shows its highest cell, so that a call of some milliseconds stays visible in a long clip.",
    ),
    "waveform": Preset(
        {**_FRAME, "rate": None, "transform": "waveform", "hop_length": 128, "resampling": "max", "colormap": "Greys"},
        "The waveform, black on white, relative to the peak of the clip: each pixel column shows the range of its samples.",
    ),
    "waveform_spectrogram": Preset(
        {
            **_KHZ,
            "frame": {**_KHZ["frame"], "waveform": True},
            "rate": None,
            "n_fft": 1024,
            "hop_length": 256,
            "resampling": "area",
        },
        "The waveform above a spectrogram with a linear axis, at the recording's own sample rate, as in most sound editors.",
    ),
    "raven": Preset(
        {
            **_KHZ,
            "rate": None,
            "n_fft": 512,
            "hop_length": 256,
            "range_db": 70.0,
            "colormap": "Greys",
            "resampling": "area",
        },
        "Dark on white, linear frequency in kHz, Hann window of 512 samples with 50 % overlap, at the recording's own sample rate, in "
        "the manner of Raven Pro. Not equal to Raven's images: its brightness and contrast are set by hand.",
        "https://www.ravensoundsoftware.com/",
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
