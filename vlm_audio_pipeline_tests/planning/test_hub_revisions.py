"""What is seen of models outside: on a hub that answers, moves, is slow, is gone. A real client against a hub on loopback."""

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

pytestmark = pytest.mark.slow  # each look at the hub is a process of its own
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
study, data, what, download_gb = sys.argv[1:]
graph = Graph(load_study(study), DataFolder(Path(data)))
looked = check_hub_revisions(graph, 1) if what == "look" else fetch_changed_models(graph, float(download_gb), no_progress, 1)
seen = list(looked)
versions = {node.step: version for node, version in current_input_versions(graph).items() if node.step.startswith("models/")}
fields = [{"name": s.name, "recorded": s.recorded, "newest": s.newest, "changed": s.changed, "download": s.download,
           "problem": s.problem, "message": s.message} for s in seen]
print(json.dumps([fields, versions]))
"""


class World:
    """A hub, a cache folder, and a study with models; each look is a process of its own, as HF_ENDPOINT is read once."""

    def __init__(self, hub: Hub, bench):
        self.hub, self.bench, self.cache = hub, bench, bench.folder / "hub"
        self.url = hub.url
        for model in MODELS:
            hub.publish(model, config_json="{}", preprocessor_config_json="{}", model_safetensors=b"w" * 3000)
            hub.publish(model, README_md="hello")
        self.models = {f"m{i}": {"kind": "vision", "model": model} for i, model in enumerate(MODELS)}

    def look(self, what="look", download_gb=1.0, **environment):
        study = self.bench.changed()
        study["renderings"] = {"small": {"preset": "paper"}}
        study["encoders"] |= {n: {"rendering": "small", **m} for n, m in self.models.items()}
        path = self.bench.write(study)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, path, self.bench.data_folder.root, what, str(download_gb)],
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("HF_")}
            | {"HF_ENDPOINT": self.url, "HF_HUB_CACHE": str(self.cache), "HF_HUB_DISABLE_XET": "1"}
            | environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        seen, versions = json.loads(done.stdout.splitlines()[-1])
        return {s["name"].removeprefix("models/"): s for s in seen}, versions


@pytest.fixture
def world(bench):
    with Hub().running() as hub:
        yield World(hub, bench)


def test_a_model_is_fetched_moves_and_stays_as_the_hub_says(world):
    one = world.hub.commit("org/one")
    seen, versions = world.look()
    assert versions == {} and seen["org/one"]["recorded"] is None
    assert (seen["org/one"]["newest"], seen["org/one"]["changed"]) == (one, True)
    assert seen["org/one"]["download"] == 3000 + 2 + 2  # tensors and two descriptions; no README
    assert not any("resolve" in line for line in world.hub.asked)  # looking downloads nothing

    seen, versions = world.look("refresh")
    assert versions == {f"models/{m}": world.hub.commit(m) for m in MODELS}
    assert seen["org/one"]["message"] == f"models/org/one: {one[:12]}, unchanged since {TODAY}"
    world.hub.asked.clear()
    assert world.look("refresh")[1] == versions and not any("resolve" in line for line in world.hub.asked)

    new = world.hub.publish("org/one", model_safetensors=b"x" * 4000)
    seen, still = world.look()
    assert still == versions  # a look alone moves nothing
    assert (seen["org/one"]["newest"], seen["org/one"]["download"]) == (new, 4000)
    assert re.search(rf"the hub has {new[:12]} \(0.0 MB; get it with `vlm-audio fetch", seen["org/one"]["message"])
    assert not seen["org/two"]["changed"]
    assert world.look("refresh")[1] == versions | {"models/org/one": new}


def test_a_commit_that_touches_no_file_of_the_model_is_no_change(world):
    versions = world.look("refresh")[1]
    world.hub.publish("org/two", README_md="a new story")
    seen, after = world.look("refresh")
    assert after == versions and not seen["org/two"]["changed"]
    assert seen["org/two"]["newest"] == world.hub.commit("org/two") != versions["models/org/two"]


def test_a_pinned_commit_never_moves_and_is_not_asked_for(world):
    first = world.hub.commit("org/one")
    world.models = {"m0": {"kind": "vision", "model": "org/one"}}
    world.look("refresh")
    world.models["m0"]["revision"] = first
    world.hub.publish("org/one", model_safetensors=b"x" * 4000)
    world.hub.asked.clear()
    seen, versions = world.look("refresh")
    assert world.hub.asked == []
    assert versions == {f"models/org/one@{first}": first} and not seen[f"org/one@{first}"]["problem"]


@pytest.mark.parametrize("trouble", ["gone", "offline", "slow", "out of order"])
def test_a_hub_that_cannot_be_reached_changes_nothing(world, trouble):
    versions = world.look("refresh")[1]
    world.hub.publish("org/one", model_safetensors=b"x" * 4000)
    environment = {}
    if trouble == "gone":
        world.url = "http://127.0.0.1:9"  # the discard port: nobody listens
    elif trouble == "offline":
        environment = {"HF_HUB_OFFLINE": "1"}
    elif trouble == "slow":
        world.hub.delay_s = 5
    else:
        world.hub.status = 503
    started = time.monotonic()
    seen, after = world.look(**environment)
    assert time.monotonic() - started < 60
    assert after == versions
    for model in MODELS:
        assert not seen[model]["changed"]
        assert seen[model]["message"].startswith(f"models/{model}: unchanged since {TODAY}; the hub ")
    assert world.look("refresh", **environment)[1] == versions


def test_a_model_the_hub_does_not_have_stops_no_other(world):
    world.look("refresh")
    del world.hub.models["org/one"]
    new = world.hub.publish("org/two", model_safetensors=b"y" * 10)
    seen, versions = world.look("refresh")
    assert "the hub refused it: " in seen["org/one"]["problem"]
    assert versions["models/org/two"] == new and versions["models/org/one"]


def test_a_model_that_arrives_damaged_stops_no_other(world):
    world.hub.publish("org/one", model_safetensors=b"w" * 16_000_001)
    world.hub.damaged.add("org/one")
    seen, versions = world.look("refresh")
    assert "could not be fetched" in seen["org/one"]["problem"] and "SHA-256" in seen["org/one"]["problem"]
    assert "dataset" not in seen["org/one"]["problem"]
    assert versions == {"models/org/two": world.hub.commit("org/two")}
    world.hub.damaged.clear()
    assert set(world.look("refresh")[1]) == {"models/org/one", "models/org/two"}


def test_a_pinned_commit_that_was_never_fetched_is_not_here(world):
    world.models = {"m0": {"kind": "vision", "model": "org/one", "revision": "a" * 40}}
    [seen] = world.look()[0].values()
    assert seen["message"].endswith("not on this machine")


def test_what_is_larger_than_the_study_allows_is_left_and_said(world):
    seen, versions = world.look("refresh", download_gb=4500 / 1e9)
    assert set(versions) == {"models/org/one"}  # 3004 bytes; the other would make 6008
    assert "more than `rerun.download_gb` allows; get it with `vlm-audio fetch`" in seen["org/two"]["problem"]
    assert seen["org/two"]["message"].startswith("models/org/two: not on this machine; the hub has ")


def test_a_local_folder_is_known_by_its_files(world, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    os.utime(folder / "model.safetensors", (0, 0))
    world.models = {"m0": {"kind": "vision", "model": str(folder)}}
    seen, first = world.look("refresh")
    ((name, one),) = seen.items()
    assert world.hub.asked == [] and one["message"].endswith(f"unchanged since {TODAY}")
    assert world.look()[1] == first == {f"models/{name}": one["recorded"]}
    (folder / "model.safetensors").write_text("{ }")
    assert world.look()[1] != first


def test_the_hub_names_contents_as_git_does():
    assert Hub.etag(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # the empty blob


def test_observing_in_the_ui_what_is_not_here_is_no_crash(bench, monkeypatch):
    from dagster._core.definitions.observe import observe  # private: what the button does, without a server

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    study = bench.changed("encoders", absent={"kind": "audio", "model": "org/none"})
    defs = build_definitions(studies=[str(bench.write(study))], data_folder=bench.data_folder)
    sources = [asset for asset in defs.assets if isinstance(asset, dg.SourceAsset)]
    done = observe(sources, instance=open_instance(bench.data_folder))
    seen = {}
    for event in done.all_events:
        if event.event_type_value == "ASSET_OBSERVATION":
            told = event.event_specific_data.asset_observation
            seen["/".join(told.asset_key.path), told.partition] = (told.tags, told.metadata)
    tags, metadata = seen["models/org/none", None]
    assert tags == {} and "vlm-audio fetch" in metadata["not available"].value
    assert "not on this machine; the hub could not be reached" in metadata["models/org/none"].value
    assert len(seen) == 1 + 1 + 3  # the model, the readings, and the recordings fold by fold
    assert all("dagster/data_version" in tags for key, (tags, _) in seen.items() if "models" not in key[0])
