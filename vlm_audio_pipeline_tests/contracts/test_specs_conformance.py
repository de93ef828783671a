"""Every field of every spec is part of a fingerprint, or is declared to have no effect on results.

Runs over all registered datasets, encoders, classifiers and language-model backends, and over the recipe of renderings.
A field for which `other_value` finds nothing needs an entry in `CHANGES`.
"""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, ClassifierSpec
from vlm_audio_pipeline.contracts.specs import Spec, excluded_from_fingerprint
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import rendering_stage

SPECS: dict[str, type[Spec]] = {
    "renderings": Recipe,
    **{
        ".".join(filter(None, (family, kind, variant))): spec
        for family, registry in (("datasets", DATASETS), ("encoders", ENCODERS), ("classifiers", CLASSIFIERS))
        for kind, registered in registry.all().items()
        for variant, spec in registered.spec_classes().items()
    },
}

KINDS = {spec.kind for spec in SPECS.values()}
REQUIRED = {"path": "a", "model": "demo-clap", "rendering": "r", "encoder": "images"}
WITH_SHOTS = {"shots": 1, "encoder": "images"}

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "duration": ({"duration": "crop", "seconds": 5}, {"duration": "pad"}),
    "seconds": ({"duration": "crop", "seconds": 5}, {"seconds": 6}),
    "transform": ({"frequency": "linear"}, {"transform": "mel"}),
    "frequency": ({}, {"frequency": "log"}),
    "f_min": ({}, {"f_min": 50}),
    "f_max": ({}, {"f_max": 8000}),
    "window": ({}, {"window": "hamming"}),
    "colormap": ({}, {"colormap": "magma"}),
    "preset": ({"frequency": "log", "frame": {}}, {"preset": "paper"}),
    "size": ({"width": 100, "height": 100}, {"size": 100, "width": None, "height": None}),
    "classes": ({}, {"classes": ("dog", "rain")}),
    "mirror": ({}, {"mirror": "https://example.org/a.zip"}),
    "encoder": ({}, {"encoder": "other"}),
    "features": ({}, {"features": ("mfcc",)}),
    "templates": ({}, {"templates": ("a {label}",)}),
    "template": ({}, {"template": "a {label}"}),
    "prompt": ({}, {"prompt": "paper"}),
    "paraphrases": ({}, {"paraphrases": 2}),
    "calibrate": ({}, {"calibrate": ("temperature",)}),
    "synonyms": ({}, {"synonyms": {"dog": ("hound",)}}),
    "shots": ({"encoder": "images"}, {"shots": 1}),
    "select": (WITH_SHOTS, {"select": "random"}),
    "examples": (WITH_SHOTS, {"examples": ("a",)}),
    "permuted_labels": (WITH_SHOTS, {"permuted_labels": True}),
    "draws": ({**WITH_SHOTS, "select": "random"}, {"draws": 2}),
    "repeats": ({"temperature": 0.5}, {"repeats": 2}),
    "reproduces": ({}, {"reproduces": "esc10/human"}),
    "folder.source": ({}, {"source": "(a)"}),
    "annotations.source": ({}, {"source": "esc10_annotators", "path": None}),
    "annotations.path": ({}, {"path": "b"}),
    "language_model.input": ({}, {"input": "audio", "rendering": None}),
    "language_model.rendering": ({}, {"rendering": "s"}),
    "reference": ({}, {"reference": 2.0}),
    "frame": ({}, {"frame": {"title": True}}),
    "columns": ({}, {"columns": {"label": "other"}}),
    "laion_clap.dtype": ({}, {"dtype": "float32"}),
    "folds": ({}, {"folds": (1, 2)}),
    "sample": ({}, {"sample": {"clips": 10}}),
    "scoring": ({}, {"scoring": ("generation",)}),
    "endpoint": ({}, {"endpoint": {"detail": "low"}}),
    "script": ({}, {"script": {"seed": 1}}),
    "c_grid": ({}, {"c_grid": (0.5, 1.0)}),
    "prompt.text": ({}, {"text": "b {classes}"}),
    "prompt.examples": ({}, {"examples": "other"}),
    "prompt.wordings": ({}, {"wordings": ("b {classes}",)}),
    "endpoint.url": ({}, {"url": "http://127.0.0.1:8000/v1"}),
    "endpoint.key": ({}, {"key": "SOME_KEY"}),
    "endpoint.prices": ({}, {"prices": {"input": 1, "output": 1}}),
}
"""Field, or kind.field -> the spec to start from, and what changes."""


class ImageEncoder(EncoderSpec):
    """An encoder of images with a text encoder, so that every classifier and every control accepts it."""

    kind = "conformance"
    takes_images = True
    rendering: str = "r"

    @property
    def sample_rate_hz(self):
        return 0

    @property
    def has_text_side(self):
        return True

    def load(self):
        raise AssertionError("nothing is computed here")


ENCODERS_BY_NAME = {"images": ImageEncoder(), "other": ImageEncoder()}


def is_excluded(field) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("in_fingerprint") is False


