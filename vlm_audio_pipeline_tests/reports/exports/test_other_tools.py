"""The exports are read by the real packages of the other tools, in an environment of their own.

VLM_AUDIO_TOOLS_ENVIRONMENT names a folder that keeps the environment for the next run; TOOLS_SCREENSHOTS one for screenshots.
"""

import json
import os
import re
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.dagster_app.serving import free_port
from vlm_audio_pipeline.reports.exports.huggingface import export_huggingface
from vlm_audio_pipeline.reports.exports.inspect_log import export_inspect
from vlm_audio_pipeline_tests.reports.chromium import BrowserPage, needs_chromium
from vlm_audio_pipeline_tests.reports.exports.answers import RAW_TEXT, tone, write_answers

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[3]
PACKAGES = ["datasets==5.2.0", "inspect-ai==0.3.285", "dagster-mlflow", "mlflow-skinny==3.17.2"]
TORCHCODEC = "torchcodec==0.12.0"  # decodes the audio of `datasets`; later versions need CUDA
SITE_PACKAGES = sysconfig.get_paths()["purelib"]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment with the other tools, which also has the packages of this one."""
    kept = os.environ.get("VLM_AUDIO_TOOLS_ENVIRONMENT")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("tools") / "environment"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        [site_packages] = folder.glob("lib/python*/site-packages")
        (site_packages / "shared.pth").write_text(SITE_PACKAGES)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for arguments in (PACKAGES, ["--no-deps", TORCHCODEC]):
            subprocess.run([*pip, *arguments], check=True, capture_output=True, text=True)
        (folder / "complete").touch()
    return python


@pytest.fixture(scope="module")
def ffmpeg(tmp_path_factory) -> str:
    """A search path with the FFmpeg libraries of PyAV, under the names that torchcodec looks for."""
    folder, libraries = tmp_path_factory.mktemp("ffmpeg"), Path(SITE_PACKAGES) / "av.libs"
    for file in libraries.glob("lib*.so.*"):
        if match := re.fullmatch(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]+\.so\.(\d+)\..*", file.name):
            (folder / f"{match[1]}.so.{match[2]}").symlink_to(file)
    return f"{folder}:{libraries}"


def run(python: Path, code: str, *arguments, folder: Path, **variables: str) -> dict:
    """Run code and return the JSON that it prints on its last line."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        [python, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | variables,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


LOAD_DATASET = """
import json, sys
from datasets import load_dataset
clips = load_dataset(sys.argv[1], "clips", split="fold_1")
predictions = load_dataset(sys.argv[1], "predictions", split="fold_1+fold_2")
audio = clips[0]["audio"].get_all_samples()
print(json.dumps({
    "types": {name: type(feature).__name__ for name, feature in clips.features.items()},
    "label": clips.features["label"].int2str(clips[2]["label"]),
    "default": sorted(load_dataset(sys.argv[1])),
    "size": clips[0]["image_small"].size,
    "rate": audio.sample_rate, "samples": audio.data[0].tolist(),
    "names": predictions.features["predicted"].names,
    "rows": [[r["clip"], r["predicted"], r["correct"], r["text"], r["reasoning"]]
             for r in predictions if r["scoring"] == "generation"],
}))
"""


def test_datasets_decodes_audio_and_images_and_knows_the_classes(answers, python, ffmpeg, tmp_path):
    export_huggingface(answers, tmp_path / "out")
    loaded = run(python, LOAD_DATASET, tmp_path / "out", folder=tmp_path, LD_LIBRARY_PATH=ffmpeg)
    assert {loaded["types"][name] for name in ("audio", "image_small", "label")} == {"Audio", "Image", "ClassLabel"}
    assert (loaded["label"], loaded["size"], loaded["rate"]) == ("sea", [16, 16], 8000)
    assert np.array_equal(np.float32(loaded["samples"]), tone(0))
    assert loaded["default"] == ["fold_1", "fold_2"] and loaded["names"] == ["dog", "rain", "sea"]
    assert loaded["rows"][0] == ["1-dog", 0, True, RAW_TEXT, "Short bursts <think>, so a dog."]
    assert [row[:3] for row in loaded["rows"][1:]] == [
        ["1-rain", None, None],
        ["1-sea", None, None],
        ["2-dog", None, None],
        ["2-rain", None, None],
        ["2-sea", 1, False],
    ]


