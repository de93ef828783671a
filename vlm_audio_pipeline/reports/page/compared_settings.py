"""The settings that differ between compared results.

Those of current results are in the study record, with every default value and with the keys that the study file sets. Those of
earlier results are in the history, which leaves out values that equal the default; they are filled in here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.evaluation.history import flatten_settings
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.reports.page.compared_results import ComparedResults

_REGISTRIES: dict[str, Registry[Any]] = {"dataset": DATASETS, "encoder": ENCODERS, "classifier": CLASSIFIERS}
_DATASET = ""
_REPLACED_FIELDS = ("preset", "size")
"""Fields of a rendering that its other fields replace in a study record."""


@dataclass(frozen=True)
class Setting:
    """The value of a setting as text; `is_default`: the study file does not set it. None: not stored."""

    text: str
    is_default: bool | None = None


@dataclass(frozen=True)
class DifferentSetting:
    """A setting that differs: the classifiers that have it (none: of the dataset), and its value in each of the compared results."""

    classifiers: tuple[str, ...]
    name: str
    values: tuple[Setting, ...]


Settings = dict[str, dict[str, Setting]]
"""Classifier, or "" for the dataset -> name of a setting -> its value."""


def different_settings(compared: Sequence[ComparedResults]) -> list[DifferentSetting]:
    """Return the settings that can change a result and are not equal in all compared results.

    A classifier that only some of them have is one line. Classifiers with the same difference share a line.
    """
    sides = [_settings(side) for side in compared]
    lines: dict[tuple[str, tuple[Setting, ...]], list[str]] = {}
    for owner in dict.fromkeys(owner for side in sides for owner in side):
        for name, values in _differences([side.get(owner) for side in sides]):
            lines.setdefault((name, values), []).append(owner)
    return [DifferentSetting(tuple(filter(None, owners)), *line) for line, owners in lines.items()]


def _differences(sides: Sequence[dict[str, Setting] | None]) -> list[tuple[str, tuple[Setting, ...]]]:
    """Return the settings that differ, of those that every side has: two kinds of a classifier have other settings."""
    present = [side for side in sides if side is not None]
    if len(present) < len(sides):
        return [("has results", tuple(Setting("no" if side is None else "yes") for side in sides))]
    names = [name for name in present[0] if all(name in side for side in present)]
    differences = [(name, tuple(side[name] for side in present)) for name in names]
    return [(name, values) for name, values in differences if len({value.text for value in values}) > 1]


def is_default_known(side: ComparedResults) -> bool:
    """Return whether it is stored which settings the study file sets."""
    return side.is_current and "written_keys" in side.results.record


def _settings(side: ComparedResults) -> Settings:
    spec = side.results.spec
    all_keys = side.results.record["written_keys"] if is_default_known(side) else None
    dataset = _component_settings("dataset", spec.get("dataset", {}), all_keys and all_keys["dataset"])
    settings: Settings = {_DATASET: {f"dataset: {name}": value for name, value in dataset.items()}}
    for entry in sorted(side.entries.values(), key=lambda entry: entry.scoring != EXAMPLES_KNN):
        if side.is_current:
            own = _current_settings(spec, entry.classifier, all_keys)
        else:
            own = _earlier_settings(json.loads(entry.settings))
        settings.setdefault(entry.classifier, {}).update(own)
        if entry.scoring != EXAMPLES_KNN:  # which does not use the model
            settings[entry.classifier] |= {n: Setting(getattr(entry, n) or "none") for n in ("model", "revision")}
    return settings


def _current_settings(spec: Mapping[str, Any], name: str, all_keys: Mapping[str, Any] | None) -> dict[str, Setting]:
    """Return the settings of a classifier, its encoder and its rendering."""
    classifier = spec.get("classifiers", {}).get(name, {})
    encoder_name = classifier.get("encoder")
    encoder = spec.get("encoders", {}).get(encoder_name, {})
    rendering_name = classifier.get("rendering") or encoder.get("rendering")
    names = {"classifier": name, "encoder": encoder_name, "rendering": rendering_name}
    settings: dict[str, Setting] = {}
    for part, part_name in names.items():
        values = spec.get(f"{part}s", {}).get(part_name, {})
        keys = None if all_keys is None else all_keys[f"{part}s"].get(part_name, ())
        settings |= {_setting_name(part, key): value for key, value in _component_settings(part, values, keys).items()}
    return settings


def _earlier_settings(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for part, values in stored.items():
        settings |= {_setting_name(part, key): value for key, value in _component_settings(part, values).items()}
    return settings


def _setting_name(part: str, key: str) -> str:
    return key if part == "classifier" else f"{part}: {key}"


def _component_settings(part: str, values: Mapping[str, Any], keys: Sequence[str] | None = None) -> dict[str, Setting]:
    """Return the settings of a dataset, rendering, encoder or classifier that can change a result, with every default.

    Args:
        part: "dataset", "rendering", "encoder" or "classifier".
        values: its stored settings. Those of an older version, which this version cannot read, are returned as they are.
        keys: the keys that its study file sets; None: not stored.
    """
    cls = _spec_class(part, values)
    if cls is not None and (spec := _read_spec(cls, values)) is not None:
        values = spec.model_dump(mode="json", exclude=cls.fields_without_effect()) | spec.fingerprint_fields()
    settings = {}
    for key, text in flatten_settings(dict(values)):
        field = key.partition(".")[0]
        is_default = None if keys is None else cls is not None and field in cls.model_fields and field not in keys
        settings[key] = Setting({"null": "none", "[]": "none"}.get(text, text), is_default)
    return settings


def _read_spec(cls: type[Spec], values: Mapping[str, Any]) -> Spec | None:
    unread = ("kind", *_REPLACED_FIELDS) if cls is Recipe else ("kind",)
    try:
        return cls.model_validate({key: value for key, value in values.items() if key not in unread})
    except ValueError:
        return None


def _spec_class(part: str, values: Mapping[str, Any]) -> type[Spec] | None:
    """Return the class of a dataset, rendering, encoder or classifier; None for a kind that is not installed."""
    if part == "rendering":
        return Recipe
    try:
        cls: type[Spec] = _REGISTRIES[part].get(values["kind"])
        return cls.spec_class(values)
    except (VlmAudioError, KeyError):
        return None
