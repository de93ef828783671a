"""The classes of ESC-50 and ESC-10, read from `esc_classes.yaml`.

Reference: K. J. Piczak, ESC: Dataset for Environmental Sound Classification, https://doi.org/10.1145/2733373.2806390.
"""

from functools import cache
from importlib.resources import files

from vlm_audio_pipeline.datasets.card import ClassName, readable_label

ESC10_FOLDERS: dict[str, str] = {
    "001 - Dog bark": "dog",
    "002 - Rain": "rain",
    "003 - Sea waves": "sea_waves",
    "004 - Baby cry": "crying_baby",
    "005 - Clock tick": "clock_tick",
    "006 - Person sneeze": "sneezing",
    "007 - Helicopter": "helicopter",
    "008 - Chainsaw": "chainsaw",
    "009 - Rooster": "rooster",
    "010 - Fire crackling": "crackling_fire",
}
"""Folder of the ESC-10 repository -> canonical name of its class."""

ESC10: tuple[str, ...] = tuple(ESC10_FOLDERS.values())
"""The classes of ESC-10, in the order of its folders."""


@cache
def esc50_classes() -> tuple[ClassName, ...]:
    """Return the classes of ESC-50, in the order of their targets 0 to 49."""
    import yaml

    text = files("vlm_audio_pipeline.datasets").joinpath("esc_classes.yaml").read_text(encoding="utf-8")
    return tuple(
        ClassName(name, readable_label(name), tuple(words["synonyms"]), words["description"])
        for name, words in yaml.safe_load(text).items()
    )


@cache
def esc10_classes() -> tuple[ClassName, ...]:
    """Return the classes of ESC-10, in the order of its folders."""
    by_name = {c.name: c for c in esc50_classes()}
    return tuple(by_name[name] for name in ESC10)
