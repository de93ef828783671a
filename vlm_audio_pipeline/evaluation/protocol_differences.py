"""The differences between the protocol of a published result and that of a measured result.

Each difference has the published value and the value here. Where the publication states no value, only the value here is
listed, so that silence is not taken for agreement.

Belongs here: comparing protocols. Does not belong here: comparing numbers (`published`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.evaluation.published_results import (
    NOT_APPLICABLE,
    NOT_STATED,
    PublishedResult,
    publications,
)
from vlm_audio_pipeline.renderings.layout import FrameParts
from vlm_audio_pipeline.renderings.recipe import Recipe

_SNAPSHOT = re.compile(r"-(\d{4})-?(\d{2})-?(\d{2})$")
_ALIAS = re.compile(r"-latest$")
_USED_ONLY_BY = {
    "n_mels": ("transform", ("mel", "mfcc")),
    "n_mfcc": ("transform", ("mfcc",)),
    "bins_per_octave": ("transform", ("cqt",)),
    "quality": ("format", ("jpeg",)),
}
"""Field of a recipe -> another field, and its values with which the first field has an effect."""


@dataclass
class ProtocolDifferences:
    """What differs, and what the publication does not state; a phrase for each, such as "shots: published 0, here 1"."""

    differences: list[str] = field(default_factory=list)
    not_stated: list[str] = field(default_factory=list)

    def compare(self, name: str, published: str, measured: object) -> None:
        """Compare one value of the protocols, word for word; a value that does not apply to one of them is left out."""
        if measured is None or published == NOT_APPLICABLE:
            return
        if published == NOT_STATED:
            self.not_stated.append(f"{name}: here {measured}")
        elif published != str(measured):
            self.differences.append(f"{name}: published {published}, here {measured}")


def compare_protocols(
    result: PublishedResult, protocol: Protocol, scoring: str | None, recipe: Recipe | None
) -> ProtocolDifferences:
    """Compare everything but the clips.

    Args:
        result: the published result.
        protocol: the protocol of the measured result.
        scoring: the scoring of the measured result; None if it is not measured.
        recipe: the rendering of the measured result; None if the study does not have it.
    """
    comparison = ProtocolDifferences()
    comparison.compare("input", result.input, protocol.input)
    comparison.compare("setting", result.setting, protocol.setting)
    _compare_models(comparison, result, protocol.model)
    comparison.compare("prompt", result.prompt, protocol.prompt)
    comparison.compare("label form", result.label_form, protocol.label_form)
    comparison.compare("shots", result.shots, protocol.shots)
    comparison.compare("examples", result.examples, protocol.examples)
    comparison.compare("scoring", result.scoring, scoring)
    comparison.compare("decoding", result.decoding, protocol.decoding if scoring in (None, "generation") else None)
    comparison.compare("trials", result.trials, protocol.trials)
    comparison.compare("number format", result.number_format, protocol.number_format)
    comparison.compare("audio", result.audio, protocol.audio)
    _compare_renderings(comparison, result, protocol.rendering, recipe)
    return comparison


def _compare_models(comparison: ProtocolDifferences, result: PublishedResult, model: str | None) -> None:
    """Compare exact model ids. The date in the name of a snapshot shows whether the publication can have used it."""
    name = "annotators" if result.family == "human" else "model"
    if model is None or result.model == NOT_APPLICABLE:
        return
    if result.model == NOT_STATED:
        if _words(result.system) <= _words(model):
            comparison.not_stated.append(f"{name}: published as {result.system} without an exact id, here {model}")
        else:
            comparison.differences.append(f"{name}: published {result.system}, here {model}")
        return
    measured = model if "/" in result.model else model.rsplit("/")[-1]
    if measured.casefold() == result.model.casefold():
        if result.family in ("vlm", "audio-lm") and "/" not in result.model and not _SNAPSHOT.search(result.model):
            comparison.not_stated.append(
                f"snapshot of the model: here the name {model}, which stands for changing snapshots"
            )
        return
    snapshot = _SNAPSHOT.search(measured)
    base = _ALIAS.sub("", _SNAPSHOT.sub("", measured))
    if base.casefold() != result.model.casefold():
        comparison.differences.append(f"{name}: published {result.model}, here {model}")
        return
    published_on = publications()[result.publication].date
    if snapshot and date(*map(int, snapshot.groups())) > published_on:
        comparison.differences.append(
            f"model: published {result.model} on {published_on}, here {model}, a snapshot that is newer than the publication"
        )
    else:
        comparison.not_stated.append(f"snapshot of the model: here {model}")


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9.+]+", name.casefold()))


def _compare_renderings(
    comparison: ProtocolDifferences, result: PublishedResult, name: str | None, recipe: Recipe | None
) -> None:
    if name is None or result.preset == NOT_APPLICABLE:
        return
    if recipe is None:
        comparison.not_stated.append(f"rendering: here '{name}', which this study does not define")
        return
    measured = recipe_fields(recipe)
    if result.preset == NOT_STATED:
        comparison.not_stated.append(f"rendering: here {recipe.summary()}")
        return
    published = recipe_fields(Recipe(preset=result.preset))
    stated_fields = set(published) if result.preset_fields == "all" else set(result.preset_fields.split())
    for key, value in published.items():
        if key in stated_fields and measured[key] != value:
            comparison.differences.append(f"rendering, {key}: published {value}, here {measured[key]}")
    if not_stated := [
        f"{key} {measured[key]}" for key in published if key not in stated_fields and measured[key] != "none"
    ]:
        comparison.not_stated.append(f"rendering: here {', '.join(not_stated)}")


def recipe_fields(recipe: Recipe) -> dict[str, str]:
    """Return every field of a recipe as text, also those of its frame: {"colormap": "viridis", "frame.labels": "yes", ...}.

    A field without an effect is "none".
    """
    values = recipe.model_dump(mode="json", exclude={"preset", "size", "frame"})
    for key, (other_field, other_values) in _USED_ONLY_BY.items():
        if values[other_field] not in other_values:
            values[key] = None
    parts = {} if recipe.frame == "none" else recipe.frame.model_dump()
    frame = {f"frame.{part}": parts.get(part, False) for part in FrameParts.model_fields}
    return {key: _text(value) for key, value in (values | frame).items()}


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def closest_results(results: Sequence[PublishedResult], recipe: Recipe | None) -> list[PublishedResult]:
    """Return the results whose rendering has the fewest fields that differ from a recipe; all of them if one cannot be counted.

    So each rendering of an ablation is compared with the published result of the same variant.
    """
    distances = [None if recipe is None else _rendering_distance(result, recipe) for result in results]
    defined_distances = [distance for distance in distances if distance is not None]
    if len(defined_distances) < len(results):
        return list(results)
    return [result for result, distance in zip(results, distances, strict=True) if distance == min(defined_distances)]


def _rendering_distance(result: PublishedResult, recipe: Recipe) -> int | None:
    if result.preset in (NOT_STATED, NOT_APPLICABLE):
        return None
    published, measured = recipe_fields(Recipe(preset=result.preset)), recipe_fields(recipe)
    return sum(published[key] != measured[key] for key in published)
