"""The JSON Schema of study files, for editors that complete and check YAML.

It is composed from the keys, registries and specs that `loading.py` uses. References between entries are checked only
when a study is loaded.
Draft 2020-12: https://json-schema.org/draft/2020-12/schema
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import ModelSchema

from vlm_audio_pipeline.contracts.field_docs import field_docs
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.perturbation import Perturb
from vlm_audio_pipeline.evaluation.optional_analysis_stages import ANALYSES
from vlm_audio_pipeline.evaluation.projections import Projection
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.fields import takes_list
from vlm_audio_pipeline.studies.loading import POOLINGS
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.studies.study import KEYS, NAME, OWNER, SECTIONS, section_spec_classes
from vlm_audio_pipeline.tasks.registry import DEFAULT_TASK, TASKS

Schema = dict[str, Any]
OTHER_TASKS = tuple(task for task in TASKS if task != DEFAULT_TASK)


def study_schema() -> Schema:
    """Return the schema of a study file, with every registered kind and its documentation."""
    kinds: dict[str, Mapping[str, type[Spec]]] = {
        "dataset": DATASETS.all(),
        **{section: section_spec_classes(section) for section in SECTIONS},
        **{_of_task("classifiers", task): section_spec_classes("classifiers", task) for task in OTHER_TASKS},
    }
    classes = {
        (section, kind, variant): cls
        for section, by_kind in kinds.items()
        for kind, spec in by_kind.items()
        for variant, cls in spec.spec_classes().items()
    }
    # All classes at once: pydantic then stores classes with equal names under different definition names.
    schemas, shared = models_json_schema([(cls, "validation") for cls in classes.values()], schema_generator=_Described)
    defs: dict[str, Schema] = shared["$defs"]
    pydantic_names = {
        key: schemas[(cls, "validation")]["$ref"].removeprefix("#/$defs/") for key, cls in classes.items()
    }
    option_classes: dict[str, type[BaseModel]] = {
        "perturb": Perturb,
        **{_of_task("contrasts", name): task.contrast for name, task in TASKS.items()},
        "projection": Projection,
        "budget": Budget,
        "rerun": Rerun,
    }
    options = {key: _option_schema(option, defs) for key, option in option_classes.items()}
    spec_schemas = {
        _definition_name(section, kind, variant): _spec_schema(
            defs[pydantic_names[section, kind, variant]],
            cls,
            kind,
            section.partition(".")[0],
            not isinstance(SECTIONS.get(section), type),
        )
        for (section, kind, variant), cls in classes.items()
    }
    defs = {name: schema for name, schema in defs.items() if name not in pydantic_names.values()} | spec_schemas
    key_schemas: dict[str, Schema] = {
        "name": {"type": "string", "pattern": NAME},
        "description": {"type": "string"},
        "owner": {"type": "string", "pattern": OWNER},
        "task": {"enum": list(TASKS), "default": DEFAULT_TASK},
        "dataset": {"type": "object", "required": ["kind"], "oneOf": _kind_references("dataset", kinds["dataset"])},
        **{section: _section_schema(section, kinds[section]) for section in SECTIONS if section != "classifiers"},
        "perturb": options["perturb"],
        "pooling": {"anyOf": [{"enum": list(POOLINGS)}, {"type": "array", "items": {"enum": list(POOLINGS)}}]},
        "analyses": {
            "type": "array",
            "items": {"oneOf": [{"const": name, "description": doc} for name, doc in ANALYSES.items()]},
        },
        "projection": options["projection"],
        "budget": options["budget"],
        "rerun": options["rerun"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Study",
        "description": "A study file of VLM Audio Pipeline.",
        "type": "object",
        "properties": {key: {"description": doc, **key_schemas.get(key, {})} for key, doc in KEYS.items()},
        **_keys_by_task(kinds, options),
        "required": ["dataset", "classifiers"],
        "additionalProperties": False,
        "$defs": {name: _drop_own_keys(defs[name]) for name in sorted(defs)},
    }


def _of_task(key: str, task: str) -> str:
    """Return the name under which the schema of a key in a task is defined."""
    return key if task == DEFAULT_TASK else f"{key}.{task}"


def _keys_by_task(kinds: Mapping[str, Mapping[str, type[Spec]]], options: Mapping[str, Schema]) -> Schema:
    """Return the keywords that allow the classifiers and the contrasts of the study's task."""

    def keys(task: str) -> Schema:
        classifiers = _of_task("classifiers", task)
        return {
            "properties": {
                "classifiers": _section_schema(classifiers, kinds[classifiers]),
                "contrasts": {"type": "array", "items": options[_of_task("contrasts", task)]},
            }
        }

    schema = keys(DEFAULT_TASK)
    for task in OTHER_TASKS:
        schema = {
            "if": {"properties": {"task": {"const": task}}, "required": ["task"]},
            "then": keys(task),
            "else": schema,
        }
    return schema


