"""Optional analyses: declared in the study file, made as steps of their own."""

import jsonschema
import pytest
import yaml

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.evaluation.optional_analysis_stages import ANALYSES
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.summaries import rendering_groups
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline.studies.schema import study_schema

STUDY = """
dataset: {kind: synthetic, clips: 40}
renderings:
  a: {}
  b: {colormap: magma}
encoders:
  image: {kind: vision, model: demo-aimv2, rendering: [a, b]}
  classical: {kind: features, features: [mfcc]}
classifiers:
  probe: {kind: probe, encoder: image}
  audio_probe: {kind: probe, encoder: classical}
  janus: {kind: language_model, model: demo-janus, rendering: [a, b], orders: 3}
  other_prompt: {kind: language_model, model: demo-janus, rendering: a, prompt: paper}
"""


def read(tmp_path, analyses):
    return parse_study(f"{STUDY}\nanalyses: {analyses}\n", tmp_path / "study.yaml")


def test_each_declared_analysis_is_a_step_and_a_table(tmp_path):
    study = read(tmp_path, f"[{', '.join(ANALYSES)}]")
    steps = Graph(study, DataFolder(tmp_path / "data")).steps
    assert set(ANALYSES) <= set(steps) and set(ANALYSES) <= set(TABLES)
    design = steps["variance_components"].stage.parameters
    assert {name: d["class_order"] for name, d in design.items()} == {"janus_a": 3, "janus_b": 3, "other_prompt": 1}
    undeclared = Graph(parse_study(STUDY, tmp_path / "study.yaml"), DataFolder(tmp_path / "data")).steps
    assert not set(ANALYSES) & set(undeclared)
    assert set(undeclared) == set(steps) - set(ANALYSES), "an analysis changes no other step"


def test_groups_differ_only_in_the_rendering(tmp_path):
    groups = rendering_groups(read(tmp_path, "[]"))
    assert groups == {
        "probe_image_a": {"a": "probe_image_a", "b": "probe_image_b"},
        "janus_a": {"a": "janus_a", "b": "janus_b"},
    }
    assert len(rendering_groups(load_study("paper"))["gpt4o_ablation"]) == 9


def test_a_mistake_in_analyses_has_its_line_and_the_valid_names(tmp_path):
    with pytest.raises(
        BadStudy, match=r"study.yaml:\d+: analyses.0: must be an analysis, got 'variance'; .*variance_components"
    ):
        read(tmp_path, "[variance]")
    with pytest.raises(BadStudy, match="must be a list of analyses, got 'item_response'"):
        read(tmp_path, "item_response")


def test_the_schema_accepts_the_same_names(tmp_path):
    schema = study_schema()
    jsonschema.validate(yaml.safe_load(f"{STUDY}\nanalyses: [{', '.join(ANALYSES)}]"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(f"{STUDY}\nanalyses: [variance]"), schema)
