"""A live run and a batch with the same requests at the same time: no request is sent, or paid, twice."""

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import collecting
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.live import LiveBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchLimits
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline_tests.classifiers.language_models.batch_client import (
    CLIPS,
    EXACT_USD,
    IDENTITY,
    PROTOCOLS,
    Client,
    outcomes,
)
from vlm_audio_pipeline_tests.classifiers.language_models.batch_server import BatchServer, serving_batches

SEED = 16


class LiveClient(Client):
    """The same study with live requests."""

    def open(self):
        endpoint = self.endpoint.model_copy(update={"batch": False})
        return LiveBackend(
            "m",
            endpoint,
            self.ledger,
            "gpt",
            "",
            result_store=self.store,
            model_identity=IDENTITY,
            study=self.study,
        )


@pytest.fixture
def make_both(tmp_path):
    clients = []

    def make(server, protocol="openai"):
        clients.extend(
            kind(tmp_path / "results.sqlite", server, protocol, timeout_s=60) for kind in (LiveClient, Client)
        )
        return clients[-2:]

    yield make
    for client in clients:
        client.close()


def assert_each_sent_once(server):
    assert server.submitted + server.live == dict.fromkeys((f"user: {clip}" for clip in CLIPS), 1)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_requests_in_flight_are_not_submitted_and_the_live_run_stops_at_a_new_batch(make_both, protocol, monkeypatch):
    """The batch is submitted while the first live requests are in flight."""
    monkeypatch.setattr(collecting, "MISSING_S", 0.0)
    first_call, is_submitted = threading.Lock(), threading.Event()
    server = BatchServer()

    def before(call):
        if call.endswith(("/chat/completions", "/v1/messages")):
            if first_call.acquire(blocking=False):
                stop_reasons.append(batch.run().stop_reason)
                is_submitted.set()
            assert is_submitted.wait(timeout=60)
            waited.append(call)

    stop_reasons, waited, server.before = [], [], before
    with serving_batches(server):
        live, batch = make_both(server, protocol)
        with pytest.raises(NotAvailable, match="would be paid for twice"):
            live.run()
        [stop_reason] = stop_reasons
        assert stop_reason.startswith("waiting for the batch of ") and stop_reason.endswith("submitted")
        # each live request was in flight before the batch was submitted, and each other request is part of it
        in_flight = sum(server.live.values())
        assert 0 < in_flight < len(CLIPS) and len(waited) == in_flight
        assert sum(server.submitted.values()) == len(CLIPS) - in_flight
        done = batch.run_until_done()
        assert set(outcomes(done).values()) == {"answered"} and len(outcomes(done)) == len(CLIPS)
        assert_each_sent_once(server)
        live_usd = sum(server.live.values()) * 2 * EXACT_USD
        assert batch.ledger.spent_usd() == pytest.approx(live_usd + sum(server.charged.values()) * EXACT_USD)


@pytest.mark.slow
def test_a_live_run_during_a_submission_sends_none_of_its_requests(make_both):
    """The live run begins and ends while the input file of the batch is uploaded: the batch is in the log before that."""
    events = []

    def run_live():
        events.append("live run")
        with pytest.raises(NotAvailable, match="would be paid for twice"):
            live.run()
        events.append("live run stopped")

    thread = threading.Thread(target=run_live)

    def before(call):
        events.append(call)
        if call == "POST /v1/files":
            thread.start()
            thread.join(timeout=60)

    with serving_batches(BatchServer(before=before)) as server:
        live, batch = make_both(server)
        batch.run()
        assert events == ["POST /v1/files", "live run", "live run stopped", "POST /v1/batches"]
        assert not server.live
        assert set(outcomes(batch.run_until_done()).values()) == {"answered"}
        assert_each_sent_once(server)


def run_in_process() -> None:
    """Run a client until all requests are answered."""
    collecting.MISSING_S = 0.5
    kind, path, url, seed = sys.argv[1:]
    rng, is_live = random.Random(seed), kind == "live"
    client = (LiveClient if is_live else Client)(Path(path), BatchServer(url=url), limits=BatchLimits(3, 10**6))
    until = time.monotonic() + 60
    while time.monotonic() < until:
        clips = rng.sample(CLIPS, len(CLIPS))
        try:
            result = client.run(clips)
        except NotAvailable:
            time.sleep(0.1)
            continue
        if not result.unfinished and result.table.num_rows == len(CLIPS):
            sys.stdout.write(json.dumps(sorted(result.table["outcome"].to_pylist())))
            return
        time.sleep(0.01)


@pytest.mark.slow
def test_processes_with_live_requests_and_batches_send_no_request_twice(tmp_path):
    code = f"from {__name__} import run_in_process; run_in_process()"
    with serving_batches(BatchServer()) as server:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, kind, tmp_path / "results.sqlite", server.url, f"{SEED} {number}"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[3],
            )
            for number, kind in enumerate(("live", "batch"))
        ]
        for process in processes:
            out, err = process.communicate(timeout=120)
            assert out and json.loads(out) == ["answered"] * len(CLIPS), err
        assert_each_sent_once(server)
