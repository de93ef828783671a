import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders import isolated_clap, laion_clap
from vlm_audio_pipeline.encoders.base import ENCODERS
from vlm_audio_pipeline.encoders.isolated import Environment, IsolatedProcess
from vlm_audio_pipeline.encoders.laion_clap import ENVIRONMENT, LaionClap
from vlm_audio_pipeline.encoders.texts import embed_texts
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.encoders.checkpoints import publish
from vlm_audio_pipeline_tests.encoders.isolated_programs import CALL, WRITE

WORKER = Path(laion_clap.__file__).with_name("laion_clap_worker.py")

PROTOCOL_WORKER = """
import json, sys
import numpy as np
settings = json.loads(sys.stdin.readline())
if settings["checkpoint"] == "broken":
    sys.exit("this checkpoint is broken")
print(json.dumps({"logit_scale": 2.0, **settings}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "texts" in request:
        if "die" in request["texts"]:
            raise RuntimeError("out of words")
        found = [[len(t), 1.0] for t in request["texts"]]
    else:  # its first sample and its length; of length 1 as CLAP's
        with np.load(request["clips"]) as clips:
            found = [[clips[f"arr_{i}"][0], 0.5] for i in range(len(clips))]
    found = np.array(found, np.float32)
    np.save(request["vectors"], found / np.linalg.norm(found, axis=1, keepdims=True))
    print(json.dumps({"done": len(found)}), flush=True)
"""
"""A worker that follows the protocol and computes vectors that can be checked by hand."""


def start_worker(checkpoint="whole") -> IsolatedProcess:
    return IsolatedProcess("laion_clap", (sys.executable, "-c", PROTOCOL_WORKER), {"checkpoint": checkpoint})


@pytest.fixture
def scripted(monkeypatch):
    """Return a spec that uses the scripted worker, with windows of 10 samples."""
    monkeypatch.setattr(LaionClap, "_worker", lambda self: start_worker())
    monkeypatch.setattr(LaionClap, "window", 10)
    return LaionClap(batch_size=3)


def test_clips_are_batched_and_long_clips_are_averaged_over_windows(scripted):
    encode = scripted.load()
    long_clip = np.zeros(25, np.float32)
    # the first samples of the windows of 10 samples; the last window is aligned to the end
    long_clip[0], long_clip[10], long_clip[15] = 0.5, -0.5, 0.5
    long_vector, short_vector, empty_vector = encode([long_clip, np.full(4, 1.2, np.float32), np.zeros(0, np.float32)])
    # windows: (0.5, 0.5), (-0.5, 0.5), (0.5, 0.5), of length 1 (s, s), (-s, s), (s, s) with s = 0.7071;
    # their sum is s (1, 3), which at length 1 is (1, 3) / sqrt(10)
    np.testing.assert_allclose(long_vector, np.array([1, 3]) / np.sqrt(10), atol=1e-6)
    np.testing.assert_allclose(short_vector, np.array([1.2, 0.5]) / 1.3, atol=1e-6)
    np.testing.assert_allclose(empty_vector, [0, 1], atol=1e-6)


def test_texts_and_the_scale(scripted):
    text_encoder = scripted.load_text_encoder()
    assert text_encoder.logit_scale == 2.0
    np.testing.assert_allclose(
        text_encoder.encode(["abc", ""]), [[3 / np.sqrt(10), 1 / np.sqrt(10)], [0, 1]], atol=1e-6
    )


def test_the_last_output_of_a_failed_worker_is_reported():
    with pytest.raises(
        VlmAudioError, match=r"of laion_clap ended with exit status 1 before it replied: this checkpoint is broken"
    ):
        start_worker("broken")
    worker = start_worker()
    with pytest.raises(VlmAudioError, match=r"RuntimeError: out of words; .* delete environments/laion_clap"):
        worker.embed_texts(["die"])


def test_a_worker_ends_with_its_parent(scripted):
    worker = start_worker()
    process, folder = worker._process, worker._path
    assert process.poll() is None and folder.is_dir()
    encode = scripted.load()
    del worker
    gc.collect()
    assert process.poll() == 0 and not folder.exists()
    assert len(encode([np.ones(3, np.float32)])) == 1, "another worker still runs"


