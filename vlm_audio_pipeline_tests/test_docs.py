"""Examples in the documentation run, its lists are complete, and generated pages are up to date."""

import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import soundfile
import typer
import yaml

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.classifiers.language_models.endpoint.model_table import find_model
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt
from vlm_audio_pipeline.classifiers.language_models.scripted import Script
from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline.datasets.annotated_recordings import AnnotatedRecordings
from vlm_audio_pipeline.datasets.annotations.formats import annotation_formats
from vlm_audio_pipeline.datasets.base import DatasetSpec
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.datasets.segments import SegmentRule
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
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.cli.program import vlm_audio
from vlm_audio_pipeline_tests.storage import example_tables

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGE_MODELS = "docs/language-models.md"

FIRST_STUDY = """
name: demo
dataset: {kind: synthetic, clips: 60, n_folds: 3, duration_s: 1}
encoders: {classical: {kind: features}}
classifiers:
  classical_knn: {kind: knn, encoder: classical, k: 1}
"""
SECOND_STUDY = """
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
    script: {unparseable: 0.1, refuses: 0.05}
  janus_one_shot: {like: janus, controls: [], shots: 1, select: random, draws: 2, encoder: classical}
  gpt:
    kind: language_model
    backend: openai
    model: gpt
    rendering: small
    endpoint: {url: "URL", prices: {input: 2.5, cached_input: 1.25, output: 10}}
  annotators: {kind: annotations, path: annotations.csv}
budget: {usd: 1}
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
"""The study into which an incomplete example of a page is merged."""


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_all_steps(graph: Graph) -> None:
    """Run a study without UMAP, whose compilation takes longer than all the rest; no example needs it."""
    step_names = [n for n, s in graph.steps.items() if not (s.stage.on_demand or s.stage.asset == "projections")]
    assert not run_study(graph, select_nodes(graph, step_names)).failed


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a small study named demo, with a model at an endpoint and one changed setting."""
    folder = tmp_path_factory.mktemp("docs")
    data_folder = DataFolder(folder / "data")

    def run(text: str) -> None:
        run_all_steps(Graph(parse_study(text, folder / "demo.yaml"), data_folder))

    run(FIRST_STUDY)
    clips = query(data_folder, "SELECT clip, label FROM clips").to_pylist()
    annotations = [f"{row['clip']},ann,{row['label']}" for row in clips]
    (folder / "annotations.csv").write_text("\n".join(["clip,annotator,label", *annotations]))
    with serving(ServerScript()) as server:  # it responds "dog" to every request
        run(FIRST_STUDY.split("encoders:")[0] + SECOND_STUDY.replace("URL", server.url))
    return data_folder


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


# ------------------------------------------------------------------------------------------------------------------- SQL


@pytest.mark.slow
@pytest.mark.parametrize("sql", blocks("docs/sql.md", "sql"), ids=lambda q: q.split("\n")[0][:50])
def test_sql_recipes_run(results, sql):
    if "duckdb_columns()" not in sql:
        assert "study = 'demo'" in sql, "studies share the names of their classifiers"
    assert query(results, sql).num_rows > 0


@pytest.mark.slow
def test_the_query_of_the_readme_runs(results):
    (sql,) = re.findall(r'vlm-audio sql "(.*?)"', (ROOT / "README.md").read_text(), re.DOTALL)
    assert query(results, sql).num_rows == 10  # classes


# ------------------------------------------------------------------------------------------------ commands of the README


def commands_of_the_readme() -> list[list[str]]:
    """Return the words of each command in the block of commands that everybody can run."""
    (block,) = [b for b in blocks("README.md", "bash") if "vlm-audio run demo" in b]
    activate, *lines = re.split(r"\n(?=vlm-audio)", block)
    assert activate == ". .venv/bin/activate"
    return [shlex.split(line.replace("\\\n", ""), comments=True) for line in lines]


def matching_files(word: str) -> list[str]:
    """Return the files that a shell would put in place of a pattern; a word that is no pattern is unchanged."""
    if not ("*" in word and "/" in word):
        return [word]
    files = sorted(map(str, Path().glob(word)))
    assert files, f"no file matches {word}"
    return files


@pytest.mark.slow
def test_the_commands_of_the_readme_run(demo_folder, monkeypatch):
    """With a small study in the place of the demo, in which another clip is the first one."""
    use_small_demo(demo_folder, monkeypatch)
    commands = commands_of_the_readme()
    assert len(commands) > 10
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))  # `prune` asks
    clip = "?"
    for _, name, *arguments in commands:
        words = [word.replace("2-1-A-0", clip) for word in arguments]
        result = vlm_audio(name, *(path for word in words for path in matching_files(word)))
        assert (result.code, re.findall(r"^error: .*", result.err, re.MULTILINE)) == (0, []), f"{name}: {result.err}"
        if name == "run":
            clip = query(DataFolder(demo_folder / "data"), "SELECT min(clip) AS clip FROM clips").to_pylist()[0]["clip"]


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


