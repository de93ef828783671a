"""The rules of the house that no linter knows: which room may know which, and what loads nothing heavy."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlm_audio_pipeline

PACKAGE = Path(vlm_audio_pipeline.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [p.relative_to(PACKAGE).as_posix() for p in FILES]

ROOMS = (
    "contracts",
    "storage",
    "engines",
    "datasets",
    "renderings",
    "encoders",
    "classifiers",
    "demo_models",
    "evaluation",
    "reports",
    "studies",
    "orchestration",
    "definitions",
    "commands",
    "cli",
)
"""In the order in which data flows: a room imports only rooms before it."""

WITHOUT_DAGSTER = (
    "graph",
    "execution",
    "planner",
    "publishing",
    "display",
    "state",
    "spending",
    "summaries",
    "trying",
    "reporting",
    "locks",
    "disk",
    "troubles",
    "observing",
    "unattended",
    "processes",
)
"""Files of `orchestration` that work without Dagster."""

HEAVY = ("torch", "transformers", "librosa", "sklearn", "matplotlib", "scipy")


def imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """Give every module a file imports, at any level, but for `if TYPE_CHECKING`: name, line, inside a function."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, int, bool]]:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from walk(other, inside)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports name the whole path"
            yield from ((f"{node.module}.{alias.name}", node.lineno, inside) for alias in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(ast.parse(path.read_text()), False)


def test_imports_are_found_wherever_they_stand(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        "import a.b as c\n"
        "if TYPE_CHECKING:\n    import hidden\nelse:\n    import shown\n"
        "def f():\n    def g():\n        from d.e import f, g\n"
        "class C:\n    try:\n        import h\n    finally:\n        pass\n"
    )
    assert list(imports(file)) == [
        ("a.b", 1, False),
        ("shown", 5, False),
        ("d.e.f", 8, True),
        ("d.e.g", 8, True),
        ("h", 11, False),
    ]


def room_of(module: str) -> str | None:
    """Give the room of a module of ours; None for the package itself, and for others."""
    first, *rest = module.split(".")
    return rest[0] if first == PACKAGE.name and rest and rest[0] in ROOMS else None


def home(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_the_rooms_are_those_there_are():
    there = {home(p) for p in FILES} - {"__init__"}
    assert there == set(ROOMS), "name a new room in ROOMS, where data reaches it"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_room_knows_only_rooms_before_it(path):
    if home(path) == "__init__":
        allowed: set[str] = set()
    else:
        allowed = set(ROOMS[: ROOMS.index(home(path)) + 1])
    wrong = [(name, line) for name, line, _ in imports(path) if (room := room_of(name)) and room not in allowed]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_dagster_stays_in_its_room(path):
    where = path.relative_to(PACKAGE)
    lines = [line for name, line, _ in imports(path) if name.split(".")[0].startswith("dagster")]
    if home(path) == "definitions" or (home(path) == "orchestration" and path.stem not in WITHOUT_DAGSTER):
        return
    assert not lines, f"{where} must not import dagster"


def test_what_works_without_dagster_imports_nothing_that_needs_it():
    """By way of other files, too; but for the display, which loads it when something runs."""
    code = (
        "import sys; "
        + "; ".join(f"import {PACKAGE.name}.orchestration.{name}" for name in WITHOUT_DAGSTER)
        + "; print([m for m in sys.modules if m.split('.')[0].startswith('dagster')])"
    )
    assert python(code) == "[]\n"


def test_only_the_display_reaches_for_running_and_only_inside_a_function():
    needs = [f"{PACKAGE.name}.orchestration.{p.stem}" for p in (PACKAGE / "orchestration").glob("*.py")]
    needs = [n for n in needs if n.rsplit(".", 1)[1] not in (*WITHOUT_DAGSTER, "__init__")]
    found = []
    for name in WITHOUT_DAGSTER:
        for module, _, inside in imports(PACKAGE / "orchestration" / f"{name}.py"):
            if any(module == n or module.startswith(n + ".") for n in needs):
                found.append((name, module.split(".")[2], inside))
    assert set(found) <= {("display", "running", True)}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_files_can_be_read_in_one_go(path):
    exempt = {"datasets/synthesis.py": 470}  # ten sounds, one short recipe each
    assert len(path.read_text().splitlines()) <= exempt.get(path.relative_to(PACKAGE).as_posix(), 400)


def python(code: str, **env: str) -> str:
    """Run Python in a process of its own, in an empty environment but for `env`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"DAGSTER_DISABLE_TELEMETRY": "1"} | env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = f"print(json.dumps([m for m in sys.modules if m.split('.')[0] in {HEAVY!r}]))"


def test_help_loads_nothing_heavy():
    code = f"""
import atexit, json, sys
from vlm_audio_pipeline.cli.main import main
sys.argv = ["vlm-audio", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
{LOADED}
"""
    shown, loaded = python(code).strip().rsplit("\n", 1)
    assert "vlm-audio run" in shown
    assert json.loads(loaded) == []


def test_loading_the_definitions_loads_nothing_heavy_and_takes_no_time(tmp_path):
    code = f"""
import json, sys, time
began = time.perf_counter()
import vlm_audio_pipeline.dagster_app.definitions as d
print(time.perf_counter() - began, len(list(d.defs.resolve_asset_graph().get_all_asset_keys())))
{LOADED}
"""
    first, loaded = python(code, VLM_AUDIO_DATA=str(tmp_path), HOME=str(tmp_path)).strip().rsplit("\n", 1)
    seconds, assets = first.split()
    print(f"definitions with {assets} assets loaded in {float(seconds):.2f} s")  # noqa: T201
    assert json.loads(loaded) == []
    assert int(assets) > 0
    assert float(seconds) < 10
    assert not list(tmp_path.iterdir())  # looking makes nothing


def test_every_file_of_the_package_can_be_imported_alone_without_anything_heavy():
    """One process for all: what is loaded at the end was loaded by some file at its top."""
    modules = [
        ".".join([PACKAGE.name, *p.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for p in FILES
        if p.name != "definitions.py"
    ]
    code = f"import importlib, json, sys\nfor m in {modules!r}: importlib.import_module(m)\n{LOADED}"
    assert json.loads(python(code)) == []


def test_every_folder_says_what_belongs_in_it():
    for folder in {p.parent for p in FILES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_file_opens_with_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