def test_missing_parts_are_reported_with_the_command_to_install_them(tmp_path, monkeypatch):
    monkeypatch.setenv("VLM_AUDIO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    spec, data_folder = LaionClap(), DataFolder.locate()
    assert spec.unavailable().startswith("weights of lukewys/laion_clap missing (revision main)")
    publish(tmp_path / "hub", "lukewys/laion_clap", lambda folder: (folder / "630k-best.pt").write_bytes(b"0"))
    assert "there is no 630k-audioset-best.pt" in spec.unavailable()
    spec = LaionClap(checkpoint="630k-best.pt")
    assert spec.unavailable().startswith("weights of FacebookAI/roberta-base missing")
    publish(tmp_path / "hub", "FacebookAI/roberta-base", roberta_files)
    missing = "environment of laion-clap==1.1.7 missing: create it with `vlm-audio fetch STUDY`"
    assert spec.unavailable() == missing
    with pytest.raises(NotAvailable, match="environment of laion-clap"):
        spec.load()
    python = ENVIRONMENT.python(data_folder)
    python.parent.mkdir(parents=True)
    python.touch()
    made_of = ENVIRONMENT.folder(data_folder) / "made_of.txt"
    made_of.write_text("torch==1.0\n")  # of other versions than the required ones
    assert spec.unavailable() == missing
    made_of.write_text("\n".join((*ENVIRONMENT.requirements, *ENVIRONMENT.without_dependencies, "")))
    assert spec.unavailable() is None


def test_one_command_fetches_all_parts(monkeypatch, data_folder):
    fetched = []
    monkeypatch.setattr(Environment, "create", lambda self, *_: fetched.append(self.name))
    monkeypatch.setattr(
        isolated_clap, "fetch_weights", lambda weights, *_: fetched.append((weights.model, weights.tensors))
    )
    LaionClap(checkpoint="630k-best.pt").fetch(data_folder)
    assert fetched == [
        "laion_clap",
        ("lukewys/laion_clap", ("630k-best.pt",)),
        ("FacebookAI/roberta-base", ("merges.txt",)),
    ]


@pytest.mark.slow
def test_the_output_of_pip_is_reported_and_an_incomplete_environment_is_not_used(tmp_path, data_folder):
    (tmp_path / "wheels").mkdir()
    environment = Environment("odd", ("--no-index", f"--find-links={tmp_path / 'wheels'}", "not-to-be-had==1"))
    progress = []
    with pytest.raises(
        NotAvailable, match=r"environment of odd cannot be installed.*-m pip install(.|\n)*not-to-be-had"
    ):
        environment.create(data_folder, lambda *now: progress.append(now))
    assert progress == [(0, 2, "environment of odd"), (1, 2, "environment of odd")]
    assert not environment.is_complete(data_folder)


@pytest.mark.slow
def test_an_environment_is_created_once(data_folder):
    environment = Environment("empty", ("pip",))  # already in a new environment: nothing is installed
    python = environment.create(data_folder)
    assert environment.is_complete(data_folder) and python == data_folder.root / "environments/empty/bin/python"
    before = python.lstat().st_ctime_ns
    assert environment.create(data_folder) == python and python.lstat().st_ctime_ns == before
    assert not Environment("empty", ("pip", "wheel")).is_complete(data_folder), (
        "other packages need another environment"
    )


def test_the_worker_imports_neither_this_package_nor_heavy_libraries():
    code = f"import runpy, sys; runpy.run_path({str(WORKER)!r}); print([m for m in sys.modules if 'vlm' in m or 'torch' in m])"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_checkpoint_is_part_of_the_result_key_and_the_dtype_is_float32():
    assert LaionClap(checkpoint="630k-best.pt").fingerprint() != LaionClap().fingerprint()
    assert LaionClap(device="cpu").fingerprint() == LaionClap().fingerprint()
    assert (LaionClap().sample_rate_hz, LaionClap().number_format) == (48000, "float32")
    for wrong in ({"checkpoint": "my.pt"}, {"dtype": "bfloat16"}):
        with pytest.raises(ValidationError):
            LaionClap(**wrong)


def test_checkpoints_of_one_repository_have_their_own_text_embeddings_and_scale(monkeypatch, tmp_path):
    scales = {"630k-best.pt": 2.0, "630k-audioset-best.pt": 3.0}
    started = []

    def worker(spec):
        started.append(spec.checkpoint)
        return IsolatedProcess(
            "laion_clap",
            (sys.executable, "-c", PROTOCOL_WORKER),
            {"checkpoint": spec.checkpoint, "logit_scale": scales[spec.checkpoint]},
        )

    monkeypatch.setattr(LaionClap, "_worker", worker)
    rows = ResultStore(tmp_path / "results.sqlite")
    for _ in range(2):  # the second time from the result store
        for checkpoint, scale in scales.items():
            spec = LaionClap(checkpoint=checkpoint)
            assert embed_texts(spec, ["abc"], rows, LocalEngine())[1] == scale
    assert started == list(scales)


def test_registered():
    assert ENCODERS.get("laion_clap") is LaionClap


# Tests with a real environment, installed by pip ---------------------------------------------------------------------

TEXTS = ["This is a sound of dog.", "sea waves", "a sneeze " * 60]


def roberta_files(folder: Path, pieces: int = 50265) -> None:
    """Write a byte-level vocabulary of the size of RoBERTa, merges for a few words, and the config of a small text model."""
    from tokenizers.pre_tokenizers import ByteLevel

    words = ["\u0120sound", "\u0120dog", "\u0120waves", "sea", "This", "\u0120is", "\u0120of", "\u0120a"]
    joined, merges = [], []
    for word in words:
        prefix = word[0]
        for letter in word[1:]:
            merges.append(f"{prefix} {letter}")
            prefix += letter
            joined.append(prefix)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), *dict.fromkeys(joined)]
    fillers = [f"<fill{i}>" for i in range(pieces - len(tokens) - 1)]
    vocabulary = {piece: i for i, piece in enumerate([*tokens, *fillers, "<mask>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges), ""]))
    config = {
        "model_type": "roberta",
        "vocab_size": 50265,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "hidden_size": 768,  # required by the projection of the package
        "num_hidden_layers": 1,
        "num_attention_heads": 12,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-5,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))


def publish_package_models(cache: Path) -> None:
    """Publish the models that the package itself loads from the hub when it is imported and called."""

    def roberta(folder: Path) -> None:
        from transformers import RobertaConfig, RobertaModel

        roberta_files(folder)
        RobertaModel(RobertaConfig.from_pretrained(folder)).half().save_pretrained(folder)

    def bert(folder: Path) -> None:
        (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))

    publish(cache, "roberta-base", roberta)
    publish(cache, "bert-base-uncased", bert)
    publish(cache, "facebook/bart-base", roberta_files)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the environment with pip and write a random checkpoint in it, so that `unavailable` returns None."""
    # VLM_AUDIO_LAION_CLAP_DATA: a data folder whose environment is used (or created) instead of a new one
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("laion")
        patch.setenv("VLM_AUDIO_DATA", os.environ.get("VLM_AUDIO_LAION_CLAP_DATA") or str(root / "data"))
        patch.setenv("HF_HUB_CACHE", str(root / "hub"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        ENVIRONMENT.create(DataFolder.locate())
        publish_package_models(root / "hub")
        publish(root / "hub", "FacebookAI/roberta-base", roberta_files)
        publish(
            root / "hub",
            "lukewys/laion_clap",
            lambda folder: run(WRITE, checkpoint=str(folder / "630k-audioset-best.pt")),
        )
        yield root


@pytest.fixture
def installed_environment(installed, monkeypatch):
    """Set the same variables for one test, because a fixture of all tests removes them."""
    monkeypatch.setenv("VLM_AUDIO_DATA", os.environ.get("VLM_AUDIO_LAION_CLAP_DATA") or str(installed / "data"))
    return installed


def run(program: str, **values) -> None:
    python = ENVIRONMENT.python(DataFolder.locate())
    code = program.format(worker=str(WORKER), **values)
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def audio_clips() -> list[np.ndarray]:
    """Return clips of 5 s, 2 s, 10 s and 1 ms; one is louder than full scale, one is so quiet that 16 bits matter."""
    rng = np.random.default_rng(0)
    t = np.arange(96000) / 48000
    loud = 1.4 * np.sin(2 * np.pi * 440 * t)
    faint = rng.standard_normal(480000) * 1e-4
    return [c.astype(np.float32) for c in (rng.standard_normal(240000) * 0.1, loud, faint, rng.standard_normal(48))]


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_vectors_equal_those_of_the_package_and_of_transformers_clap(installed_environment):
    spec = LaionClap(device="cpu", batch_size=3)
    assert spec.unavailable() is None
    clips, text_encoder = audio_clips(), spec.load_text_encoder()
    encode = spec.load()
    vectors_here, texts = np.stack(encode(clips)), np.stack(text_encoder.encode(TEXTS))

    np.savez(installed_environment / "clips.npz", *clips)
    path = spec.weights.snapshot() / spec.checkpoint
    run(
        CALL,
        checkpoint=str(path),
        clips=str(installed_environment / "clips.npz"),
        texts=TEXTS,
        answer=str(installed_environment / "answer.npz"),
    )
    with np.load(installed_environment / "answer.npz") as own:
        assert str(own["numpy"]).startswith("1.")
        np.testing.assert_allclose(vectors_here, own["audio"], atol=1e-5)
        np.testing.assert_allclose(texts, own["text"], atol=1e-5)
        np.testing.assert_allclose(encode(clips[:1])[0], own["alone"][0], atol=1e-5)
    assert vectors_here.shape == (4, 512)
    np.testing.assert_allclose(np.linalg.norm(vectors_here, axis=1), 1, atol=1e-5)
    for vectors in (vectors_here, texts):
        differences = np.abs(vectors[:, None] - vectors).max(axis=-1) + np.eye(len(vectors))
        assert differences.min() > 1e-3, "vectors differ by much more than the tolerances"
    assert text_encoder.logit_scale == pytest.approx(np.exp(2.5), rel=1e-6)

    expected, expected_texts = vectors_by_transformers(path, spec, clips)
    # Noise agrees to 1e-6. Between the lines of a tone's spectrum there are only rounding errors of the float32 transform
    # (transformers uses float64), which are visible in dB: 1e-4 for the tone, 1e-3 for a repeated 1 ms.
    np.testing.assert_allclose(vectors_here[[0, 2]], expected[[0, 2]], atol=1e-5)
    np.testing.assert_allclose(vectors_here[1], expected[1], atol=5e-4)
    np.testing.assert_allclose(vectors_here[3], expected[3], atol=5e-3)
    np.testing.assert_allclose(texts, expected_texts, atol=1e-5)

    twice = np.concatenate([clips[2], clips[2]])  # 20 s: two windows, each equal to clips[2]
    np.testing.assert_allclose(encode([twice])[0], vectors_here[2], atol=1e-5)
    assert np.isfinite(np.stack(encode([np.zeros(48000, np.float32), np.zeros(0, np.float32)]))).all()


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_a_tokenizer_of_another_size_is_refused(installed_environment, tmp_path):
    roberta_files(tmp_path, pieces=40000)
    worker_settings = {
        "audio_model": "HTSAT-tiny",
        "fusion": False,
        "tokenizer_folder": str(tmp_path),
        "device": "cpu",
        "checkpoint": "none",
    }
    command = (str(ENVIRONMENT.python(DataFolder.locate())), "-I", str(WORKER))
    with pytest.raises(VlmAudioError, match="must have RoBERTa's 50265 tokens, got 40000"):
        IsolatedProcess("laion_clap", command, worker_settings)


def vectors_by_transformers(path: Path, spec: LaionClap, clips: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Convert the checkpoint to CLAP of transformers; return its vectors of the clips and of TEXTS."""
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    folder = laion_clap.TOKENIZER.snapshot()
    text = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k != "model_type"}
    model = ClapModel(ClapConfig(text_config=text, audio_config={}, projection_dim=512)).eval()
    stored = torch.load(path, weights_only=False)["state_dict"]
    missing, unexpected = model.load_state_dict(converted_state(stored), strict=False)
    assert [k for k in missing if not k.endswith(("position_ids", "token_type_ids", "relative_position_index"))] == []
    # not in transformers: the spectrogram and the classification head of HTS-AT, two training layers, fixed tables
    not_converted = re.compile(
        r"(audio|text)_transform|spectrogram_extractor|logmel_extractor|tscam_conv|\.head\.|attn_mask|position_ids"
    )
    assert not (more := [k for k in unexpected if not not_converted.search(k)]), more
    quantised = [(np.clip(c, -1, 1) * 32767).astype(np.int16).astype(np.float32) / 32767 for c in clips]
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc", padding="repeatpad")
    features = extractor(quantised, sampling_rate=48000, return_tensors="pt")
    tokenizer = RobertaTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    with torch.inference_mode():
        audio = model.get_audio_features(**features).pooler_output
        texts = model.get_text_features(**tokens).pooler_output
    return tuple(torch.nn.functional.normalize(x, dim=-1).numpy() for x in (audio, texts))


def converted_state(state: dict) -> dict:
    """Name the tensors of laion-clap as transformers does (its `convert_clap_original_pytorch_to_hf.py`)."""
    renamed = {
        "text_branch": "text_model",
        "audio_branch": "audio_model.audio_encoder",
        "attn": "attention.self",
        "self.proj": "output.dense",
        "attention.self_mask": "attn_mask",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "bn0": "batch_norm",
    }
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        for old, new in renamed.items():
            key = key.replace(old, new)
        if match := re.search(r"sequential\.(\d+)\.", key):
            key = key.replace(match[0], f"layers.{int(match[1]) // 3}.linear.")
        elif match := re.search(r"_projection\.(\d+)\.", key):
            key = key.replace(match[0], f"_projection.linear{1 if match[1] == '0' else 2}.")
        if "audio" in key and "qkv" in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                converted[key.replace("qkv", name)] = part
        else:
            converted[key] = value
    return converted
