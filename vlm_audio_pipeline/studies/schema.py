"""The JSON Schema of study files, for editors that complete and check YAML while it is written.

What belongs here: composing it from the same keys, registries and specs that `loading.py` reads studies with. What does
not: anything a schema cannot say (references between entries, circles), which only loading refuses.
Draft 2020-12: https://json-schema.org/draft/2020-12/schema
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.fields import takes_list
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.studies.study import KEYS, NAME, OWNER, SECTIONS

Schema = dict[str, Any]


def study_schema() -> Schema:
    """Compose the schema: what a study file may say, with every kind that is registered and its documentation."""
    classes = {
        (room, kind): cls
        for room, registry in {"dataset": DATASETS, **SECTIONS}.items()
        for kind, cls in registry.all().items()
    }
    # pydantic settles names that several specs share
    made, shared = models_json_schema([(cls, "validation") for cls in classes.values()], schema_generator=_Untitled)
    defs: dict[str, Schema] = shared["$defs"]
    own = {key: made[(cls, "validation")]["$ref"].removeprefix("#/$defs/") for key, cls in classes.items()}
    options = {
        key: _described(option, defs) for key, option in (("contrasts", Contrast), ("budget", Budget), ("rerun", Rerun))
    }
    default_kinds = {room: registry.default_kind for room, registry in SECTIONS.items()}
    specs = {
        f"{room}.{kind}": _spec(defs[own[room, kind]], cls, kind, room, kind != default_kinds.get(room))
        for (room, kind), cls in classes.items()
    }
    defs = {name: schema for name, schema in defs.items() if name not in own.values()} | specs
    special: dict[str, Schema] = {
        "name": {"type": "string", "pattern": NAME},
        "description": {"type": "string"},
        "owner": {"type": "string", "pattern": OWNER},
        "dataset": {"type": "object", "required": ["kind"], "oneOf": _kinds("dataset", DATASETS)},
        **{section: _section(section, registry) for section, registry in SECTIONS.items()},
        "contrasts": {"type": "array", "items": options["contrasts"]},
        "budget": options["budget"],
        "rerun": options["rerun"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Study",
        "description": "A study file of VLM Audio Pipeline.",
        "type": "object",
        "properties": {key: {"description": doc, **special.get(key, {})} for key, doc in KEYS.items()},
        "required": ["dataset", "classifiers"],
        "additionalProperties": False,
        "$defs": {name: _without_marks(defs[name]) for name in sorted(defs)},
    }


def _described(option: type[BaseModel], defs: dict[str, Schema]) -> Schema:
    made, shared = models_json_schema([(option, "validation")], schema_generator=_Untitled)
    defs.update(shared.get("$defs", {}))
    return next(iter(made.values()))


def _kinds(room: str, registry: Registry) -> list[Schema]:
    return [{"$ref": f"#/$defs/{room}.{kind}"} for kind in registry.all()]


def _section(section: str, registry: Registry) -> Schema:
    entries: Schema = {
        "propertyNames": {"pattern": NAME},
        "additionalProperties": {"type": "object", "anyOf": _kinds(section, registry)},
    }
    if section == "classifiers":
        return {"type": "object", "minProperties": 1, **entries}
    return {"type": ["object", "null"], **entries}


def _spec(schema: Schema, cls: type[Spec], kind: str, room: str, says_kind: bool) -> Schema:
    """Describe one kind: as a spec by itself, or as another entry's spec with some of it changed."""
    properties = dict(schema.get("properties", {}))
    if room != "dataset":
        for name, field in cls.model_fields.items():
            if not takes_list(field.annotation):
                properties[name] = _or_list(properties[name])
    its_kind = {"const": kind, "description": schema.get("description", "")}
    required = [*(["kind"] if says_kind else []), *schema.get("required", [])]
    if room == "dataset":
        return {**schema, "title": kind, "properties": {"kind": its_kind, **properties}, "required": required}
    like = {"type": "string", "description": f"Another of the {room}, of which only what is given here is different."}
    return {
        **{key: value for key, value in schema.items() if key != "required"},
        "title": kind,
        "properties": {"kind": its_kind, "like": like, **properties},
        "anyOf": [{"required": required}, {"required": ["like"]}],
    }


def _or_list(schema: Schema) -> Schema:
    """Allow a list where one value is expected: it makes one entry of each."""
    about: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    one = {key: value for key, value in schema.items() if key not in about}
    return {**about, "anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def _without_marks(schema: Any) -> Any:
    """Leave out the marks that only this project reads (`not_identity`, `refers_to`)."""
    if isinstance(schema, list):
        return [_without_marks(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _without_marks(s) for name, s in inner.items()} if key == "properties" else _without_marks(inner)
        for key, inner in schema.items()
        if key not in ("identity", "refers_to")
    }


class _Untitled(GenerateJsonSchema):
    """Without titles of fields, which only repeat their keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no."""
        return False
