"""Properties of spec fields that reading a study file depends on."""

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo


def refers_to_section(field: FieldInfo) -> str | None:
    """Return the section whose entries a field names, or None."""
    extra = field.json_schema_extra
    target = extra.get("refers_to") if isinstance(extra, dict) else None
    return target if isinstance(target, str) else None


def takes_list(annotation: Any) -> bool:
    """Return whether one value of a field is a list; if not, a list in the study stands for several values."""
    if get_origin(annotation) in (list, tuple, set, frozenset) or annotation in (list, tuple, set):
        return True
    return any(takes_list(a) for a in get_args(annotation) if get_origin(annotation) not in (dict, Mapping))
