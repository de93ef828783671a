"""The notebooks of the documentation: they run, offline, and are stored with their results."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
NAMES = {"ask_a_model", "compare_encoders", "look_at_sounds"}
MAX_BYTES = 300_000


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def output_kinds(cell: dict) -> list[tuple[str, ...]]:
    """Return the form of each output: its type and its MIME types, without values, which may differ between machines.

    The lines of the progress, on stderr, are left out: they are not stored, and how many there are depends on the time.
    """
    outputs = [output for output in cell["outputs"] if output.get("name") != "stderr"]
    return [(output["output_type"], *sorted(output.get("data", {}))) for output in outputs]


def test_all_notebooks_are_there():
    assert {path.stem for path in NOTEBOOKS} == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_small_and_stored_with_the_results_of_one_run(path):
    assert path.stat().st_size < MAX_BYTES
    notebook = json.loads(path.read_text())
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for cell in cells for kind in output_kinds(cell)]
    assert any("image/png" in kind for kind in kinds)
    assert not [kind for kind in kinds if kind[0] == "error"]
    streams = [o for cell in cells for o in cell["outputs"] if o["output_type"] == "stream"]
    assert {stream["name"] for stream in streams} <= {"stdout"}, "a warning is stored"
    outputs = json.dumps([cell["outputs"] for cell in cells])
    assert not re.search(r"(?<![\w/+])/(tmp|home|root|work|usr)/", outputs), "a path of one machine is stored"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """In an empty folder, without the hub."""
    import nbclient
    import nbformat

    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no_models"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # without ipywidgets
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    stored = [output_kinds(cell) for cell in code_cells(notebook)]
    nbclient.NotebookClient(
        notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert [output_kinds(cell) for cell in code_cells(notebook)] == stored
