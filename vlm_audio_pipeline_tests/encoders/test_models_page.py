"""docs/models.md agrees with the model cards, and the documented SQL over vectors works."""

import re
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study, parse_study

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "models.md").read_text()


@pytest.mark.parametrize("kind", ENCODERS.all())
def test_the_page_of_models_is_up_to_date(kind):
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    _, _, model, input_column, _, vector, _, licence, _ = (cell.strip() for cell in row.split("|"))
    needed = {"vision": {"rendering": "paper"}, "pixels": {"rendering": "paper"}, "beats": {"model": "a folder"}}
    spec = ENCODERS.get(kind)(**needed.get(kind, {}))
    assert model.split(",")[0] == (spec.model_id if spec.weights else "computed")
    assert input_column == (f"{spec.sample_rate_hz} Hz" if spec.sample_rate_hz else "a rendering")
    assert licence == spec.card.licence
    assert spec.card.dimensions is None or vector.startswith(f"{spec.card.dimensions},")


def test_the_page_s_zero_shot_study_loads():
    [example] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    head = "dataset: {kind: esc10}\nencoders: {clap: {kind: clap}}\n"
    study = parse_study(head + example, DOCS / "example.yaml")
    for name, classifier in study.classifiers.items():
        assert classifier.stages(name, (1,), study.encoders)
    texts = [
        study.classifiers[name].texts(("sea_waves",))[0][0][:24] for name in ("clap", "clap_human", "clap_description")
    ]
    assert all(text in example for text in texts)


@pytest.mark.parametrize("study_name", ["esc10", "can_vlms_hear"])
def test_every_classifier_of_the_built_in_studies_ends_with_predictions(study_name):
    study = load_study(study_name)
    for name, classifier in study.classifiers.items():
        stages = classifier.stages(name, (1, 2, 3, 4, 5), study.encoders)
        assert stages[-1].asset == "predictions"


def test_the_documented_cosine_similarity_equals_that_of_the_vectors(tmp_path):
    [sql] = [
        block
        for block in re.findall(r"^```sql\n(.*?)^```", (DOCS / "sql.md").read_text(), re.DOTALL | re.MULTILINE)
        if "list_cosine_similarity" in block
    ]
    data_folder = DataFolder(tmp_path / "data")
    text = """
name: demo
dataset: {kind: synthetic, clips: 30, n_folds: 2, duration_s: 1}
encoders: {classical: {kind: features}, other: {kind: scripted}}
classifiers: {near: {kind: knn, encoder: classical}, far: {kind: knn, encoder: other}}
"""
    assert not run_study(Graph(parse_study(text, tmp_path / "demo.yaml"), data_folder)).failed
    result = query(data_folder, sql)
    stored = query(data_folder, "SELECT clip, vector FROM embeddings WHERE encoder = 'classical' ORDER BY clip")
    clips, x = stored["clip"].to_pylist(), np.stack(stored["vector"].to_pylist()).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    similarity = x @ x[0]
    order = np.argsort(-similarity, kind="stable")
    nearest = [clips[i] for i in order if i != 0][:5]
    assert result["clip"].to_pylist() == nearest
    expected = [similarity[clips.index(c)] for c in nearest]
    np.testing.assert_allclose(result["similarity"].to_pylist(), expected, atol=6e-5)  # rounded to 4 digits
