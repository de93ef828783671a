import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline.encoders import weights as weights_module
from vlm_audio_pipeline.encoders.clap import Clap
from vlm_audio_pipeline.encoders.weights import ModelName, Weights, cache_folder, fetch_weights, required_files
from vlm_audio_pipeline_tests.encoders import checkpoints

MODEL = "org/model"


def files(**contents: str):
    """Return a function that writes small placeholder files of weights; `_` stands for the dot."""

    def write(folder: Path) -> None:
        small = {"config_json": "{}", "preprocessor_config_json": "{}", "model_safetensors": "x"} | contents
        for name, text in small.items():
            if text:
                (folder / name.replace("_json", ".json").replace("_safetensors", ".safetensors")).write_text(text)

    return write


def test_a_branch_resolves_to_the_recorded_commit(cache):
    first = checkpoints.publish(cache, MODEL, files())
    assert Weights(MODEL).resolve() == first == Weights(MODEL, "main").resolve()
    assert Weights(MODEL).missing() is None
    assert Weights(MODEL).snapshot() == cache / "models--org--model" / "snapshots" / first
    tagged = checkpoints.publish(cache, MODEL, files(model_safetensors="y"), branch="v2")
    assert (Weights(MODEL).resolve(), Weights(MODEL, "v2").resolve()) == (first, tagged)


def test_a_moved_branch_changes_revision_and_result_keys_and_a_pinned_revision_does_not(cache):
    first = checkpoints.publish(cache, MODEL, files())
    spec, pinned = Clap(model=MODEL), Clap(model=MODEL, revision=first)
    before = spec.result_key("00")
    assert spec.result_key("00") == pinned.result_key("00")  # the same weights with another reference
    second = checkpoints.publish(cache, MODEL, files(model_safetensors="y"))
    assert second != first and spec.weights_revision == second and pinned.weights_revision == first
    assert spec.result_key("00") != before == pinned.result_key("00")
    # for the planner, it is another version of an input of the stage
    assert Input("models", MODEL) in spec.stages("clap")[0].inputs
    assert Input("models", f"{MODEL}@{first}") in pinned.stages("clap")[0].inputs


def test_a_folder_is_identified_by_its_contents_not_by_its_path(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        files()(tmp_path / name)
    a, b = (Clap(model=str(tmp_path / n)) for n in "ab")
    assert a.weights_revision == b.weights_revision and a.result_key("00") == b.result_key("00")
    assert a.unavailable() is None
    (tmp_path / "b" / "notes.md").write_text("irrelevant")
    assert a.weights_revision == b.weights_revision
    (tmp_path / "b" / "model.safetensors").write_text("z")
    assert a.weights_revision != b.weights_revision and a.result_key("00") != b.result_key("00")
    assert Weights(str(tmp_path / "c")).resolve() is None


def test_a_packaged_model_is_found_in_any_installation_and_identified_by_its_contents(tmp_path, monkeypatch):
    for installation in ("here", "there"):
        (tmp_path / installation / "demo-tiny").mkdir(parents=True)
        files()(tmp_path / installation / "demo-tiny")
    identities = []
    for installation in ("here", "there"):
        monkeypatch.setattr(weights_module, "DEMO_MODELS", tmp_path / installation)
        spec = Clap(model="demo-tiny")
        assert spec.weights.snapshot() == tmp_path / installation / "demo-tiny" and spec.unavailable() is None
        identities.append((spec.weights_revision, spec.result_key("00"), spec.model_id, spec.weights.input_asset))
    assert identities[0] == identities[1] and identities[0][2:] == ("demo-tiny", Input("models", "demo/tiny"))
    # the same files in a user's folder are the same model: stored results are shared
    assert Clap(model=str(tmp_path / "here" / "demo-tiny")).result_key("00") == identities[0][1]
    (tmp_path / "there" / "demo-tiny" / "README.md").write_text("a card")
    assert Clap(model="demo-tiny").weights_revision == identities[0][0]
    (tmp_path / "there" / "demo-tiny" / "model.safetensors").write_text("z")
    assert Clap(model="demo-tiny").weights_revision != identities[0][0]
    assert fetch_weights(Weights("demo-tiny")) == Weights("demo-tiny").resolve()  # nothing to download
    with pytest.raises(
        NotAvailable,
        match=r"weights of demo-tyni missing: .* the models of this package are demo-tiny; correct `model`",
    ):
        Weights("demo-tyni").snapshot()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (Weights(MODEL), r"weights of org/model missing \(revision main\): they are not on .* `vlm-audio fetch STUDY`"),
        (Weights(MODEL, "0" * 40), r"missing \(revision 0{40}\): they are not on this machine"),
        (Weights("/nowhere"), "weights of /nowhere missing: the folder does not exist; correct `model`"),
    ],
)
def test_missing_weights_are_reported_with_the_command_to_fetch_them(cache, weights, message):
    with pytest.raises(NotAvailable, match=message):
        weights.snapshot()
    assert weights.config() == {}


