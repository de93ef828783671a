import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from vlm_audio_pipeline.contracts.specs import Spec, StudyPath, excluded_from_fingerprint, refers_to


class Probe(Spec):
    """A spec with fields of every kind."""

    kind = "toy"

    encoder: str = refers_to("encoders", "clap")
    c: float = 1.0
    sizes: tuple[int, ...] = (1, 2)
    words: list[str] = Field(default_factory=lambda: ["a"])
    batch_size: int = excluded_from_fingerprint(8)
    where: StudyPath | None = excluded_from_fingerprint(None)


DEFAULTS = {"encoder": "clap", "c": 1.0, "sizes": (1, 2), "words": ["a"]}


@given(st.sets(st.sampled_from(sorted(DEFAULTS))))
def test_a_written_default_does_not_change_the_fingerprint(names):
    assert Probe(**{name: DEFAULTS[name] for name in names}).fingerprint() == Probe().fingerprint()


def test_a_default_may_be_written_with_the_types_of_yaml():
    assert Probe(c=1, sizes=[1, 2]).fingerprint() == Probe().fingerprint()


@pytest.mark.parametrize("changed", [{"encoder": "b"}, {"c": 1.5}, {"sizes": (2, 1)}, {"sizes": ()}, {"words": []}])
def test_a_changed_parameter_changes_the_fingerprint(changed):
    assert Probe(**changed).fingerprint() != Probe().fingerprint()


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_fingerprints_are_equal_only_if_the_parameters_are(a, b):
    assert (Probe(c=a).fingerprint() == Probe(c=b).fingerprint()) == (a == b and str(a) == str(b))


@pytest.mark.parametrize("changed", [{"batch_size": 1}, {"where": "/elsewhere"}])
def test_excluded_fields_do_not_change_the_fingerprint(changed):
    assert Probe(**changed).fingerprint() == Probe().fingerprint()


def test_two_kinds_with_equal_parameters_have_different_fingerprints():
    class Other(Probe):
        kind = "other"

    assert Other().fingerprint() != Probe().fingerprint()
    assert Other().fingerprint_fields() == {"kind": "other"}


def test_a_relative_path_starts_at_the_folder_of_the_study():
    spec = Probe.model_validate({"where": "sounds/a.csv"}, context={"folder": Path("/studies")})
    assert spec.where == Path("/studies/sounds/a.csv")


def test_an_absolute_path_is_unchanged():
    assert Probe.model_validate({"where": "/a.csv"}, context={"folder": Path("/studies")}).where == Path("/a.csv")


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert Probe.model_validate({"where": "~/a.csv"}, context={"folder": Path("/s")}).where == (
        Path("/home/someone/a.csv")
    )


def test_a_path_without_a_study_is_unchanged():
    assert Probe(where="a.csv").where == Path("a.csv")


def test_unknown_keys_are_refused_and_named():
    with pytest.raises(ValidationError, match="batchsize") as caught:
        Probe(batchsize=3)
    assert caught.value.errors()[0]["type"] == "extra_forbidden"


def test_specs_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Probe().c = 2.0


def test_a_reference_names_its_section():
    assert Probe.model_fields["encoder"].json_schema_extra == {"refers_to": "encoders"}


def test_a_required_field_stays_required():
    class Needs(Spec):
        encoder: str = refers_to("encoders")
        path: Path = excluded_from_fingerprint()

    with pytest.raises(ValidationError) as caught:
        Needs()
    assert [e["loc"] for e in caught.value.errors()] == [("encoder",), ("path",)]


def test_a_fingerprint_is_the_same_in_every_process():
    code = (
        "from vlm_audio_pipeline.classifiers.probe import *; from vlm_audio_pipeline.classifiers.base import CLASSIFIERS; "
        "print({k: c.model_construct().fingerprint() for k, c in CLASSIFIERS.all().items() if k in ('probe', 'knn')})"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert "probe" in outputs.pop()
