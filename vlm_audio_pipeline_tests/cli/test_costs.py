"""What `plan` says about money."""

import pytest

from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.cli.program import run_command


@pytest.fixture
def paid_bench(tmp_path):
    """A study with a paid endpoint and a budget of 1 USD."""
    bench = Bench(tmp_path / "bench")
    bench.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
    endpoint = {"url": "http://127.0.0.1:9/v1", "prices": {"input": 10, "output": 10}}
    bench.study["classifiers"] = {
        "paid": {
            "kind": "language_model",
            "backend": "openai",
            "model": "m",
            "rendering": "small",
            "endpoint": endpoint,
        }
    }
    bench.study["budget"] = {"usd": 1}
    bench.write()
    return bench


@pytest.mark.parametrize(("usd", "is_exceeded"), [(0.9, False), (100.0, True)])
def test_plan_says_that_a_claim_of_an_endpoint_exceeds_the_budget(paid_bench, usd, is_exceeded):
    graph = paid_bench.graph()
    graph.data_folder.create()
    ledger = Ledger(graph.result_store, "bench", Budget(usd=1))
    ledger.settle(ledger.reserve("paid", 0.5), usd)
    ledger.close()
    text = " ".join(run_command(paid_bench, "plan").out.split())
    assert (f"the budget of 1 USD is exceeded by {usd - 1:.4f} USD" in text) == is_exceeded
    assert f"{usd:.4f} spent or reserved" in text
