"""Rules of the architecture that no linter checks: which folder may import which, and which imports are lazy.

Each test lists all offenders as `file:line: name`.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import vlm_audio_pipeline

PACKAGE = Path(vlm_audio_pipeline.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FOLDERS = (
    "contracts",
    "measures",
    "storage",
    "engines",
    "datasets",
    "renderings",
    "encoders",
    "classifiers",
    "demo_models",
    "evaluation",
    "tasks",
    "reports",
    "studies",
    "planning",
    "dagster_app",
    "cli",
    "api",
)
"""In the direction of data flow: a folder imports only folders before it. The package's `__init__.py` imports none: it loads
public names from `api` at their first use."""

HEAVY = ("ray", "torch", "transformers", "librosa", "sklearn", "matplotlib", "scipy")
MAX_LINES = 400
LONGER_FILES = {"datasets/synthesis.py": 470}  # ten sounds, each with a short recipe


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Return (dotted name, line) of everything that a file imports, also inside functions, but not under TYPE_CHECKING."""

    def walk(node: ast.AST) -> Iterator[tuple[str, int]]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from walk(other)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((f"{prefix}.{alias.name}", node.lineno) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr):  # no expression contains an import
                yield from walk(child)

    return list(walk(_tree(path)))


def folder_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if name == "__main__" else name  # `python -m` is the command


def offender(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(PACKAGE)}:{line}: {what}"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def import_graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Map each module to the modules of `files` that it imports."""
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        targets = (t if t in files else t.rpartition(".")[0] for t, _ in imports(path))
        graph[name] = {t for t in targets if t in files} - {name}
    return graph


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Find the groups of modules that import one another (strongly connected components, Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def test_imports_inside_functions_and_classes_are_found(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        "import a.b as c\n"
        "if TYPE_CHECKING:\n    import hidden\nelse:\n    import visible\n"
        "def f():\n    def g():\n        from d.e import f, g\n"
        "class C:\n    try:\n        import h\n    finally:\n        pass\n"
        "from . import i\n"
    )
    assert imports(file) == [("a.b", 1), ("visible", 5), ("d.e.f", 8), ("d.e.g", 8), ("h", 11), ("..i", 14)]


def test_cycles_are_found():
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": {"f"}, "f": set()}) == [["a", "b", "c"]]


def test_every_folder_is_listed():
    assert {folder_of(p) for p in FILES} - {"__init__"} == set(FOLDERS), "add the new folder to FOLDERS, in data order"


def test_imports_are_absolute():
    assert [offender(p, line, name) for p in FILES for name, line in imports(p) if name.startswith(".")] == []


def test_a_folder_imports_only_folders_before_it():
    wrong = []
    for path in FILES:
        folder = folder_of(path)
        allowed = () if folder == "__init__" else FOLDERS[: FOLDERS.index(folder) + 1]
        for name, line in imports(path):
            first, *rest = name.split(".")
            if first == PACKAGE.name and rest and rest[0] in FOLDERS and rest[0] not in allowed:
                wrong.append(offender(path, line, name))
    assert wrong == []


def test_there_are_no_import_cycles():
    assert cycles(import_graph({module_name(p): p for p in FILES})) == []


def test_only_dagster_app_imports_dagster():
    wrong = [
        offender(path, line, name)
        for path in FILES
        if folder_of(path) != "dagster_app"
        for name, line in imports(path)
        if name.split(".")[0].startswith("dagster")
    ]
    assert wrong == []


def test_files_are_short():
    lengths = {p.relative_to(PACKAGE).as_posix(): len(p.read_text().splitlines()) for p in FILES}
    assert [f"{name}: {n} lines" for name, n in lengths.items() if n > LONGER_FILES.get(name, MAX_LINES)] == []


def test_every_file_has_a_docstring():
    assert [str(p.relative_to(PACKAGE)) for p in FILES if not ast.get_docstring(_tree(p))] == []


def test_no_class_reads_its_source_when_it_is_imported():
    """Commands would start 0.3 s later; `contracts/field_docs.py` reads the documentation of fields."""
    option = "use_attribute_docstrings" + "=True"
    assert [str(p) for p in FILES if option in p.read_text()] == []


def run_python(code: str, **env: str) -> str:
    """Run code in a new Python process, with only the variables of `env`, and return its output."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"DAGSTER_DISABLE_TELEMETRY": "1"} | env,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Modules that are loaded after all imports of a process: before and after those of `dagster_app`, and after `definitions`.

    Also the number of assets, and the files that loading the definitions wrote.
    """
    dagster_app = {module_name(p) for p in FILES if folder_of(p) == "dagster_app"}
    definitions = "vlm_audio_pipeline.dagster_app.definitions"
    others = [module_name(p) for p in FILES if module_name(p) not in dagster_app]
    code = f"""
import importlib, json, sys
def import_all(names):
    for name in names:
        importlib.import_module(name)
    return sorted(sys.modules)
others = import_all({others!r})
everything = import_all({sorted(dagster_app - {definitions})!r})
definitions = importlib.import_module({definitions!r})
assets = len(list(definitions.defs.resolve_asset_graph().get_all_asset_keys()))
print(json.dumps({{"others": others, "all": everything, "definitions": sorted(sys.modules), "assets": assets}}))
"""
    folder = tmp_path_factory.mktemp("home")
    result = json.loads(run_python(code, VLM_AUDIO_DATA=str(folder), HOME=str(folder)))
    return result | {"files": [str(path) for path in folder.iterdir()]}


def heavy(modules):
    return [name for name in modules if name.split(".")[0] in HEAVY]


def test_importing_other_modules_does_not_load_dagster(loaded):
    """Also indirectly through other files."""
    assert [name for name in loaded["others"] if name.split(".")[0].startswith("dagster")] == []


def test_help_loads_no_heavy_library():
    code = """
import atexit, json, sys
from vlm_audio_pipeline.cli.main import main
sys.argv = ["vlm-audio", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(list(sys.modules)))
"""
    text, loaded = run_python(code).strip().rsplit("\n", 1)
    assert "vlm-audio run" in text
    assert heavy(json.loads(loaded)) == []


def test_loading_the_definitions_loads_no_heavy_library(loaded):
    assert heavy(loaded["definitions"]) == []
    assert loaded["assets"] > 0
    assert loaded["files"] == []  # loading writes nothing


def test_no_module_imports_a_heavy_library_at_its_top_level(loaded):
    """A library that is loaded after all imports was imported at the top level of a file."""
    assert heavy(loaded["all"]) == []


def test_the_command_prints_only_through_its_escapes():
    """`printing` and `app.print_line` escape foreign text; anything else would print it as it is."""
    forbidden = re.compile(
        r"typer\.echo|(?<!\.)\bprint\(|\bconsole\.Console\(|(?<!_Plain)\bConsole\(|import .*\b(?:Table|Text|escape)\b|rich\.print|markup=True"
        r"|sys\.std(?:out|err)\.write\((?!\"stopped)"
    )
    own = {PACKAGE / "cli" / "printing.py", PACKAGE / "cli" / "app.py"}
    offenders = [
        offender(path, number, line.strip())
        for path in sorted((PACKAGE / "cli").glob("*.py"))
        if path not in own
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if forbidden.search(line)
    ]
    assert not offenders