def _option_schema(option: type[BaseModel], defs: dict[str, Schema]) -> Schema:
    schemas, shared = models_json_schema([(option, "validation")], schema_generator=_Described)
    defs.update(shared.get("$defs", {}))
    return next(iter(schemas.values()))


def _kind_references(section: str, classes: Mapping[str, type[Spec]]) -> list[Schema]:
    return [
        {"$ref": f"#/$defs/{_definition_name(section, kind, variant)}"}
        for kind, spec in classes.items()
        for variant in spec.spec_classes()
    ]


def _definition_name(section: str, kind: str, variant: str) -> str:
    return f"{section}.{kind}.{variant}" if variant else f"{section}.{kind}"


def _section_schema(section: str, classes: Mapping[str, type[Spec]]) -> Schema:
    entries: Schema = {
        "propertyNames": {"pattern": NAME},
        "additionalProperties": {"type": "object", "anyOf": _kind_references(section, classes)},
    }
    if section.partition(".")[0] == "classifiers":
        return {"type": "object", "minProperties": 1, **entries}
    return {"type": ["object", "null"], **entries}


def _spec_schema(schema: Schema, cls: type[Spec], kind: str, section: str, is_kind_required: bool) -> Schema:
    """Return the schema of one kind: a complete spec, or, except for a dataset, `like: <entry>` with some changes."""
    properties = dict(schema.get("properties", {}))
    if section != "dataset":
        for name, field in cls.model_fields.items():
            if not takes_list(field.annotation):
                properties[name] = _allow_list(properties[name])
    kind_schema = {"const": kind, "description": schema.get("description", "")}
    required = [*(["kind"] if is_kind_required else []), *schema.get("required", [])]
    if section == "dataset":
        return {**schema, "title": kind, "properties": {"kind": kind_schema, **properties}, "required": required}
    like = {"type": "string", "description": f"Another entry of {section}; the other keys here replace its values."}
    return {
        **{key: value for key, value in schema.items() if key != "required"},
        "title": kind,
        "properties": {"kind": kind_schema, "like": like, **properties},
        "anyOf": [{"required": required}, {"required": ["like"]}],
    }


def _allow_list(schema: Schema) -> Schema:
    """Allow a list where one value is expected; it makes one entry per value."""
    metadata: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    item = {key: value for key, value in schema.items() if key not in metadata}
    return {**metadata, "anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _drop_own_keys(schema: Any) -> Any:
    """Remove the keys that only this project reads (`in_fingerprint`, `refers_to`)."""
    if isinstance(schema, list):
        return [_drop_own_keys(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _drop_own_keys(s) for name, s in inner.items()} if key == "properties" else _drop_own_keys(inner)
        for key, inner in schema.items()
        if key not in ("in_fingerprint", "refers_to")
    }


class _Described(GenerateJsonSchema):
    """Adds the documentation of fields, and leaves out their titles, which only repeat their keys."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        """Return the schema of a model with the documentation of its fields."""
        described = super().model_schema(schema)
        cls: type[BaseModel] = schema["cls"]
        for name, doc in field_docs(cls).items():
            described["properties"][cls.model_fields[name].alias or name]["description"] = doc
        return described

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False."""
        return False