# ------------------------------------------------------------------------------------------------------- language models


def in_backticks(page: str) -> set[str]:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[\w]+", span)}


@pytest.mark.parametrize(
    "spec", [*BACKENDS.all().values(), Endpoint, Prices, Budget, OwnPrompt, Script], ids=lambda s: s.__name__
)
def test_the_page_of_language_models_names_every_key(spec):
    assert set(spec.model_fields) <= in_backticks(LANGUAGE_MODELS)


def test_the_table_of_endpoint_keys_has_every_key_once():
    text = (ROOT / LANGUAGE_MODELS).read_text()
    [section] = re.findall(r"^### Keys of an endpoint\n(.*?)^#", text, re.DOTALL | re.MULTILINE)
    names = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(names))) == sorted(Endpoint.model_fields)


@pytest.mark.parametrize("spec", [Contrast, Budget, Rerun], ids=lambda s: s.__name__)
def test_the_page_of_studies_names_every_key(spec):
    assert set(spec.model_fields) <= in_backticks("docs/studies.md")


def test_the_page_of_annotated_recordings_names_every_key_and_format():
    rows = table_after("docs/annotated-recordings.md", "| `format` |")
    assert sorted(row[0] for row in rows) == sorted(annotation_formats())
    assert {row[0] for row in table_after("docs/annotated-recordings.md", "| key of `segment`")} == set(
        SegmentRule.model_fields
    ) - {"seed"}
    text = (ROOT / "docs" / "annotated-recordings.md").read_text()
    own = set(AnnotatedRecordings.model_fields) - set(DatasetSpec.model_fields) - {"title", "citation"}
    assert {name for name in own if not re.search(rf"\b{name}\b", text)} == set()


def test_the_page_of_language_models_names_every_prompt():
    assert set(PROMPTS) <= in_backticks(LANGUAGE_MODELS)


def table_after(page: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose header begins with the given text."""
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


@pytest.mark.parametrize(("response", "outcome", "explanation"), RESPONSES)
def test_responses_are_parsed_as_documented(response, outcome, explanation):
    parsed = parse_response(response.replace("\\n", "\n"), ESC10)
    assert (parsed.label or parsed.outcome) == outcome
    assert explanation


def test_the_page_has_responses_of_every_outcome():
    assert len(RESPONSES) >= 20
    assert {"unparseable", "refused", "rain"} <= {outcome for _, outcome, _ in RESPONSES}


def test_the_documented_plan_is_that_of_the_study(tmp_path):
    graph = Graph(load_study("paper"), DataFolder(tmp_path))
    (plan,) = [b for b in blocks(LANGUAGE_MODELS, "text") if "USD at most" in b]
    rows = [r.split() for r in plan.splitlines() if r.split()[0] in graph.study.classifiers]
    assert len(rows) >= 3
    for name, requests, tokens, usd, batch in rows:
        step = graph.steps[f"responses/{name}"]
        folds, cost = len(step.nodes), step.stage.cost(80)  # ESC-10 has 80 clips in each fold
        assert (requests, tokens) == (f"{folds * cost.requests:,}", f"{folds * cost.tokens:,}")
        assert usd == f"{folds * cost.usd:.2f}"
        assert batch == ("-" if cost.batch_usd is None else f"{folds * cost.batch_usd:.2f}")


@pytest.mark.slow
def test_scripted_examples_run_and_work_with_try(results, tmp_path):
    (example,) = [b for b in blocks(LANGUAGE_MODELS, "yaml") if "backend: scripted" in b]
    study = parse_study(example, tmp_path / "no_model.yaml")
    run_all_steps(Graph(study, results))
    response_counts = query(results, f"SELECT count(*) AS n FROM responses WHERE study = '{study.name}'").to_pylist()
    assert response_counts[0]["n"] > 0
    (tmp_path / "no_model.yaml").write_text(example)
    (line,) = [" ".join(b.split()) for b in blocks(LANGUAGE_MODELS, "sh") if "no_model.yaml" in b and " try " in b]
    wav = next((results.root / "datasets").rglob("*.wav"))
    words = [*shlex.split(line)[1:], "--data", str(results.root)]
    replacements = {"dog.wav": str(wav), "no_model.yaml": str(tmp_path / "no_model.yaml")}
    typer.main.get_command(cli.app).main([replacements.get(word, word) for word in words], standalone_mode=False)


# name of the study on the page -> the id that its server returns
SERVED_STUDIES = {"reasoning": "gpt-6.2-sol-2026-11-01", "vllm": "Qwen/Qwen2.5-VL-7B-Instruct", "proxy": "house-model"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED_STUDIES)
def test_a_study_of_an_endpoint_runs_with_a_server(name, tmp_path, monkeypatch):
    """Only the address is replaced, and the published prices, which apply to the provider's own host, are declared."""
    (text,) = [b for b in blocks(LANGUAGE_MODELS, "yaml") if b.startswith(f"# {name}.yaml")]
    values = yaml.safe_load(text)
    ((classifier, entry),) = values["classifiers"].items()
    endpoint = entry.setdefault("endpoint", {})
    if "url" not in endpoint:
        prices = find_model(entry["model"], "api.openai.com").prices
        endpoint |= {"key": "OPENAI_API_KEY", "prices": prices.model_dump()}
    monkeypatch.setenv(endpoint.get("key", "UNUSED_KEY"), "k" * 20)
    script = ServerScript()
    reply = completion("dog", {"model": ""}, script.usage, reasoning_content="short bursts") | {
        "model": SERVED_STUDIES[name]
    }
    script.play = lambda question, attempt: (200, reply)
    with serving(script) as server:
        endpoint["url"] = server.url
        data_folder = DataFolder(tmp_path / "data")
        summary = run_study(Graph(parse_study(yaml.safe_dump(values), tmp_path / f"{name}.yaml"), data_folder))
        (body, *_), headers = server.bodies, server.headers[0]
    assert not summary.failed and not summary.not_run and not summary.failed_checks
    (row,) = query(
        data_folder, f"SELECT * FROM leaderboard WHERE classifier = '{classifier}' AND control = 'none'"
    ).to_pylist()
    assert (row["rank"], row["partial"], row["correct"]) == (1, False, 4)  # 4 of 40 clips are dogs
    assert ("key" in endpoint) == (headers.get("authorization", headers.get("Authorization")) == "Bearer " + "k" * 20)
    assert ("temperature" in body) == (name != "reasoning")
    assert body.get("reasoning_effort") == ("low" if name == "reasoning" else None)


# ------------------------------------------------------------------------------------------------------------ statistics


@pytest.mark.slow
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT DISTINCT metric FROM metrics",
        "SELECT DISTINCT measure FROM embedding_quality",
        "SELECT DISTINCT kind FROM leakage",
        "SELECT DISTINCT variant FROM reliability",
    ],
    ids=lambda q: q.split()[-1],
)
def test_the_page_of_statistics_names_every_measure(results, sql):
    names = {name for row in query(results, sql).to_pylist() for name in row.values()}
    assert names <= in_backticks("docs/statistics.md")


