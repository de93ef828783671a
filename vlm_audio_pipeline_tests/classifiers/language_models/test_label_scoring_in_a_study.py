"""A study with the same model on this machine and behind a server that returns log-probabilities."""

import pytest

from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.classifiers.language_models import logprob_server
from vlm_audio_pipeline_tests.classifiers.language_models.checkpoints import QWEN2_VL

pytestmark = pytest.mark.slow


def test_a_server_gives_the_predictions_of_the_local_model_and_is_asked_once(local, tmp_path):
    """Local and served scores differ by at most 1e-3. A second run, and a likelihood added later, send nothing twice."""
    backend = local(QWEN2_VL)
    bench = Bench(tmp_path / "bench")
    model = {"kind": "language_model", "model": QWEN2_VL, "rendering": "small", "max_tokens": 4}
    with logprob_server.serving(logprob_server.LogprobServer(backend.model, backend.conversation.processor)) as server:
        endpoint = {"url": server.url, "concurrency": 2}
        scored = {"likelihood": "prompt_logprobs", "end_token": "<|im_end|>"}
        bench.study |= {
            "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
            "classifiers": {
                "here": {**model, "device": "cpu", "dtype": "float32", "scoring": ["likelihood"]},
                "there": {**model, "backend": "openai", "endpoint": endpoint},
            },
        }
        assert not bench.run().report.failed
        generated = len(server.calls)
        assert all("prompt_logprobs" not in body for body in server.bodies)
        bench.study["classifiers"]["there"]["endpoint"] = endpoint | scored
        assert not bench.run().report.failed
        assert all("prompt_logprobs" in body for body in server.bodies[generated:])
        calls = len(server.calls)
        assert not bench.run().report.failed
        assert len(server.calls) == calls > generated
    columns = "clip, fold, predicted, outcome, scores"
    sql = f"SELECT {columns} FROM predictions WHERE classifier = '{{}}' AND scoring = 'likelihood' ORDER BY fold, clip"
    here, there = (query(bench.data_folder, sql.format(name)).to_pylist() for name in ("here", "there"))
    assert len(here) == len(there) > 0
    for first, second in zip(here, there, strict=True):
        assert (first["clip"], first["outcome"]) == (second["clip"], second["outcome"])
        assert dict(second["scores"]) == pytest.approx(dict(first["scores"]), abs=1e-3)
        assert second["predicted"] == first["predicted"]
