"""Examples in the documentation are executed, what it lists is all there is, and generated pages are up to date."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt
from vlm_audio_pipeline.classifiers.language_models.scripted import Script
from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.reports.documentation import tables_markdown
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.studies.study import KEYS
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGE_MODELS = "docs/language-models.md"

FIRST = """
name: demo
dataset: {kind: synthetic, clips: 60, n_folds: 3, duration_s: 1}
encoders: {classical: {kind: features}}
classifiers:
  classical_knn: {kind: knn, encoder: classical, k: 1}
"""
THEN = """
renderings: {small: {preset: plain, width: 32, height: 32, rate: 8000, n_fft: 256}}
encoders: {classical: {kind: features}}
classifiers:
  classical_probe: {kind: probe, encoder: classical, c: 0.1}
  classical_knn: {kind: knn, encoder: classical}
  janus:
    kind: language_model
    backend: scripted
    model: scripted
    rendering: small
    controls: [blank, no_image]
    script: {rambles: 0.1, refuses: 0.05}
  janus_one_shot: {like: janus, controls: [], shots: 1, select: random, draws: 2, encoder: classical}
  gpt:
    kind: language_model
    backend: openai
    model: gpt
    rendering: small
    endpoint: {url: "URL", prices: {input: 2.5, cached_input: 1.25, output: 10}}
  annotators: {kind: annotations, path: annotations.csv}
contrasts:
  - {classifier: classical_probe, against: [chance, annotators]}
  - {classifier: janus, against: [chance, janus@blank, classical_probe]}
  - {classifier: janus_one_shot, against: [janus, "janus_one_shot:examples_knn"]}
"""

BASE = """
dataset: {kind: synthetic}
renderings: {paper: {preset: paper}}
encoders: {classical: {kind: features}, clap: {kind: clap}}
classifiers:
  janus: {kind: language_model, model: deepseek-community/Janus-Pro-1B, rendering: paper, controls: [blank]}
  classical_probe: {kind: probe, encoder: classical}
"""
"""What a part of a study on a page is put into."""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def made(graph: Graph) -> None:
    """Run a study but for UMAP, which no example asks for: it compiles itself for longer than all the rest takes."""
    wanted = [n for n, s in graph.steps.items() if not (s.stage.on_demand or s.stage.asset == "projections")]
    assert not run_study(graph, select_nodes(graph, wanted)).failed


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a small study with the demo's names, a model at an endpoint, and a setting that was changed."""
    folder = tmp_path_factory.mktemp("docs")
    data_folder = DataFolder(folder / "data")

    def run(text: str) -> None:
        made(Graph(parse_study(text, folder / "demo.yaml"), data_folder))

    run(FIRST)
    clips = query(data_folder, "SELECT clip, label FROM clips").to_pylist()
    heard = [f"{row['clip']},ann,{row['label']}" for row in clips]
    (folder / "annotations.csv").write_text("\n".join(["clip,annotator,label", *heard]))
    with serving(ServerScript()) as server:  # it says "dog", whatever it is asked
        run(FIRST.split("encoders:")[0] + THEN.replace("URL", server.url))
    return data_folder


# ------------------------------------------------------------------------------------------------------- study examples

YAML = [
    pytest.param(page, block, id=f"{page.name}-{i}")
    for page in PAGES
    for i, block in enumerate(blocks(str(page.relative_to(ROOT)), "yaml"))
    if page.name != "operations.md" or "schedule:" in block  # the others there are of Docker and Dagster
]


@pytest.mark.parametrize(("page", "block"), YAML)
def test_study_examples_load(page, block, tmp_path):
    whole = {"dataset", "classifiers"} <= (keys := set(yaml.safe_load(block)))
    assert keys <= set(KEYS)
    study = parse_study(block if whole else completed(block), ROOT / "docs" / "example.yaml")
    assert study.classifiers
    if study.dataset.kind in ("synthetic", "esc10"):  # others want files: their folds are in these
        Graph(study, DataFolder(tmp_path))


