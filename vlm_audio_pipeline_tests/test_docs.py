"""The documentation: its examples can be loaded, its lists are complete, and generated pages are up to date."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import soundfile
import typer
import yaml

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline.datasets.annotated_recordings import AnnotatedRecordings
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats
from vlm_audio_pipeline.datasets.base import DatasetSpec
from vlm_audio_pipeline.datasets.segments import SegmentRule
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.reports.documentation import tables_markdown
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.studies.study import KEYS
from vlm_audio_pipeline_tests.cli.program import vlm_audio
from vlm_audio_pipeline_tests.pages import PAGES, ROOT, blocks, in_backticks, table_after
from vlm_audio_pipeline_tests.storage import example_tables

BASE = """
dataset: {kind: synthetic}
renderings: {paper: {preset: paper}}
encoders: {classical: {kind: features}, clap: {kind: clap}}
classifiers:
  janus: {kind: language_model, model: deepseek-community/Janus-Pro-1B, rendering: paper, controls: [blank]}
  classical_probe: {kind: probe, encoder: classical}
"""
"""The study into which an incomplete example of a page is merged."""


# ------------------------------------------------------------------------------------------------------- study examples

YAML = [
    pytest.param(page, block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(blocks(str(page.relative_to(ROOT)), "yaml"))
    if page.name != "operations.md"
    or "schedule:" in block  # the other blocks of that page configure Docker and Dagster
]


@pytest.mark.parametrize(("page", "block"), YAML)
def test_study_examples_can_be_loaded(page, block, tmp_path):
    is_complete = {"dataset", "classifiers"} <= (keys := set(yaml.safe_load(block)))
    assert keys <= set(KEYS)
    study = parse_study(block if is_complete else complete_study(block), ROOT / "docs" / "example.yaml")
    assert study.classifiers
    if study.dataset.kind in ("synthetic", "esc10"):  # other datasets need files to read their folds
        Graph(study, DataFolder(tmp_path))


def complete_study(example: str) -> str:
    base, example_values = yaml.safe_load(BASE), yaml.safe_load(example)
    for key, value in example_values.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) and key in KEYS_OF_ENTRIES else value
    return yaml.safe_dump(base, sort_keys=False)


KEYS_OF_ENTRIES = ("renderings", "encoders", "classifiers")


def test_an_incomplete_example_is_merged_into_a_study():
    merged = yaml.safe_load(complete_study("classifiers: {new: {kind: annotations}}\nbudget: {usd: 1}"))
    assert set(merged["classifiers"]) == {"janus", "classical_probe", "new"} and merged["budget"] == {"usd": 1}


def test_lists_and_like_work_as_documented():
    study = parse_study(blocks("docs/studies.md", "yaml")[0], ROOT / "docs" / "example.yaml")
    assert {"nearest_1", "nearest_5", "nearest_15", "probe_fixed"} <= set(study.classifiers)
    assert study.classifiers["probe_fixed"].c == 0.1


# -------------------------------------------------------------------------------------------------------------- commands


def commands_of(page: Path) -> set[str]:
    """Return every command line of the program on a page, in blocks and in backticks."""
    text = page.read_text()
    fenced = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`(vlm-audio [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return {" ".join(line.split()) for line in (*lines, *spans) if line.startswith("vlm-audio ")}


COMMANDS = sorted({(page.name, line) for page in PAGES for line in commands_of(page)})


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_documented_commands_and_options_exist(page, line):
    commands = typer.main.get_command(cli.app).commands
    _, name, *words = shlex.split(re.sub(r'"[^"]*("|$)', "text", line).split(" #")[0])
    if name.startswith("-"):
        program = typer.main.get_command(cli.app)
        assert name in {"-h", "--help", *(option for parameter in program.params for option in parameter.opts)}
        return
    assert name in commands, f"{page}: no command {name}"
    options = {option for parameter in commands[name].params for option in parameter.opts} | {"--help", "-h"}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= options


def test_a_listing_as_in_the_readme_gives_a_first_study(tmp_path, monkeypatch):
    (listing,) = blocks("README.md", "csv")
    _, *rows = listing.splitlines()
    assert len(rows) == 2
    monkeypatch.chdir(tmp_path)
    Path("recordings").mkdir()
    for row in rows:
        path, label, _ = row.split(",")
        soundfile.write(path, *vap.example_sound(label, duration_s=1))
    Path("clips.csv").write_text(listing)
    assert {"vlm-audio init clips.csv", "vlm-audio run clips.yaml"} <= commands_of(ROOT / "README.md")
    assert vlm_audio("init", "clips.csv").code == 0
    assert load_study("clips.yaml").dataset.kind == "csv"


@pytest.mark.parametrize("spec", [Contrast, Budget, Rerun], ids=lambda s: s.__name__)
def test_the_page_of_studies_names_every_key(spec):
    assert set(spec.model_fields) <= in_backticks("docs/studies.md")


def test_the_page_of_annotated_recordings_names_every_key_and_format():
    rows = table_after("docs/annotated-recordings.md", "| `format` |")
    assert sorted(row[0] for row in rows) == sorted(annotation_formats())
    assert {row[0] for row in table_after("docs/annotated-recordings.md", "| key of `segment`")} == set(
        SegmentRule.model_fields
    )
    text = (ROOT / "docs" / "annotated-recordings.md").read_text()
    own = set(AnnotatedRecordings.model_fields) - set(DatasetSpec.model_fields) - {"title", "citation"}
    assert {name for name in own if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("table", ["leaderboard", "contrasts", "verdicts"])
def test_the_page_of_statistics_names_every_numeric_column(table):
    numbers = {c.name for c in TABLES[table].columns if str(c.type) == "double"}
    assert numbers <= in_backticks("docs/statistics.md")


def test_the_page_of_python_names_everything():
    assert set(vap.__all__) - {"__version__", "example_sound"} <= in_backticks("docs/python.md") | CLASSES_OF_PYTHON
    methods = {n for n, f in vars(vap.OpenStudy).items() if not n.startswith("_") and callable(f)}
    text = (ROOT / "docs/python.md").read_text()
    assert [n for n in methods if f".{n}(" not in text] == []


CLASSES_OF_PYTHON = {"ModelResponse", "OpenStudy", "RenderedImage", "ResultTable", "StudyPlan"}
"""Names for type annotations: what the functions return."""

# ---------------------------------------------------------------------------------------------------------- all the pages


def test_the_page_of_tables_is_up_to_date():
    assert (ROOT / "docs/tables.md").read_text() == tables_markdown()


def test_the_page_of_tables_equals_the_catalogue(tmp_path):
    """Every table and view, with its columns in their order and their types."""
    types = {
        "string": "VARCHAR",
        "int64": "BIGINT",
        "double": "DOUBLE",
        "bool": "BOOLEAN",
        "binary": "BLOB",
        "list<item: float>": "FLOAT[]",
        "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
        "map<string, double>": "MAP(VARCHAR, DOUBLE)",
        "map<string, int64>": "MAP(VARCHAR, BIGINT)",
        "map<string, string>": "MAP(VARCHAR, VARCHAR)",
    }
    page: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / "docs/tables.md").read_text().splitlines():
        if line.startswith("## "):
            page[line.removeprefix("## ")] = []
        elif line.startswith("| ") and not line.startswith("| column"):
            name, kind = (cell.strip(" `") for cell in line.split("|")[1:3])
            page[list(page)[-1]].append((name, types[kind]))
    data_folder = DataFolder(tmp_path).create()
    example_tables.study(data_folder)
    columns = query(
        data_folder,
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index",
    )
    catalogue: dict[str, list[tuple[str, str]]] = {}
    for row in columns.to_pylist():
        catalogue.setdefault(row["table_name"], []).append((row["column_name"], row["data_type"]))
    assert page == catalogue


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_to_files_and_their_anchors_exist(page):
    for target, anchor in re.findall(r"\]\(([^)#]*?)(?:#([^)]*))?\)", page.read_text()):
        if "://" in target:
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}#{anchor}"
