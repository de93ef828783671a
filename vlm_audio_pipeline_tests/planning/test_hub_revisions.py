"""Revisions of models on a hub that changes, is slow or cannot be reached; a real client against a hub on loopback."""

import json
import os
import re
import subprocess
import sys
import time

import dagster as dg
import pytest

from vlm_audio_pipeline.dagster_app.definitions import build_definitions
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline_tests.planning.hub_server import Hub

pytestmark = pytest.mark.slow  # each check of the hub is a separate process
MODELS = ("org/one", "org/two")
TODAY = time.strftime("%Y-%m-%d", time.gmtime())

PROGRAM = """
import json, sys
from pathlib import Path
from vlm_audio_pipeline.contracts.progress import no_progress
from vlm_audio_pipeline.planning.hub_revisions import check_hub_revisions, fetch_changed_models
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study
study, data, action, download_gb = sys.argv[1:]
graph = Graph(load_study(study), DataFolder(Path(data)))
checked = check_hub_revisions(graph, 1) if action == "check" else fetch_changed_models(graph, float(download_gb), no_progress, 1)
states = list(checked)
versions = {node.step: version for node, version in current_input_versions(graph).items() if node.step.startswith("models/")}
fields = [{"name": s.name, "recorded": s.local_revision, "newest": s.hub_revision, "changed": s.changed, "download": s.download_bytes,
           "problem": s.problem, "message": s.message} for s in states]
print(json.dumps([fields, versions]))
"""


class HubSetup:
    """A hub, a cache folder and a study with models. Each check is a separate process, because HF_ENDPOINT is read once."""

    def __init__(self, hub: Hub, bench):
        self.hub, self.bench, self.cache = hub, bench, bench.folder / "hub"
        self.url = hub.url
        for model in MODELS:
            hub.publish(model, config_json="{}", preprocessor_config_json="{}", model_safetensors=b"w" * 3000)
            hub.publish(model, README_md="hello")
        self.models = {f"m{i}": {"kind": "vision", "model": model} for i, model in enumerate(MODELS)}

    def check(self, action="check", download_gb=1.0, **environment):
        study = self.bench.changed_study()
        study["renderings"] = {"small": {"preset": "paper"}}
        study["encoders"] |= {n: {"rendering": "small", **m} for n, m in self.models.items()}
        path = self.bench.write(study)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, path, self.bench.data_folder.root, action, str(download_gb)],
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("HF_")}
            | {"HF_ENDPOINT": self.url, "HF_HUB_CACHE": str(self.cache), "HF_HUB_DISABLE_XET": "1"}
            | environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        states, versions = json.loads(done.stdout.splitlines()[-1])
        return {s["name"].removeprefix("models/"): s for s in states}, versions


@pytest.fixture
def hub_setup(bench):
    with Hub().running() as hub:
        yield HubSetup(hub, bench)


def test_a_model_is_downloaded_updated_and_unchanged_as_on_the_hub(hub_setup):
    one = hub_setup.hub.commit("org/one")
    states, versions = hub_setup.check()
    assert versions == {} and states["org/one"]["recorded"] is None
    assert (states["org/one"]["newest"], states["org/one"]["changed"]) == (one, True)
    assert states["org/one"]["download"] == 3000 + 2 + 2  # tensors and two descriptions; no README
    assert not any("resolve" in line for line in hub_setup.hub.requests)  # a check downloads nothing

    states, versions = hub_setup.check("refresh")
    assert versions == {f"models/{m}": hub_setup.hub.commit(m) for m in MODELS}
    assert states["org/one"]["message"] == f"models/org/one: {one[:12]}, unchanged since {TODAY}"
    hub_setup.hub.requests.clear()
    assert hub_setup.check("refresh")[1] == versions and not any("resolve" in line for line in hub_setup.hub.requests)

    new = hub_setup.hub.publish("org/one", model_safetensors=b"x" * 4000)
    states, unchanged = hub_setup.check()
    assert unchanged == versions  # a check alone changes nothing
    assert (states["org/one"]["newest"], states["org/one"]["download"]) == (new, 4000)
    assert re.search(rf"the hub has {new[:12]} \(0.0 MB; get it with `vlm-audio fetch", states["org/one"]["message"])
    assert not states["org/two"]["changed"]
    assert hub_setup.check("refresh")[1] == versions | {"models/org/one": new}


def test_a_commit_without_model_files_is_no_change(hub_setup):
    versions = hub_setup.check("refresh")[1]
    hub_setup.hub.publish("org/two", README_md="a new story")
    states, after = hub_setup.check("refresh")
    assert after == versions and not states["org/two"]["changed"]
    assert states["org/two"]["newest"] == hub_setup.hub.commit("org/two") != versions["models/org/two"]


def test_a_pinned_commit_never_changes_and_is_not_requested(hub_setup):
    first = hub_setup.hub.commit("org/one")
    hub_setup.models = {"m0": {"kind": "vision", "model": "org/one"}}
    hub_setup.check("refresh")
    hub_setup.models["m0"]["revision"] = first
    hub_setup.hub.publish("org/one", model_safetensors=b"x" * 4000)
    hub_setup.hub.requests.clear()
    states, versions = hub_setup.check("refresh")
    assert hub_setup.hub.requests == []
    assert versions == {f"models/org/one@{first}": first} and not states[f"org/one@{first}"]["problem"]


