"""Examples of the documentation run: SQL, commands, Python, and components of other packages."""

import io
import re
import shlex
from pathlib import Path

import pytest
import typer

from vlm_audio_pipeline.cli import main as cli
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import select_nodes
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.cli.program import vlm_audio
from vlm_audio_pipeline_tests.pages import LANGUAGE_MODELS, ROOT, blocks, in_backticks

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
  classical_knn: {kind: knn, encoder: classical, perturb: {noise: white, snr_db: [20, -2.5]}}
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


def commands_of_the_readme() -> list[list[str]]:
    """Return the words of each command in the block of commands that everybody can run."""
    (block,) = [b for b in blocks("README.md", "bash") if "vlm-audio run demo" in b]
    activate, *lines = re.split(r"\n(?=vlm-audio)", block)
    assert activate == ". .venv/bin/activate"
    return [shlex.split(line.replace("\\\n", ""), comments=True) for line in lines]


def matching_files(word: str) -> list[str]:
    """Return the files that a shell would put instead of a pattern; a word that is no pattern is unchanged."""
    if not ("*" in word and "/" in word):
        return [word]
    files = sorted(map(str, Path().glob(word)))
    assert files, f"no file matches {word}"
    return files


@pytest.mark.slow
def test_the_commands_of_the_readme_run(demo_folder, monkeypatch):
    """With a small study instead of the demo, in which another clip is the first one."""
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


@pytest.fixture
def demo_folder(tmp_path):
    """An empty folder, apart from a small study that takes the place of the demo."""
    (tmp_path / "built_in").mkdir()
    (tmp_path / "built_in" / "demo.yaml").write_text(SMALL_DEMO)
    return tmp_path


def use_small_demo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the folder, in which a small study is instead of the demo."""
    monkeypatch.setattr("vlm_audio_pipeline.studies.loading.BUILT_IN", folder / "built_in")
    monkeypatch.chdir(folder)


@pytest.mark.slow
def test_python_examples_run(demo_folder, monkeypatch):
    """Those of README in an empty folder, then those of docs/python.md in the same folder."""
    use_small_demo(demo_folder, monkeypatch)
    for page in ("README.md", "docs/python.md"):
        Path("dog.png").unlink(missing_ok=True)
        examples, names = blocks(page, "python"), {}
        assert examples
        for i, example in enumerate(examples):
            exec(compile(example, f"{page}, example {i}", "exec"), names)
        assert Path("dog.png").read_bytes().startswith(b"\x89PNG")
        assert names["vectors"].shape[1] == 64 and names["table"]["predicted"][0] == "dog"
        assert len(names["vap"].leaderboard("demo")) > 2
