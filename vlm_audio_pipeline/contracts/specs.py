"""The base class of the entries of a study file: a frozen pydantic model with a fingerprint.

The fingerprint covers the parameters that can change a result. Writing out a default does not change it, and fields
declared with `excluded_from_fingerprint` (the path of a file, a batch size) are left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.paths import expand_home

Value = TypeVar("Value")


def excluded_from_fingerprint(default: Any = ..., **kwargs: Any) -> Any:
    """Declare a field that cannot change a result (a path, a batch size, a note), so that fingerprints leave it out."""
    return Field(default, json_schema_extra={"in_fingerprint": False}, **kwargs)


def refers_to(section: str, default: Any = ..., **kwargs: Any) -> Any:
    """Declare a field that names an entry of another section of the study ("encoders", "renderings")."""
    return Field(default, json_schema_extra={"refers_to": section}, **kwargs)


def check_distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Refuse a list that contains a value twice; for `AfterValidator`.

    Raises:
        ValueError: with the list.
    """
    if len(set(values)) < len(values):
        raise ValueError(f"each value must occur only once, got {list(values)}; remove the repetitions")
    return values


def _resolve_from_study_folder(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = expand_home(path)
    return path if folder is None or path.is_absolute() else Path(folder) / path


StudyPath = Annotated[Path, AfterValidator(_resolve_from_study_folder)]
"""A path in a study file; a relative one starts from the folder of that file."""


class Spec(BaseModel):
    """Parameters of one dataset, rendering, encoder or classifier, as written in a study file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,  # the user may have written an API key instead of the name of its variable
    )

    kind: ClassVar[str] = ""
    """The `kind:` in a study file; set by the registry."""

    @classmethod
    def variants(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Expand one entry of a study file into several: suffix of its name -> its values.

        Most entries expand to themselves. An entry that names a group of presets expands to one entry per preset.
        """
        return {"": values}

    @classmethod
    def spec_class(cls, values: Mapping[str, Any]) -> "type[Spec]":
        """Return the class that reads an entry of a study file: this one, unless a key selects a subclass.

        Raises:
            VlmAudioError: when that key has an unknown value.
        """
        return cls

    @classmethod
    def spec_classes(cls) -> "Mapping[str, type[Spec]]":
        """Return every class that `spec_class` can return, by the value that selects it; "" for this class."""
        return {"": cls}

    def with_device(self, has_gpu: bool | None = None) -> Self:
        """Return the spec with its device fixed; an entry without a device returns itself.

        Args:
            has_gpu: whether there is a GPU where the model runs; None: ask this machine.
        """
        return self

    @classmethod
    def fields_without_effect(cls) -> set[str]:
        """Return the names of the parameters that cannot change a result."""
        return {
            name
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("in_fingerprint") is False
        }

    def fingerprint_fields(self) -> dict[str, Any]:
        """Return the parameters that can change a result, without those that equal their default."""
        excluded = self.fields_without_effect()
        return {"kind": self.kind, **self.model_dump(mode="json", exclude=excluded, exclude_defaults=True)}

    def fingerprint(self) -> str:
        """Hash `fingerprint_fields` to 16 hexadecimal digits."""
        return fingerprint(self.fingerprint_fields())