def completed(part: str) -> str:
    base, said = yaml.safe_load(BASE), yaml.safe_load(part)
    for key, value in said.items():
        base[key] = {**base.get(key, {}), **value} if isinstance(value, dict) and key in KEYS_OF_ENTRIES else value
    return yaml.safe_dump(base, sort_keys=False)


KEYS_OF_ENTRIES = ("renderings", "encoders", "classifiers")


def test_a_part_is_put_into_a_study_and_not_over_it():
    made = yaml.safe_load(completed("classifiers: {new: {kind: annotations}}\nbudget: {usd: 1}"))
    assert set(made["classifiers"]) == {"janus", "classical_probe", "new"} and made["budget"] == {"usd": 1}


def test_lists_and_like_do_what_the_page_says():
    yard = parse_study(blocks("docs/studies.md", "yaml")[0], ROOT / "docs" / "example.yaml")
    assert {"nearest_1", "nearest_5", "nearest_15", "probe_fixed"} <= set(yard.classifiers)
    assert yard.classifiers["probe_fixed"].c == 0.1


# -------------------------------------------------------------------------------------------------------------- commands


def commands_of(page: Path) -> set[str]:
    """Give every command line of the program on a page: in blocks, and in backticks."""
    text = page.read_text()
    fenced = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`(vlm-audio [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return {" ".join(line.split()) for line in (*lines, *spans) if line.startswith("vlm-audio ")}


COMMANDS = sorted({(page.name, line) for page in PAGES for line in commands_of(page)})


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_and_their_options_exist(page, line):
    known = typer.main.get_command(cli.app).commands
    _, name, *words = shlex.split(re.sub(r'"[^"]*("|$)', "text", line).split(" #")[0])
    if name == "--help":
        return
    assert name in known, f"{page}: no command {name}"
    options = {option for parameter in known[name].params for option in parameter.opts} | {"--help"}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= options


# ------------------------------------------------------------------------------------------------------------------- SQL


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


# ------------------------------------------------------------------------------------------------------- language models


def in_backticks(page: str) -> set[str]:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[\w]+", span)}


@pytest.mark.parametrize(
    "spec", [*BACKENDS.all().values(), Endpoint, Prices, Budget, OwnPrompt, Script], ids=lambda s: s.__name__
)
def test_the_page_names_every_key(spec):
    assert set(spec.model_fields) <= in_backticks(LANGUAGE_MODELS)


@pytest.mark.parametrize("spec", [Contrast, Budget, Rerun], ids=lambda s: s.__name__)
def test_the_page_of_studies_names_every_key(spec):
    assert set(spec.model_fields) <= in_backticks("docs/studies.md")


def test_the_page_names_every_prompt():
    assert set(PROMPTS) <= in_backticks(LANGUAGE_MODELS)


def table_after(page: str, header: str) -> list[list[str]]:
    """Give the cells of a table, by how its header begins."""
    lines = iter((ROOT / page).read_text().splitlines())
    next(line for line in lines if line.startswith(header))
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
    return rows


RESPONSES = table_after(LANGUAGE_MODELS, "| response |")


@pytest.mark.parametrize(("response", "outcome", "why"), RESPONSES)
def test_responses_are_parsed_as_the_page_says(response, outcome, why):
    parsed = parse_response(response.replace("\\n", "\n"), ESC10)
    assert (parsed.label or parsed.outcome) == outcome
    assert why


def test_the_page_shows_responses_of_every_outcome():
    assert len(RESPONSES) >= 20
    assert {"unparseable", "refused", "rain"} <= {outcome for _, outcome, _ in RESPONSES}


def test_the_plan_shown_is_that_of_the_study(tmp_path):
    graph = Graph(load_study("paper"), DataFolder(tmp_path))
    (plan,) = [b for b in blocks(LANGUAGE_MODELS, "text") if "USD at most" in b]
    rows = [r.split() for r in plan.splitlines() if r.split()[0] in graph.study.classifiers]
    assert len(rows) >= 3
    for name, requests, tokens, usd in rows:
        step = graph.steps[f"responses/{name}"]
        folds, cost = len(step.nodes), step.stage.cost(80)  # ESC-10 has 80 clips in each fold
        assert (requests, tokens) == (f"{folds * cost.requests:,}", f"{folds * cost.tokens:,}")
        assert usd == f"{folds * cost.usd:.2f}"


def test_scripted_examples_run_and_can_be_tried(results, tmp_path):
    (example,) = [b for b in blocks(LANGUAGE_MODELS, "yaml") if "backend: scripted" in b]
    study = parse_study(example, tmp_path / "no_model.yaml")
    made(Graph(study, results))
    asked = query(results, f"SELECT count(*) AS n FROM responses WHERE study = '{study.name}'").to_pylist()
    assert asked[0]["n"] > 0
    (tmp_path / "no_model.yaml").write_text(example)
    (line,) = [" ".join(b.split()) for b in blocks(LANGUAGE_MODELS, "sh") if "no_model.yaml" in b and " try " in b]
    wav = next((results.root / "datasets").rglob("*.wav"))
    words = [*shlex.split(line)[1:], "--data", str(results.root)]
    swapped = {"dog.wav": str(wav), "no_model.yaml": str(tmp_path / "no_model.yaml")}
    typer.main.get_command(cli.app).main([swapped.get(word, word) for word in words], standalone_mode=False)


# ------------------------------------------------------------------------------------------------------------ statistics


@pytest.mark.parametrize(
    "of",
    [
        "SELECT DISTINCT metric FROM metrics",
        "SELECT DISTINCT measure FROM embedding_quality",
        "SELECT DISTINCT kind FROM leakage",
        "SELECT DISTINCT variant FROM reliability",
    ],
    ids=lambda q: q.split()[-1],
)
def test_the_page_of_statistics_names_every_number_there_is(results, of):
    there = {name for row in query(results, of).to_pylist() for name in row.values()}
    assert there <= in_backticks("docs/statistics.md")


@pytest.mark.parametrize("table", ["leaderboard", "contrasts"])
def test_the_page_of_statistics_names_every_number_of(table):
    numbers = {c.name for c in TABLES[table].columns if str(c.type) == "double"}
    assert numbers <= in_backticks("docs/statistics.md")


# -------------------------------------------------------------------------------------------------------- adding a model


def test_the_example_encoder_runs(results, tmp_path):
    code = blocks("docs/adding-a-model.md", "python")
    exec(compile(code[0], "adding-a-model.md", "exec"), {})
    study = parse_study(
        """
name: loud
dataset: {kind: synthetic, clips: 60, n_folds: 3, duration_s: 1}
encoders: {level: {kind: loudness, floor_db: -90}}
classifiers: {nearest: {kind: knn, encoder: level}}
""",
        tmp_path / "loud.yaml",
    )
    made(Graph(study, results))
    found = query(results, "SELECT DISTINCT dimensions FROM embeddings WHERE encoder = 'level'").column(0).to_pylist()
    assert found == [2]


def test_the_example_backend_answers(results, tmp_path):
    exec(compile(blocks("docs/adding-a-model.md", "python")[1], "adding-a-model.md", "exec"), {})
    study = parse_study(
        """
name: parrots
dataset: {kind: synthetic, clips: 60, n_folds: 3, duration_s: 1}
renderings: {small: {preset: plain, width: 32, height: 32, rate: 8000, n_fft: 256}}
classifiers: {parrot: {kind: language_model, backend: parrot, model: any, rendering: small}}
""",
        tmp_path / "parrots.yaml",
    )
    made(Graph(study, results))
    rows = query(results, "SELECT scoring, outcome, count(*) AS n FROM responses WHERE study = 'parrots' GROUP BY ALL")
    assert sorted(map(tuple, (r.values() for r in rows.to_pylist()))) == [
        ("generation", "answered", 60),
        ("likelihood", "answered", 60),
    ]


# ---------------------------------------------------------------------------------------------------------- all the pages


def test_the_page_of_tables_is_up_to_date():
    assert (ROOT / "docs/tables.md").read_text() == tables_markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