@pytest.mark.parametrize("problem", ["gone", "offline", "slow", "out of order"])
def test_a_hub_that_cannot_be_reached_changes_nothing(hub_setup, problem):
    versions = hub_setup.check("refresh")[1]
    hub_setup.hub.publish("org/one", model_safetensors=b"x" * 4000)
    environment = {}
    if problem == "gone":
        hub_setup.url = "http://127.0.0.1:9"  # the discard port: nothing listens there
    elif problem == "offline":
        environment = {"HF_HUB_OFFLINE": "1"}
    elif problem == "slow":
        hub_setup.hub.delay_s = 5
    else:
        hub_setup.hub.status = 503
    started = time.monotonic()
    states, after = hub_setup.check(**environment)
    assert time.monotonic() - started < 60
    assert after == versions
    for model in MODELS:
        assert not states[model]["changed"]
        assert states[model]["message"].startswith(f"models/{model}: unchanged since {TODAY}; the hub ")
    assert hub_setup.check("refresh", **environment)[1] == versions


def test_a_model_missing_on_the_hub_does_not_block_others(hub_setup):
    hub_setup.check("refresh")
    del hub_setup.hub.models["org/one"]
    new = hub_setup.hub.publish("org/two", model_safetensors=b"y" * 10)
    states, versions = hub_setup.check("refresh")
    assert "the hub rejected the request: " in states["org/one"]["problem"]
    assert versions["models/org/two"] == new and versions["models/org/one"]


def test_a_model_that_is_damaged_in_transfer_does_not_block_others(hub_setup):
    hub_setup.hub.publish("org/one", model_safetensors=b"w" * 16_000_001)
    hub_setup.hub.damaged.add("org/one")
    states, versions = hub_setup.check("refresh")
    assert "could not be fetched" in states["org/one"]["problem"] and "SHA-256" in states["org/one"]["problem"]
    assert "dataset" not in states["org/one"]["problem"]
    assert versions == {"models/org/two": hub_setup.hub.commit("org/two")}
    hub_setup.hub.damaged.clear()
    assert set(hub_setup.check("refresh")[1]) == {"models/org/one", "models/org/two"}


def test_a_pinned_commit_that_was_not_downloaded_is_reported(hub_setup):
    hub_setup.models = {"m0": {"kind": "vision", "model": "org/one", "revision": "a" * 40}}
    [states] = hub_setup.check()[0].values()
    assert states["message"].endswith("not on this machine")


def test_a_download_above_the_limit_of_the_study_is_skipped_and_reported(hub_setup):
    states, versions = hub_setup.check("refresh", download_gb=4500 / 1e9)
    assert set(versions) == {"models/org/one"}  # 3004 bytes; the other would make 6008
    assert "more than `rerun.download_gb` allows; get it with `vlm-audio fetch`" in states["org/two"]["problem"]
    assert states["org/two"]["message"].startswith("models/org/two: not on this machine; the hub has ")


def test_the_version_of_a_local_model_folder_depends_on_its_files(hub_setup, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    os.utime(folder / "model.safetensors", (0, 0))
    hub_setup.models = {"m0": {"kind": "vision", "model": str(folder)}}
    states, first = hub_setup.check("refresh")
    ((name, one),) = states.items()
    assert hub_setup.hub.requests == [] and one["message"].endswith(f"unchanged since {TODAY}")
    assert hub_setup.check()[1] == first == {f"models/{name}": one["recorded"]}
    (folder / "model.safetensors").write_text("{ }")
    assert hub_setup.check()[1] != first


def test_the_hub_uses_git_hashes_of_contents():
    assert Hub.etag(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # the empty blob


def test_observing_a_missing_model_in_the_ui_reports_it(bench, monkeypatch):
    from dagster._core.definitions.observe import observe  # private: the function of the UI's button, without a server

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    study = bench.changed_study("encoders", absent={"kind": "audio", "model": "org/none"})
    defs = build_definitions(studies=[str(bench.write(study))], data_folder=bench.data_folder)
    sources = [asset for asset in defs.assets if isinstance(asset, dg.SourceAsset)]
    done = observe(sources, instance=open_instance(bench.data_folder))
    states = {}
    for event in done.all_events:
        if event.event_type_value == "ASSET_OBSERVATION":
            observation = event.event_specific_data.asset_observation
            states["/".join(observation.asset_key.path), observation.partition] = (
                observation.tags,
                observation.metadata,
            )
    tags, metadata = states["models/org/none", None]
    assert tags == {} and "vlm-audio fetch" in metadata["not available"].value
    assert "not on this machine; the hub could not be reached" in metadata["models/org/none"].value
    assert len(states) == 1 + 1 + 3  # the model, the annotations, and the recordings of each fold
    assert all("dagster/data_version" in tags for key, (tags, _) in states.items() if "models" not in key[0])