READ_LOG = """
import json, sys
from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample_summaries
found = {}
for info in list_eval_logs(sys.argv[1]):
    log = read_eval_log(info.name)
    found[log.eval.task] = {
        "status": log.status, "model": log.eval.model,
        "accuracy": log.results.scores[0].metrics["accuracy"].value,
        "cost": log.stats.model_usage["org/vlm-1"].total_cost,
        "values": {s.id: (s.scores[log.eval.scorers[0].name].value if s.scores else s.error.message) for s in log.samples},
        "content": [[c.type for c in m.content] if isinstance(m.content, list) else m.content for m in log.samples[0].messages],
        "text": log.samples[0].output.completion, "reasoning": log.samples[0].output.message.content[0].type
        if log.samples[0].output.choices else None,
        "summaries": len(read_eval_log_sample_summaries(info.name)),
    }
print(json.dumps(found))
"""


def test_inspect_reads_the_logs(answers, python, tmp_path):
    export_inspect(answers, tmp_path / "logs")
    found = run(python, READ_LOG, tmp_path / "logs", folder=tmp_path)
    assert set(found) == {"s_vlm_generation", "s_vlm_likelihood"}
    log = found["s_vlm_generation"]
    assert (log["status"], log["model"], log["accuracy"], log["summaries"]) == ("success", "org/vlm-1", 0.2, 6)
    assert log["cost"] == pytest.approx(0.003)
    assert log["values"] == {
        "1-dog": "C",
        "1-rain": "N",
        "1-sea": "HTTP 500 after 5 attempts",
        "2-dog": "N",
        "2-rain": "N",
        "2-sea": "I",
    }
    assert log["content"][0] == ["text", "image"] and log["content"][-1] == ["reasoning", "text"]
    assert (log["text"], log["reasoning"]) == (RAW_TEXT, "reasoning")


@needs_chromium
def test_inspect_view_shows_the_request_and_the_response(answers, python, tmp_path):
    [log] = (path for path in export_inspect(answers, tmp_path / "logs") if "generation" in path.name)
    port = free_port()
    command = [python.parent / "inspect", "view", "start", "--log-dir", tmp_path / "logs", "--host", "127.0.0.1"]
    with (tmp_path / "view.log").open("wb") as output:
        view = subprocess.Popen(
            [*command, "--port", str(port)], stdout=output, stderr=output, env={**os.environ, "HOME": str(tmp_path)}
        )
    page = BrowserPage(tmp_path / "profile", 1400, 900)
    try:
        _wait_for_port(port)
        page.open(f"http://127.0.0.1:{port}/#/logs/{log.name}/samples/sample/1-dog/1")
        page.wait_until("document.body.innerText.includes('Which sound? dog, rain, sea')")
        page.wait_until("document.body.innerText.includes('=1+1')")
        page.wait_until(
            "[...document.images].some(image => image.src.startsWith('data:image/png') && image.naturalWidth === 16)"
        )
        page.screenshot(tmp_path / "inspect.png")
        if folder := os.environ.get("TOOLS_SCREENSHOTS"):
            (Path(folder) / "inspect.png").write_bytes((tmp_path / "inspect.png").read_bytes())
    finally:
        page.close()
        view.terminate()
        view.wait(timeout=60)


def _wait_for_port(port: int) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "the viewer does not start"
            time.sleep(0.2)


MATERIALIZE = """
import json, sys
from pathlib import Path
import dagster as dg
namespace = {}
exec(Path(sys.argv[1]).read_text(), namespace)
job = namespace["defs"].resolve_implicit_global_asset_job_def()
result = job.execute_in_process(
    asset_selection=[dg.AssetKey("mlflow_runs")], instance=dg.DagsterInstance.ephemeral(), raise_on_error=True
)
print(json.dumps(result.success))
"""


def test_the_example_of_the_documentation_logs_to_mlflow(python, tmp_path):
    data_folder = write_answers(tmp_path, name="demo")
    [code] = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/other-tools.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "tracking.py").write_text(code)
    assert run(python, MATERIALIZE, "tracking.py", folder=tmp_path, VLM_AUDIO_DATA=str(data_folder.root))
    # The layout of MLflow's file store: mlruns/<experiment>/<run>/{metrics,params,tags}/<name>
    runs = {}
    for name in (tmp_path / "mlruns").glob("*/*/tags/mlflow.runName"):
        folder = name.parents[1]
        runs[name.read_text()] = {
            kind: {file.name: file.read_text() for file in (folder / kind).iterdir()}
            for kind in ("metrics", "params", "tags")
        }
    assert {"vlm_generation", "vlm_likelihood", "chance"} <= set(runs)
    generation = runs["vlm_generation"]
    measures = {name: float(text.split()[1]) for name, text in generation["metrics"].items()}  # time, value, step
    assert measures == {"accuracy": 0.2, "accuracy_answered": 0.5}
    assert generation["params"]["model"] == "org/vlm-1"
    assert generation["tags"]["undefined"] == "ece: no confidence"
    assert generation["tags"]["mlflow.parentRunId"] == runs["vlm_likelihood"]["tags"]["mlflow.parentRunId"], (
        "all results are in the run of Dagster"
    )
