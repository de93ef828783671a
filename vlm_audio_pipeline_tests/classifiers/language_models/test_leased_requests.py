"""Two processes with the same requests at the same time: each request is sent, and paid, once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Request, Sampling
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_rows import checksum
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.first_trial import FIRST_TRIAL
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.storage.ledger_spending import spending_by_classifier

REQUESTS = 81


def ask(path: Path, url: str, study: str, numbers: list[int], usd: float = 1000, retries: int = 2):
    """Ask the questions of a study; return outcomes, errors, the reason of a stop, and the number of requests sent."""
    store = ResultStore(path)
    ledger = Ledger(store, study, Budget(usd=usd))
    endpoint = Endpoint(url=url, prices=Prices(input=10, output=100), timeout_s=60, concurrency=8, retries=retries)
    questions = [
        Question(
            {**FIRST_TRIAL, "clip": f"{i}"},
            Request((Message("user", (f"clip {i}",)),), ("dog", "cat"), frozenset({"generation"}), Sampling()),
            ("dog", "cat"),
        )
        for i in numbers
    ]
    result = ask_all(
        questions,
        {"backend": "openai", "model": "m"},
        store,
        lambda: EndpointBackend("m", endpoint, ledger, "gpt"),
        model="m",
        revision=None,
    )
    ledger.close()
    store.close()
    return [result.table["outcome"].to_pylist(), result.errors, result.stop_reason, result.requests]


def main() -> None:
    path, url, study, count = sys.argv[1:]
    numbers = list(range(int(count)))
    sys.stdout.write(json.dumps(ask(Path(path), url, study, numbers)))


def start(path, url, study, count=REQUESTS):
    code = f"from {__name__} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, path, url, study, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def read_results(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture
def path(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    store.close()
    return store.path


@pytest.mark.slow
def test_two_studies_that_ask_the_same_at_the_same_time_pay_for_no_request_twice(path):
    with serving(ServerScript(seconds=0.05)) as server:
        processes = [start(path, server.url, study) for study in ("one", "two")]
        answers = [read_results(process) for process in processes]
    assert set(server.attempts.values()) == {1} and len(server.attempts) == REQUESTS  # 0 of 81 twice
    assert [outcomes for outcomes, *_ in answers] == [["answered"] * REQUESTS] * 2
    assert sum(requests for *_, requests in answers) == REQUESTS
    assert all(requests > 0 for *_, requests in answers)  # they share the work
    assert list((path.parent / "locks").iterdir()) == []


@pytest.mark.slow
def test_a_study_takes_over_the_requests_of_a_killed_study(path):
    with serving(ServerScript(seconds=0.05)) as server:
        killed, other = start(path, server.url, "one"), start(path, server.url, "two")
        until = time.monotonic() + 60
        while server.charged < 20 and time.monotonic() < until:
            time.sleep(0.002)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
        outcomes, errors, stop_reason, _ = read_results(other)
    assert (outcomes, errors, stop_reason) == (["answered"] * REQUESTS, {}, None)
    assert len(server.attempts) == REQUESTS and max(server.attempts.values()) <= 2
    assert sum(server.attempts.values()) - REQUESTS <= 8  # those that were in flight


def test_a_response_that_another_process_stored_in_the_meantime_is_not_requested(path):
    """The other process stores its responses after this one has read the result store."""
    with serving(ServerScript()) as server:
        calls = []

        def play(question: str, attempt: int) -> str:
            if question == "clip 0" and not calls:
                calls.append(question)
                ask(path, server.url, "two", [1, 2])
            return "response"

        server.play = play
        outcomes, errors, stop_reason, _ = ask(path, server.url, "one", [0, 1, 2])
    assert (outcomes, errors, stop_reason) == (["answered"] * 3, {}, None)
    assert server.attempts == {"clip 0": 1, "clip 1": 1, "clip 2": 1}


def test_a_request_that_failed_in_another_process_is_sent(path):
    with serving(ServerScript(play=lambda question, attempt: "500" if attempt == 0 else "response")) as server:
        assert ask(path, server.url, "one", [0, 1], retries=0)[0] == ["error", "error"]
        assert ask(path, server.url, "two", [0, 1], retries=0)[0] == ["answered", "answered"]


def test_a_study_whose_budget_is_spent_gives_its_leases_back(path):
    """The bound of a request is (16 * 2 + 6 bytes) * 10 + 32 tokens * 100 = 3,580 millionths of a dollar."""
    with serving(ServerScript()) as server:
        outcomes, _, stop_reason, requests = ask(path, server.url, "poor", [0, 1, 2], usd=0.004)
        assert "does not allow the next request" in stop_reason and len(outcomes) == 1 <= requests
        assert ask(path, server.url, "rich", [0, 1, 2])[0] == ["answered"] * 3
    assert set(server.attempts.values()) == {1}
    ledger = Ledger(ResultStore(path), "poor", Budget(usd=1))
    (spending,) = spending_by_classifier(ledger).values()
    assert spending.requests == len(outcomes)


@pytest.mark.parametrize(
    "damage", [b"{", b"[]", b'{"outcome": "answered"}', b'{"answered_at": "2026-01-01", "outcome": 1}']
)
def test_a_response_that_cannot_be_read_is_requested_again(path, damage, caplog):
    with serving(ServerScript()) as server:
        ask(path, server.url, "one", [0, 1])
        store = ResultStore(path)
        with store._transaction() as db:
            (key,) = db.execute("SELECT result_key FROM results LIMIT 1").fetchone()
            # as a result of an older version, damaged before it got a checksum
            values = [damage, checksum(key.encode(), b"response", damage), key]
            db.execute("UPDATE results SET payload = ?, sha256 = ? WHERE result_key = ?", values)
        store.close()
        assert ask(path, server.url, "one", [0, 1])[0] == ["answered"] * 2
        assert ask(path, server.url, "one", [0, 1])[0] == ["answered"] * 2
    assert sum(server.attempts.values()) == 3
    assert "cannot be read and are requested again" in caplog.text
