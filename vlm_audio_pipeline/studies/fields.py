"""What a field of a spec may hold, as far as a study file needs to know."""

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo


def refers_to_section(field: FieldInfo) -> str | None:
    """Give the section whose entries a field names, or None."""
    extra = field.json_schema_extra
    target = extra.get("refers_to") if isinstance(extra, dict) else None
    return target if isinstance(target, str) else None


def takes_list(annotation: Any) -> bool:
    """Say whether a field may hold a list, so that a list in the study is its value and not several values."""
    if get_origin(annotation) in (list, tuple, set, frozenset) or annotation in (list, tuple, set):
        return True
    return any(takes_list(a) for a in get_args(annotation) if get_origin(annotation) not in (dict, Mapping))
