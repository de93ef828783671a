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


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of everything that a file imports, also inside functions, but not under TYPE_CHECKING."""

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
            yield from walk(child)

    yield from walk(_tree(path))


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
    assert list(imports(file)) == [("a.b", 1), ("visible", 5), ("d.e.f", 8), ("d.e.g", 8), ("h", 11), ("..i", 14)]


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


PRINT_HEAVY = f"print(json.dumps([m for m in sys.modules if m.split('.')[0] in {HEAVY!r}]))"


def test_importing_other_modules_does_not_load_dagster():
    """Also indirectly through other files."""
    modules = [module_name(p) for p in FILES if folder_of(p) != "dagster_app"]
    code = f"import importlib, sys\nfor m in {modules!r}: importlib.import_module(m)\n"
    assert run_python(code + "print([m for m in sys.modules if m.split('.')[0].startswith('dagster')])") == "[]\n"


def test_help_loads_no_heavy_library():
    code = f"""
import atexit, json, sys
from vlm_audio_pipeline.cli.main import main
sys.argv = ["vlm-audio", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
{PRINT_HEAVY}
"""
    text, loaded = run_python(code).strip().rsplit("\n", 1)
    assert "vlm-audio run" in text
    assert json.loads(loaded) == []


def test_loading_the_definitions_loads_no_heavy_library(tmp_path):
    code = f"""
import json, sys
import vlm_audio_pipeline.dagster_app.definitions as d
print(len(list(d.defs.resolve_asset_graph().get_all_asset_keys())))
{PRINT_HEAVY}
"""
    assets, loaded = run_python(code, VLM_AUDIO_DATA=str(tmp_path), HOME=str(tmp_path)).strip().rsplit("\n", 1)
    assert json.loads(loaded) == []
    assert int(assets) > 0
    assert not list(tmp_path.iterdir())  # loading writes nothing


def test_no_module_imports_a_heavy_library_at_its_top_level():
    """Import all modules in one process: a library that is loaded at the end was imported at the top level of a file."""
    modules = [module_name(p) for p in FILES if p.name != "definitions.py"]
    code = f"import importlib, json, sys\nfor m in {modules!r}: importlib.import_module(m)\n{PRINT_HEAVY}"
    assert json.loads(run_python(code)) == []


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