def test_an_incomplete_download_counts_as_missing_weights(cache):
    checkpoints.publish(cache, MODEL, files(model_safetensors=""))
    assert "there is no .safetensors or .bin or .pt or .pth file" in Weights(MODEL).missing()
    checkpoints.publish(cache, MODEL, files(preprocessor_config_json=""))
    assert "no preprocessor_config.json or processor_config.json" in Weights(MODEL).missing()
    assert Weights(MODEL, needs=("config.json",)).missing() is None
    assert "there is no model.pt" in Weights(MODEL, needs=("config.json",), tensors=("model.pt",)).missing()
    index = json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})

    def sharded(folder: Path) -> None:
        files(model_safetensors="")(folder)
        (folder / "one.safetensors").write_text("1")
        (folder / "model.safetensors.index.json").write_text(index)

    commit = checkpoints.publish(cache, MODEL, sharded)
    assert "there is no two.safetensors" in Weights(MODEL).missing()
    link = cache / "models--org--model" / "snapshots" / commit / "one.safetensors"
    link.resolve().unlink()  # the blob is deleted, the link remains
    assert "there is no one.safetensors, two.safetensors" in Weights(MODEL).missing()


def test_the_cache_folder_is_that_of_the_hub(monkeypatch):
    code = "import huggingface_hub.constants as c; print(c.HF_HUB_CACHE)"
    for setting in ({}, {"HF_HOME": "/a/b"}, {"XDG_CACHE_HOME": "/x"}, {"HF_HUB_CACHE": "$HOME/c", "HF_HOME": "/a"}):
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in setting.items():
            monkeypatch.setenv(name, value)
        expected = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert str(cache_folder()) == expected.strip()


def test_checking_for_weights_imports_no_heavy_libraries(cache):
    checkpoints.publish(cache, MODEL, files())
    code = f"""
import sys
from vlm_audio_pipeline.encoders.base import ENCODERS
[stage] = ENCODERS.get("clap")(model={MODEL!r}).stages("clap")
assert stage.unavailable() is None and len(ENCODERS.get("clap")(model={MODEL!r}).result_key("00")) == 64
print([m for m in ("torch", "transformers", "huggingface_hub") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr


def test_folders_are_relative_to_the_study_file():
    class ModelSection(BaseModel):
        model: ModelName

    def resolve_model(text):
        return ModelSection.model_validate({"model": text}, context={"folder": "/studies"}).model

    assert resolve_model("org/model") == "org/model"
    assert resolve_model("./mine") == "/studies/mine"
    assert resolve_model("../mine") == "/mine"
    assert resolve_model("/else/where") == "/else/where"
    assert resolve_model("~/mine") == str(Path.home() / "mine")


def test_required_files():
    available = [
        "config.json",
        "pytorch_model.bin",
        "tokenizer.json",
        "README.md",
        "onnx/model.safetensors",
        "tf_model.h5",
    ]
    assert required_files(available) == ["config.json", "pytorch_model.bin", "tokenizer.json"]
    assert required_files([*available, "model.safetensors"]) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert required_files(["a.pt", "b.pt"], tensors=("b.pt",)) == ["b.pt"]


class FakeHub:
    """A hub with one model that writes into the cache like the real hub."""

    def __init__(self, cache: Path, contents: dict[str, str], sha: str):
        self.cache, self.contents, self.sha, self.downloaded = cache, contents, sha, []

    def model_info(self, name, revision, files_metadata):
        siblings = [SimpleNamespace(rfilename=n, size=len(t)) for n, t in self.contents.items()]
        return SimpleNamespace(sha=self.sha, siblings=siblings)

    def download(self, name, file, revision, cache_dir):
        assert revision == self.sha
        if self.contents[file] == "broken":
            raise ConnectionError("the line is dead")
        self.downloaded.append(file)
        path = Path(cache_dir) / "models--org--model" / "snapshots" / revision / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.contents[file])


def test_fetch_records_the_revision_only_after_a_complete_download(cache, monkeypatch):
    import huggingface_hub

    def use(hub):
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", hub.download)

    contents = {"config.json": "{}", "preprocessor_config.json": "{}", "model.safetensors": "abc", "model.onnx": "no"}
    progress = []
    use(hub := FakeHub(cache, contents, "a" * 40))
    assert fetch_weights(Weights(MODEL), lambda *p: progress.append(p)) == "a" * 40
    assert hub.downloaded == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert progress[0] == (0, 7, MODEL) and progress[-1] == (7, 7, MODEL)
    assert Weights(MODEL).missing() is None and Weights(MODEL).resolve() == "a" * 40

    use(FakeHub(cache, contents | {"model.safetensors": "broken"}, "b" * 40))
    with pytest.raises(
        NotAvailable, match=r"weights of org/model \(revision main\) cannot be downloaded.*line is dead"
    ):
        fetch_weights(Weights(MODEL))
    assert Weights(MODEL).resolve() == "a" * 40 and Weights(MODEL).missing() is None

    with pytest.raises(NotAvailable, match=r"has no \['other.pt'\]"):
        fetch_weights(Weights(MODEL, tensors=("other.pt",)))


def test_nothing_is_fetched_without_a_network(cache, monkeypatch):
    monkeypatch.setattr(weights_module, "cache_folder", lambda: cache)
    with pytest.raises(NotAvailable, match="cannot be downloaded"):
        fetch_weights(Weights("not a name at all"))
