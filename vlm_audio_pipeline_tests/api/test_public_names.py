"""The public names, their signatures, and that the import is cheap."""

import ast
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import vlm_audio_pipeline as vap
from vlm_audio_pipeline.cli import main as cli

PACKAGE = Path(vap.__file__).parent

SIGNATURES = {
    "ask": "(recording, model, *, classes=None, study=None, rendering='paper', messages=False, data=None, **settings)",
    "classify": "(recordings, model, classes=None, *, study=None, rendering='paper', data=None, **settings)",
    "doctor": "(*, data=None, engine=None)",
    "embed": "(recordings, encoder, *, study=None, rendering='paper', data=None, **settings)",
    "example_sound": "(label='dog', seed=0, duration_s=5.0)",
    "init": "(listing=None, out=None, *, built_in=None)",
    "leaderboard": "(study=None, *, data=None)",
    "list_renderings": "()",
    "list_studies": "()",
    "open_report": "(study, *others, data=None, limit=None)",
    "preset_gallery": "()",
    "prune": "(days=30.0, *, responses=False, delete=False, data=None)",
    "render": "(recording, rendering='paper', *, study=None, title='')",
    "schema": "()",
    "show": "(clip, classifier=None, study=None, *, data=None)",
    "sql": "(query, parameters=(), *, allow_files=False, data=None)",
    "study": "(study, *, data=None, limit=None)",
    "ui": "(studies=(), *, port=3000, data=None)",
}
MEMBERS = {
    "ModelResponse": {
        "error": None,
        "image": None,
        "label": None,
        "likeliest": None,
        "log_probabilities": None,
        "messages": None,
        "outcome": None,
        "rendered_messages": None,
        "text": None,
    },
    "OpenStudy": {
        "annotation_sheet": "(fold=1, rendering=None, out=None)",
        "clips": "()",
        "compare": "(*others, single_file=None)",
        "contrasts": "()",
        "export": "(out=None, format='tables')",
        "fetch": "()",
        "fiftyone": "(rendering=None, export=None, port=5151)",
        "forget_batch": "(batch)",
        "leaderboard": "()",
        "open_report": "(*others)",
        "plan": "(only=(), fold=None, difference=None)",
        "predictions": "(classifier=None)",
        "read_batch": "(file, classifier=None)",
        "refresh": "()",
        "render": "(rendering, out, clips=None)",
        "report": "(single_file=None)",
        "run": "(only=(), fold=None, again=(), wait=True)",
        "show": "(clip, classifier=None)",
        "sql": "(query, parameters=(), *, allow_files=False)",
        "table": "(name)",
        "verdicts": "()",
        "write_batch": "(file, classifier=None)",
    },
    "RenderedImage": {
        "array": None,
        "bytes": None,
        "height": None,
        "media_type": None,
        "save": "(path)",
        "width": None,
    },
    "ResultTable": {
        "columns": None,
        "to_arrow": "()",
        "to_pandas": "()",
        "to_polars": "()",
        "to_pylist": "()",
    },
    "StepsFailed": {"add_note": None, "args": None, "with_traceback": None},
    "StudyPlan": {"contrasts": None, "plan": None, "steps": None},
    "VlmAudioError": {"add_note": None, "args": None, "with_traceback": None},
}
COMMANDS = {
    "annotation-sheet": "OpenStudy.annotation_sheet",
    "batch": "OpenStudy.write_batch",
    "doctor": "doctor",
    "export": "OpenStudy.export",
    "fetch": "OpenStudy.fetch",
    "fiftyone": "OpenStudy.fiftyone",
    "init": "init",
    "leaderboard": "leaderboard",
    "plan": "OpenStudy.plan",
    "prune": "prune",
    "refresh": "OpenStudy.refresh",
    "render": "OpenStudy.render",
    "renderings": "list_renderings",
    "report": "OpenStudy.report",
    "run": "OpenStudy.run",
    "schema": "schema",
    "show": "show",
    "sql": "sql",
    "studies": "list_studies",
    "try": "ask",
    "ui": "ui",
}
"""What does in Python what a command does."""


