import re

import pytest
import yaml

from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline.studies.study import KEYS, NAME, OWNER, SECTIONS, Study

TEXT = """
name: sound
description: Which model is best?
dataset: {kind: synthetic, clips: 20}
encoders:
  a: {kind: scripted}
classifiers:
  knn: {kind: knn, encoder: a, k: [1, 5]}
  probe: {kind: probe, encoder: a}
"""


def test_a_resolved_study_contains_all_defaults(tmp_path):
    resolved = parse_study(TEXT, tmp_path / "sound.yaml").plain_values()
    assert (resolved["name"], resolved["description"]) == ("sound", "Which model is best?")
    assert resolved["dataset"]["kind"] == "synthetic"
    assert (resolved["dataset"]["clips"], resolved["dataset"]["n_folds"]) == (20, 5)
    assert resolved["encoders"]["a"]["dimensions"] == 8
    assert set(resolved["classifiers"]) == {"knn_1", "knn_5", "probe"}
    assert resolved["classifiers"]["knn_5"]["metric"] == "cosine"


def test_the_keys_of_the_file_are_known(tmp_path):
    like = "  other: {like: probe, c: 2.0}\n"
    assert parse_study(TEXT + like, tmp_path / "sound.yaml").written_keys() == {
        "dataset": ["clips"],
        "renderings": {},
        "encoders": {"a": []},
        "classifiers": {"knn_1": ["encoder", "k"], "knn_5": ["encoder", "k"], "probe": ["encoder"], "other": ["c", "encoder"]},
    }  # fmt: skip


def test_a_resolved_study_can_be_loaded_again(tmp_path):
    study = parse_study(TEXT, tmp_path / "sound.yaml")
    reloaded = parse_study(yaml.safe_dump(study.plain_values()), tmp_path / "sound.yaml")
    assert reloaded == study


def test_every_section_is_a_key_and_a_field():
    assert set(SECTIONS) <= set(KEYS)
    assert set(KEYS) <= set(Study.__dataclass_fields__)


def test_a_study_cannot_be_changed():
    with pytest.raises(AttributeError):
        load_study("demo").name = "other"


@pytest.mark.parametrize("name", ["a", "esc10", "janus_pro_1b"])
def test_valid_names_are_accepted(name):
    assert re.fullmatch(NAME, name)


@pytest.mark.parametrize("name", ["", "1a", "_a", "A", "a-b", "a b", "a/b", "ä", "a\n"])
def test_invalid_names_are_refused(name):
    assert not re.fullmatch(NAME, name)


@pytest.mark.parametrize("owner", ["team:audio_lab", "me@lab.example.org"])
def test_valid_owners_are_accepted(owner):
    assert re.fullmatch(OWNER, owner)


@pytest.mark.parametrize("owner", ["", "me", "team:", "team:a b", "me@lab", "a@b@c.org"])
def test_invalid_owners_are_refused(owner):
    assert not re.fullmatch(OWNER, owner)
