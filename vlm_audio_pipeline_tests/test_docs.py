"""Examples in the documentation are executed, and generated pages are up to date."""

import re
from pathlib import Path

import pytest

from vlm_audio_pipeline.orchestration.graph import Graph
from vlm_audio_pipeline.orchestration.running import run_study
from vlm_audio_pipeline.reports.documentation import tables_markdown
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.studies.loading import parse_study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a small study with the demo's names."""
    layout = Layout(tmp_path_factory.mktemp("docs") / "data")
    study = parse_study(
        """
name: demo
dataset: {kind: synthetic, clips: 60, n_folds: 3, duration_s: 1}
encoders: {classical: {kind: features}}
classifiers:
  classical_probe: {kind: probe, encoder: classical, c: 0.1}
  classical_knn: {kind: knn, encoder: classical}
""",
        Path("demo.yaml"),
    )
    assert not run_study(Graph(study, layout)).failed
    return layout


@pytest.mark.parametrize("page", ["README.md", "docs/studies.md"])
def test_study_examples_load(page):
    examples = [b for b in blocks(page, "yaml") if "classifiers:" in b]
    assert examples
    for example in examples:
        assert parse_study(example, ROOT / "docs" / "example.yaml").classifiers


def test_lists_and_like_do_what_the_page_says():
    yard = parse_study(blocks("docs/studies.md", "yaml")[0], ROOT / "docs" / "example.yaml")
    assert {"nearest_1", "nearest_5", "nearest_15", "probe_fixed"} <= set(yard.classifiers)
    assert yard.classifiers["probe_fixed"].c == 0.1


@pytest.mark.parametrize("sql", blocks("docs/sql.md", "sql"), ids=lambda q: q.split("\n")[0][:50])
def test_sql_recipes_run(results, sql):
    if "duckdb_columns()" not in sql:
        assert "study = 'demo'" in sql, "studies share the names of their classifiers"
    assert query(results, sql).num_rows > 0


def test_the_query_of_the_readme_runs_and_names_its_study(results):
    (sql,) = re.findall(r'vlm-audio sql "(.*?)"', (ROOT / "README.md").read_text(), re.DOTALL)
    assert "study = 'baselines'" in sql
    assert query(results, sql).num_rows == 0, "baselines was not run in this data folder"
    assert query(results, sql.replace("'baselines'", "'demo'")).num_rows == 10  # classes


def test_the_example_encoder_runs(results, tmp_path):
    for block in blocks("docs/adding-a-model.md", "python"):
        exec(compile(block, "adding-a-model.md", "exec"), {})
    study = parse_study(
        """
name: loud
dataset: {kind: synthetic, clips: 60, n_folds: 3, duration_s: 1}
encoders: {level: {kind: loudness, floor_db: -90}}
classifiers: {nearest: {kind: knn, encoder: level}}
""",
        tmp_path / "loud.yaml",
    )
    assert not run_study(Graph(study, results)).failed
    found = query(results, "SELECT DISTINCT dimensions FROM embeddings WHERE encoder = 'level'").column(0).to_pylist()
    assert found == [2]


def test_the_page_of_tables_is_up_to_date():
    assert (ROOT / "docs/tables.md").read_text() == tables_markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
