"""The base of everything a study file can say: a frozen pydantic model with a fingerprint.

A spec lives beside the code it configures. Its fingerprint covers the parameters that can change a result, and only
those: spelling out a default does not change it, and fields marked `not_identity` (where a file lies, how large a
batch is) do not enter.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.paths import expanded


def not_identity(default: Any = ..., **kwargs: Any) -> Any:
    """Declare a field that cannot change a result (a location, a batch size, a note) and stays out of fingerprints."""
    return Field(default, json_schema_extra={"identity": False}, **kwargs)


def refers_to(section: str, default: Any = ..., **kwargs: Any) -> Any:
    """Declare a field that names an entry of another section of the study ("encoders", "renderings")."""
    return Field(default, json_schema_extra={"refers_to": section}, **kwargs)


def _beside_the_study(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    path = expanded(path)
    return path if folder is None or path.is_absolute() else Path(folder) / path


StudyPath = Annotated[Path, AfterValidator(_beside_the_study)]
"""A path in a study file: relative ones start from the folder of that file."""


class Spec(BaseModel):
    """Parameters of one dataset, rendering, encoder or classifier, as written in a study file."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,  # somebody may have written a key where its variable's name belongs
    )

    kind: ClassVar[str] = ""
    """What the study file's `kind:` says; set by the registry."""

    @classmethod
    def variants(cls, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Give the entries that one entry of a study file stands for: what is added to its name -> its values.

        One entry by itself, unless a family has values that stand for several (a group of presets).
        """
        return {"": values}

    def identity(self) -> dict[str, Any]:
        """Give the parameters that can change a result, without those that equal their default."""
        hidden = {
            name
            for name, field in type(self).model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("identity") is False
        }
        return {"kind": self.kind, **self.model_dump(mode="json", exclude=hidden, exclude_defaults=True)}

    def fingerprint(self) -> str:
        """Hash `identity` to 16 hexadecimal digits."""
        return fingerprint(self.identity())