def signature(function: object) -> str:
    """Return the parameters with their defaults, without types and `self`."""
    parameters = [
        p.replace(annotation=inspect.Parameter.empty)
        for p in inspect.signature(function).parameters.values()
        if p.name != "self"
    ]
    return str(inspect.Signature(parameters))


def test_the_public_names_and_their_signatures():
    assert vap.__all__ == ["__version__", *sorted([*SIGNATURES, *MEMBERS])]
    assert {name: signature(getattr(vap, name)) for name in SIGNATURES} == SIGNATURES


@pytest.mark.parametrize("name", MEMBERS)
def test_the_public_members_of_a_class(name):
    cls = getattr(vap, name)
    fields = getattr(cls, "__dataclass_fields__", {})
    names = {n for n in {*dir(cls), *fields} if not n.startswith("_")}
    functions = {n: getattr(cls, n, None) for n in names}
    found = {n: signature(f) if inspect.isfunction(f) else None for n, f in functions.items()}
    assert found == MEMBERS[name]


def test_every_command_can_be_used_from_python():
    commands = typer.main.get_command(cli.app).commands
    assert set(COMMANDS) == set(commands), "add the new command to the API, and to COMMANDS"
    for path in COMMANDS.values():
        value = vap
        for part in path.split("."):
            value = getattr(value, part)
        assert callable(value)


def test_every_public_function_has_types_and_a_docstring():
    functions = [getattr(vap, name) for name in SIGNATURES]
    functions += [f for f in vars(vap.OpenStudy).values() if inspect.isfunction(f) and not f.__name__.startswith("_")]
    for function in functions:
        assert inspect.getdoc(function), function
        parameters = inspect.signature(function).parameters
        assert all(p.annotation is not p.empty for n, p in parameters.items() if n != "self"), function
        assert inspect.signature(function).return_annotation is not inspect.Signature.empty, function


def test_no_public_name_is_a_folder_of_the_package():
    """`vap.studies` would be the function or the folder, depending on what was imported before."""
    assert not {p.stem for p in PACKAGE.iterdir()} & set(vap.__all__)


def test_type_checkers_see_what_python_imports():
    body = ast.parse((PACKAGE / "__init__.py").read_text()).body
    checked = next(node for node in body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    names = {alias.asname: node.module for node in checked.body for alias in node.names}
    assert names == {name: f"vlm_audio_pipeline.{module}" for name, module in vap._MODULE_OF.items()}
    assert (PACKAGE / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'rendr'"):
        _ = vap.rendr
    assert importlib.util.find_spec("vlm_audio_pipeline.storage") and set(vap.__all__) <= set(dir(vap))


def run_python(code: str) -> dict:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return json.loads(result.stdout)


def test_the_import_takes_less_than_0_3_s_and_loads_no_other_library():
    code = """
import json, sys, time
before = set(sys.modules)
started = time.process_time()
import vlm_audio_pipeline as vap
seconds = time.process_time() - started
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - before)}))
"""
    result = run_python(code)
    assert result["seconds"] < 0.3
    assert not {m.split(".")[0] for m in result["modules"]} - {"vlm_audio_pipeline", *sys.stdlib_module_names}


@pytest.mark.slow
def test_the_first_image_takes_less_than_3_s():
    """In a new process, so with the import of NumPy, matplotlib and pydantic."""
    code = """
import json, time
started = time.process_time()
import vlm_audio_pipeline as vap
vap.render(vap.example_sound("dog"), "paper")
print(json.dumps(time.process_time() - started))
"""
    assert run_python(code) < 3


def test_reading_results_loads_no_dagster_and_no_torch(sounds):
    code = f"""
import json, sys
import vlm_audio_pipeline as vap
study = vap.study({str(sounds.study)!r}, data={str(sounds.data)!r})
study.leaderboard(), study.predictions("knn"), study.sql("SELECT 1"), study.plan()
assert study.run().steps == 0
print(json.dumps([m for m in sys.modules if m.split(".")[0] in ("dagster", "torch", "transformers", "librosa")]))
"""
    assert run_python(code) == []
