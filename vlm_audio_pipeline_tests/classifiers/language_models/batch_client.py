"""A client of the batch server: a data folder with a budget that sends the same requests in every run."""

import pytest

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import collecting
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.backend import BatchBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.cost_bounds import cost_bound
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import (
    Message,
    Request,
    Sampling,
)
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore

PROTOCOLS = ("openai", "anthropic")
PRICES = Prices(input=10, output=100)
IDENTITY = {"backend": "openai", "model": "m", "url": "loopback"}
CLIPS = [f"clip {i}" for i in range(10, 30)]
EXACT_USD = (40 * 10 + 5 * 100) / 2 / 1e6
"""40 prompt tokens and 5 generated tokens at half the price, USD."""


def request(text: str, max_tokens: int = 10) -> Request:
    return Request(
        (Message("user", (text,)),), ("dog", "cat"), frozenset({"generation"}), Sampling(max_tokens=max_tokens)
    )


MAX_USD = cost_bound(request("clip 10"), "m", Endpoint(url="http://127.0.0.1:1/v1", prices=PRICES, batch=True))[1]


class Client:
    """A data folder and a budget; each `run` is a new backend, as in a new process."""

    def __init__(self, path, server, protocol="openai", usd=1.0, max_tokens=10, limits=None, study="study", **values):
        self.store = ResultStore(path)
        self.ledger = Ledger(self.store, study, Budget(usd=usd))
        self.endpoint = Endpoint(
            url=server.url, protocol=protocol, batch=True, **({"timeout_s": 5, "prices": PRICES, "retries": 2} | values)
        )
        self.max_tokens, self.limits, self.study = max_tokens, limits, study

    def run(self, clips=CLIPS):
        """Run once; return the result of `ask_all`."""
        questions = [Question({"clip": clip}, request(clip, self.max_tokens), ("dog", "cat")) for clip in clips]
        return ask_all(questions, IDENTITY, self.store, self.open, model="m", revision=None)

    def open(self):
        return BatchBackend(
            "m", self.endpoint, self.ledger, "gpt", self.store, IDENTITY, study=self.study, limits=self.limits
        )

    def run_until_done(self, clips=CLIPS, most=60):
        """Run until nothing waits for a batch; return the last result."""
        for _ in range(most):
            result = self.run(clips)
            if not (result.stop_reason or "").startswith("waiting for the batch"):
                return result
        raise AssertionError(result.stop_reason)

    def close(self):
        self.ledger.close()
        self.store.close()


@pytest.fixture
def make_client(tmp_path):
    clients = []

    def make(server, protocol="openai", **values):
        clients.append(Client(tmp_path / "results.sqlite", server, protocol, **values))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(autouse=True)
def without_grace(monkeypatch):
    """The test server lists a batch at once, unless a test says otherwise."""
    monkeypatch.setattr(collecting, "MISSING_S", 0.0)


def outcomes(result):
    return dict(zip(result.table["clip"].to_pylist(), result.table["outcome"].to_pylist(), strict=True))


def assert_each_paid_once(server, clips=CLIPS):
    assert set(server.charged) == {f"user: {clip}" for clip in clips}
    assert set(server.charged.values()) == {1}
