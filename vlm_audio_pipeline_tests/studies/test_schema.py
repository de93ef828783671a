import pytest
import yaml
from jsonschema import Draft202012Validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.studies.loading import built_in_studies
from vlm_audio_pipeline.studies.schema import study_schema
from vlm_audio_pipeline.studies.study import KEYS


@pytest.fixture(scope="module")
def schema():
    return study_schema()


@pytest.fixture(scope="module")
def mistakes(schema):
    def of(text: str) -> list[str]:
        return [e.message for e in Draft202012Validator(schema).iter_errors(yaml.safe_load(text))]

    return of


EXAMPLE = """
name: sound
owner: team:ears
dataset: {kind: synthetic, clips: 20, tuning_folds: [1]}
encoders:
  classical: {kind: features, features: [mfcc, logmel]}
  long: {like: classical, n_mfcc: 30}
  scripted: {kind: scripted}
classifiers:
  probe: {kind: probe, encoder: [classical, scripted], c: 1}
  few: {like: probe, folds: [1, 2], sample: {clips: 10}}
  knn: {kind: knn, encoder: classical, k: [1, 5], metric: cosine}
  panel: {kind: annotations, path: annotations.csv}
"""


def test_the_schema_is_a_json_schema(schema):
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_reference_has_a_definition(schema):
    refs = []

    def collect(value):
        if isinstance(value, dict):
            refs.extend(v for k, v in value.items() if k == "$ref")
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                collect(inner)

    collect(schema)
    assert "#/$defs/ClipSample" in refs
    assert {r.removeprefix("#/$defs/") for r in refs} == set(schema["$defs"])


def test_every_key_and_kind_has_a_description(schema):
    assert {key: s["description"] for key, s in schema["properties"].items()} == KEYS
    for section, registry in (("dataset", DATASETS), ("encoders", ENCODERS), ("classifiers", CLASSIFIERS)):
        for kind, cls in registry.all().items():
            definition = schema["$defs"][f"{section}.{kind}"]
            assert definition["properties"]["kind"]["const"] == kind
            assert set(cls.model_fields) <= set(definition["properties"])
    assert schema["$defs"]["classifiers.knn"]["properties"]["k"]["description"].startswith("Number of neighbours")


@pytest.mark.parametrize("path", built_in_studies().values(), ids=lambda p: p.stem)
def test_built_in_studies_are_accepted(mistakes, path):
    assert mistakes(path.read_text()) == []


def test_lists_and_like_are_accepted(mistakes):
    assert mistakes(EXAMPLE) == []


@pytest.mark.parametrize(
    ("valid", "wrong"),
    [
        ("kind: synthetic", "kind: synthetik"),
        ("kind: synthetic, clips: 20", "clips: 20"),
        ("kind: synthetic, clips: 20", "kind: synthetic, clips: many"),
        ("kind: synthetic, clips: 20", "kind: synthetic, clips: [20, 40]"),
        ("kind: features", "kind: feature"),
        ("features: [mfcc, logmel]", "features: [mfcc, mel]"),
        ("n_mfcc: 30", "n_mfccs: 30"),
        ("kind: probe", "kind: prob"),
        ("kind: probe, encoder: [classical, scripted]", "kind: probe"),
        ("encoder: [classical, scripted]", "encoder: []"),
        ("k: [1, 5]", "k: [1, 0]"),
        ("k: [1, 5]", "k: 0"),
        ("metric: cosine", "metric: cosinus"),
        ("like: probe, folds", "likes: probe, folds"),
        ("sample: {clips: 10}", "sample: {clip: 10}"),
        ("name: sound", "name: Sound!"),
        ("owner: team:ears", "owner: somebody"),
        ("owner: team:ears", "owners: team:ears"),
        ("  knn: {", "  K-NN: {"),
    ],
)
def test_mistakes_are_refused(mistakes, valid, wrong):
    assert EXAMPLE.count(valid) == 1
    assert len(mistakes(EXAMPLE.replace(valid, wrong))) >= 1


@pytest.mark.parametrize("key", ["dataset", "classifiers"])
def test_required_keys_are_enforced(mistakes, key):
    study = {k: v for k, v in yaml.safe_load(EXAMPLE).items() if k != key}
    assert mistakes(yaml.safe_dump(study)) == [f"'{key}' is a required property"]
    assert len(mistakes(yaml.safe_dump({**study, key: {}}))) >= 1


def test_a_study_without_encoders_is_accepted(mistakes):
    assert (
        mistakes(
            "{dataset: {kind: esc10}, encoders: , classifiers: {p: {kind: annotations, source: esc10_annotators}}}"
        )
        == []
    )


def test_internal_annotations_are_not_in_the_schema(schema):
    assert "in_fingerprint" not in str(schema["$defs"]["dataset.csv"])
    assert "refers_to" not in str(schema["$defs"]["classifiers.probe"])