def other_value(annotation: Any, current: Any) -> Any:
    """A valid value that differs from `current`; raises LookupError where only `CHANGES` can know one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return other_value(arguments[0], current)
    if origin in (Union, types.UnionType):
        return other_value(next(a for a in arguments if a is not type(None)), current)
    if origin is Literal:
        return next((option for option in arguments if option != current), None)
    if annotation is bool:
        return not current
    if annotation is int:
        return (current or 0) + 1
    if annotation is float:
        return current / 2 if current else 0.5
    if annotation is str:
        return "other"
    if isinstance(annotation, type) and annotation.__module__.startswith("pathlib"):
        return "b"
    if origin is tuple:
        return () if current else (other_value(arguments[0], None),)
    raise LookupError(f"no other value of {annotation} is known: add the field to CHANGES")


def change(kind: str, name: str, field) -> tuple[dict[str, Any], dict[str, Any]]:
    for key in (f"{kind}.{name}", name) if kind in KINDS else (f"{kind}.{name}",):
        if key in CHANGES:
            return CHANGES[key]
    return {}, {name: other_value(field.annotation, None if field.is_required() else field.get_default())}


def build(spec: type[Spec], values: dict[str, Any]) -> Spec:
    required = {name: REQUIRED[name] for name, field in spec.model_fields.items() if field.is_required()}
    required |= {"language_model": {"rendering": "r"}, "annotations": {"path": "a"}}.get(spec.kind, {})
    values = {**required, **values}
    return spec.model_validate({name: value for name, value in values.items() if value is not None})


def stages(spec: Spec) -> list[Stage]:
    if isinstance(spec, Recipe):
        return [rendering_stage(spec)]
    if isinstance(spec, EncoderSpec):
        return spec.stages("name")
    if isinstance(spec, ClassifierSpec):
        return spec.stages("name", (1, 2, 3), ENCODERS_BY_NAME)
    return []


def parameters(spec: Spec) -> list[Any]:
    return [(stage.asset, stage.parameters, stage.inputs) for stage in stages(spec)]


def nested_models(spec: type[Spec]) -> list[tuple[str, str, Any]]:
    """(field, field of its model, its definition) for fields that are models themselves."""
    found = []
    for name, field in spec.model_fields.items():
        options = [field.annotation, *get_args(field.annotation)]
        for model in options:
            if isinstance(model, type) and issubclass(model, BaseModel):
                found += [(name, inner, definition) for inner, definition in model.model_fields.items()]
    return found


def has_one_value(spec: type[Spec], name: str) -> bool:
    """Whether every allowed value means the same: the name of the backend, and the scoring of one that has one."""
    return name == "backend" or (name == "scoring" and len(spec.scorings_supported) == 1)


FIELDS = [(key, name) for key, spec in SPECS.items() for name in spec.model_fields if not has_one_value(spec, name)]


def check_field(spec: type[Spec], name: str) -> None:
    field = spec.model_fields[name]
    base, changed = change(spec.kind, name, field)
    before, after = build(spec, base), build(spec, {**base, **changed})
    assert getattr(before, name) != getattr(after, name), "the test must change the field"
    if is_excluded(field):
        assert before.fingerprint() == after.fingerprint(), "an excluded field is in the fingerprint"
        return
    assert before.fingerprint() != after.fingerprint(), "the field is not in the fingerprint"
    assert not stages(before) or parameters(before) != parameters(after), "no stage depends on the field"


@pytest.mark.parametrize(("key", "name"), FIELDS, ids=lambda value: value)
def test_a_changed_field_changes_a_fingerprint_or_is_declared_to_have_no_effect(key, name):
    check_field(SPECS[key], name)


NESTED = [(key, name, inner) for key, spec in SPECS.items() for name, inner, _ in nested_models(spec)]


@pytest.mark.parametrize(("key", "name", "inner"), NESTED, ids=lambda value: value)
def test_a_changed_field_of_a_nested_model_changes_a_fingerprint_or_is_declared_to_have_no_effect(key, name, inner):
    spec = SPECS[key]
    definition = next(field for outer, i, field in nested_models(spec) if (outer, i) == (name, inner))
    minimal = {"sample": {"clips": 20}, "prompt": {"text": "a {classes}"}}.get(name, {})
    base, changed = change(name, inner, definition)
    before, after = build(spec, {name: {**minimal, **base}}), build(spec, {name: {**minimal, **base, **changed}})
    assert getattr(before, name) != getattr(after, name), "the test must change the field"
    contents = parameters if stages(before) else Spec.fingerprint
    assert (contents(before) != contents(after)) != is_excluded(definition)


def test_a_field_that_is_forgotten_in_a_fingerprint_is_found():
    class Forgetful(Recipe):
        note: str = ""
        comment: str = excluded_from_fingerprint("")

        def fingerprint_fields(self):
            return {key: value for key, value in super().fingerprint_fields().items() if key != "note"}

    check_field(Forgetful, "comment")
    with pytest.raises(AssertionError, match="the field is not in the fingerprint"):
        check_field(Forgetful, "note")
