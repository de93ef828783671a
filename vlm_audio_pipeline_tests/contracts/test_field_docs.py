"""The documentation of fields is the string below each of them."""

from pydantic import BaseModel, Field, create_model

from vlm_audio_pipeline.contracts.field_docs import field_docs


class Base(BaseModel):
    """A class; this is no documentation of a field."""

    rate: int = 1
    """Sample rate,
    Hz."""
    without: int = 2
    level: float = 0.5
    """Level, dB."""
    other: int = 3
    """Of the base."""

    def method(self):
        """Not a field."""


class Derived(Base):
    level: float = 1.0
    """Level of the derived class, dB."""
    other: int = 4
    named: int = Field(5, description="Written as a parameter.")


def test_each_field_has_the_string_below_it():
    assert field_docs(Base) == {"rate": "Sample rate,\nHz.", "level": "Level, dB.", "other": "Of the base."}


def test_fields_are_inherited_with_their_documentation_unless_they_are_defined_again():
    assert field_docs(Derived) == {
        "rate": "Sample rate,\nHz.",
        "level": "Level of the derived class, dB.",
        "named": "Written as a parameter.",
    }


def test_a_class_without_source_has_no_documentation_of_its_own():
    model = create_model("Made", __base__=Base, extra=(int, 1))
    assert field_docs(model).keys() == {"rate", "level", "other"}