@pytest.mark.parametrize("table", ["leaderboard", "contrasts", "verdicts"])
def test_the_page_of_statistics_names_every_numeric_column(table):
    numbers = {c.name for c in TABLES[table].columns if str(c.type) == "double"}
    assert numbers <= in_backticks("docs/statistics.md")


# -------------------------------------------------------------------------------------------------------- adding a model


@pytest.mark.slow
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
    run_all_steps(Graph(study, results))
    dimensions = (
        query(results, "SELECT DISTINCT dimensions FROM embeddings WHERE encoder = 'level'").column(0).to_pylist()
    )
    assert dimensions == [2]


@pytest.mark.slow
def test_the_example_backend_runs(results, tmp_path):
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
    run_all_steps(Graph(study, results))
    rows = query(results, "SELECT scoring, outcome, count(*) AS n FROM responses WHERE study = 'parrots' GROUP BY ALL")
    assert sorted(map(tuple, (r.values() for r in rows.to_pylist()))) == [
        ("generation", "answered", 60),
        ("likelihood", "answered", 60),
    ]


# ---------------------------------------------------------------------------------------------------------------- Python

SMALL_DEMO = """
name: demo
dataset: {kind: synthetic, clips: 20, n_folds: 2, duration_s: 1, takes: 1}
renderings:
  demo: {transform: mel, n_mels: 64, colormap: magma, resampling: area, size: 96}
encoders:
  clap: {kind: clap, model: demo-clap}
  aimv2: {kind: vision, model: demo-aimv2, rendering: demo}
classifiers:
  janus: {kind: language_model, model: demo-janus, rendering: demo, controls: [blank]}
  clap_zero_shot: {kind: zero_shot, encoder: clap}
contrasts:
  - {classifier: janus, against: [chance, janus@blank, clap_zero_shot]}
"""


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory):
    """A folder in which the examples of several pages run one after the other, so that the study is computed once."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "built_in").mkdir()
    (folder / "built_in" / "demo.yaml").write_text(SMALL_DEMO)
    return folder


def use_small_demo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder, in which a small study is in the place of the demo."""
    monkeypatch.setattr("vlm_audio_pipeline.studies.loading.BUILT_IN", folder / "built_in")
    monkeypatch.chdir(folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_examples_run(page, demo_folder, monkeypatch):
    use_small_demo(demo_folder, monkeypatch)
    Path("dog.png").unlink(missing_ok=True)
    examples, names = blocks(page, "python"), {}
    assert examples
    for i, example in enumerate(examples):
        exec(compile(example, f"{page}, example {i}", "exec"), names)
    assert Path("dog.png").read_bytes().startswith(b"\x89PNG")
    assert names["vectors"].shape[1] == 64 and names["table"]["predicted"][0] == "dog"
    assert len(names["vap"].leaderboard("demo")) > 2


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
