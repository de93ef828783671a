"""Every field of every spec is part of a fingerprint, or is declared to have no effect on results.

Runs over all registered datasets, encoders, classifiers and language-model backends, and over the recipe of renderings.
A field for which `other_value` finds nothing needs an entry in `CHANGES`.
"""

import types
from datetime import date
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
LIKELIHOOD = {"likelihood": "input_token_logprobs", "end_token": "</s>"}

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
    "margin": ({"reproduces": "esc10/human"}, {"margin": 0.1}),
    "pixels.size": ({}, {"size": 32}),
    "folder.source": ({}, {"source": "(a)"}),
    "annotated_recordings.source": ({}, {"source": "(a)"}),
    "annotated_recordings.format": ({}, {"format": "raven"}),
    "segment": ({}, {"segment": {"seconds": 2}}),
    "annotations.source": ({}, {"source": "esc10_annotators", "path": None}),
    "annotations.path": ({}, {"path": "b"}),
    "language_model.input": ({}, {"input": "audio", "rendering": None}),
    "language_model.rendering": ({}, {"rendering": "s"}),
    "reference": ({}, {"reference": 2.0}),
    "frame": ({}, {"frame": {"title": True}}),
    "columns": ({}, {"columns": {"label": "other"}}),
    "laion_clap.dtype": ({}, {"dtype": "float32"}),
    "ms_clap.dtype": ({}, {"dtype": "float32"}),
    "folds": ({}, {"folds": (1, 2)}),
    "sample": ({}, {"sample": {"clips": 10}}),
    "scoring": ({}, {"scoring": ("generation",)}),
    "openai.scoring": ({"endpoint": LIKELIHOOD}, {"scoring": ("generation",)}),
    "endpoint": ({}, {"endpoint": {"detail": "low"}}),
    "script": ({}, {"script": {"seed": 1}}),
    "c_grid": ({}, {"c_grid": (0.5, 1.0)}),
    "prompt.text": ({}, {"text": "b {classes}"}),
    "prompt.examples": ({}, {"examples": "other"}),
    "prompt.wordings": ({}, {"wordings": ("b {classes}",)}),
    "endpoint.url": ({}, {"url": "http://127.0.0.1:8000/v1"}),
    "endpoint.key": ({}, {"key": "SOME_KEY"}),
    "endpoint.protocol": ({"url": "http://127.0.0.1:8000/v1"}, {"protocol": "anthropic"}),
    "endpoint.likelihood": ({}, LIKELIHOOD),
    "endpoint.end_token": (LIKELIHOOD, {"end_token": "<|im_end|>"}),
    "endpoint.processor": (LIKELIHOOD, {"processor": "org/name"}),
    "perturb": ({}, {"perturb": {"noise": "white", "snr_db": (10,)}}),
    "perturb.noise": ({"noise": "white", "snr_db": (10,)}, {"noise": "rain.wav"}),
    "perturb.snr_db": ({"noise": "white", "snr_db": (10,)}, {"snr_db": (20,)}),
    "perturb.low_pass_hz": ({}, {"low_pass_hz": (1000,)}),
    "perturb.seed": ({"noise": "white", "snr_db": (10,)}, {"seed": 1}),
    "endpoint.prices": ({}, {"prices": {"input": 1, "output": 1}}),
}
"""Field, kind.field or backend.field -> the spec to start from, and what changes."""


class ImageEncoder(EncoderSpec):
    """An encoder of images with a text encoder, so that every classifier and every control accepts it."""

    kind = "conformance"
    takes_images = True
    rendering: str = "r"

    @property
    def sample_rate_hz(self):
        return 0

    @property
    def has_text_encoder(self):
        return True

    def load(self):
        raise AssertionError("nothing is computed here")


ENCODERS_BY_NAME = {"images": ImageEncoder(), "other": ImageEncoder()}


def is_excluded(field) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("in_fingerprint") is False


def other_value(annotation: Any, current: Any) -> Any:
    """Return a valid value that differs from `current`. Raises LookupError if the field needs an entry in `CHANGES`."""
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
    if annotation is date:
        return date(2030, 1, 1)
    if annotation is str:
        return "other"
    if isinstance(annotation, type) and annotation.__module__.startswith("pathlib"):
        return "b"
    if origin is dict:
        return {"key": "value"}
    if origin is tuple:
        return () if current else (other_value(arguments[0], None),)
    raise LookupError(f"no other value of {annotation} is known: add the field to CHANGES")


def change(kind: str, name: str, field, backend: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    for key in (f"{backend}.{name}", f"{kind}.{name}", name) if kind in KINDS else (f"{kind}.{name}",):
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
    """Return what determines the results of a spec's stages. Changed audio is computed by other stages, with the parameters of the change."""
    changes = [change.parameters() for change in spec.needs().perturbations] if isinstance(spec, ClassifierSpec) else []
    return [*changes, *((stage.asset, stage.parameters, stage.inputs) for stage in stages(spec))]


def nested_models(spec: type[Spec]) -> list[tuple[str, str, Any]]:
    """Return (field, field of its model, definition) for every field that is a model."""
    nested = []
    for name, field in spec.model_fields.items():
        options = [field.annotation, *get_args(field.annotation)]
        for model in options:
            if isinstance(model, type) and issubclass(model, BaseModel):
                nested += [(name, inner, definition) for inner, definition in model.model_fields.items()]
    return nested


def has_one_value(name: str) -> bool:
    """Return whether all allowed values have the same effect: the backend has one name."""
    return name == "backend"


FIELDS = [(key, name) for key, spec in SPECS.items() for name in spec.model_fields if not has_one_value(name)]


def check_field(spec: type[Spec], name: str) -> None:
    field = spec.model_fields[name]
    base, changed = change(spec.kind, name, field, getattr(spec, "backend_name", ""))
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


def test_a_field_missing_in_the_fingerprint_is_reported():
    class Forgetful(Recipe):
        note: str = ""
        comment: str = excluded_from_fingerprint("")

        def fingerprint_fields(self):
            return {key: value for key, value in super().fingerprint_fields().items() if key != "note"}

    check_field(Forgetful, "comment")
    with pytest.raises(AssertionError, match="the field is not in the fingerprint"):
        check_field(Forgetful, "note")
