"""400 requests to a server with all faults have 400 outcomes, and stored responses are not requested again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Reply, Request, Sampling
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving
from vlm_audio_pipeline_tests.storage.ledger_spending import spending_by_classifier

GENERATION = frozenset({"generation"})
PRICES = Prices(input=10, output=100)


def ask(text: str) -> Request:
    return Request((Message("user", (text,)),), ("dog", "cat"), GENERATION, Sampling(max_tokens=10))


def drive(rows: ResultStore, backend: EndpointBackend, questions: list[str]) -> tuple[dict[str, Reply], str | None]:
    """Send the questions without a stored response and store each response; return the outcomes and the reason of a stop."""
    stored = set(rows.get(questions))
    missing = [q for q in questions if q not in stored]
    outcomes: dict[str, Reply] = {}

    def on_reply(position: int, reply: Reply) -> None:
        outcomes[missing[position]] = reply
        if reply.outcome != "error":
            rows.put("response", [(missing[position], json.dumps([reply.outcome, reply.text]).encode())])

    return outcomes, backend.ask([ask(q) for q in missing], on_reply)


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


QUESTIONS = [f"clip {i}" for i in range(400)]
FIRST_ATTEMPT_FAULTS = {
    1: "429",
    2: "500",
    3: "503",
    4: "cut",
    5: "reset",
    9: "hang",
    10: "drip",
}  # by number % 80: the first attempt
EVERY_ATTEMPT_FAULTS = {6: "truncate", 7: "empty", 8: "type"}  # by number % 80: every attempt
ALWAYS_FAILING = {"clip 20": "500", "clip 100": "hang", "clip 200": "429"}  # every attempt


def play_faults(question: str, attempt: int) -> str:
    kind = int(question.split()[-1]) % 80
    always = ALWAYS_FAILING.get(question) or EVERY_ATTEMPT_FAULTS.get(kind)
    return always or (FIRST_ATTEMPT_FAULTS.get(kind, "response") if attempt == 0 else "response")


@pytest.mark.slow
def test_400_requests_end_as_400_outcomes_and_stored_responses_are_not_requested_again(rows):
    with serving(ServerScript(play=play_faults, retry_after=0.01)) as server:
        endpoint = Endpoint(url=server.url, timeout_s=0.6, concurrency=128, retries=2)
        outcomes, stop_reason = drive(rows, EndpointBackend("m", endpoint, None, "c"), QUESTIONS)
        assert stop_reason is None
        assert sorted(outcomes) == sorted(QUESTIONS)
        # of 400, 5 each are truncated, empty and of another type in every attempt, and 3 always fail
        assert Counter(r.outcome for r in outcomes.values()) == {"answered": 382, "error": 18}
        assert Counter(r.error for r in outcomes.values() if r.error) == {
            f"the response is not JSON ({len(truncated_completion())} bytes of application/json)": 5,
            "the endpoint returned no choice": 5,
            "the response is not JSON (17 bytes of text/html)": 5,
            "HTTP 500 (told to answer 500)": 1,
            "no response within 0.6 s": 1,
            "HTTP 429 (told to answer 429)": 1,
        }
        before = Counter(server.attempts)
        assert before["clip 0"] == 1
        assert {before[f"clip {i}"] for i in (1, 2, 3, 4, 5, 9, 10)} == {2}
        assert {before[f"clip {i}"] for i in (20, 100, 200)} == {3}  # the first attempt and two retries

        server.play = lambda question, attempt: "response"
        second_outcomes, stop_reason = drive(rows, EndpointBackend("m", endpoint, None, "c"), QUESTIONS)
        assert stop_reason is None
        assert {r.outcome for r in second_outcomes.values()} == {"answered"}
        assert server.attempts - before == Counter({q: 1 for q, r in outcomes.items() if r.outcome == "error"})
        assert rows.count("response") == 400


def truncated_completion() -> bytes:
    """What the server's answer is when it is cut in half."""
    from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import completion

    data = json.dumps(completion("dog", {"model": "m"}, ServerScript().usage)).encode()
    return data[: len(data) // 2]


def start(
    url: str, path: Path, usd: float, questions: int, classifier: str = "gpt", concurrency: int = 6
) -> subprocess.Popen:
    """Start `drive` in its own process."""
    arguments = [url, str(path), str(usd), str(questions), classifier, str(concurrency)]
    code = f"from {__name__} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )


def main() -> None:
    url, path, usd, questions, classifier, concurrency = sys.argv[1:]
    rows = ResultStore(Path(path))
    ledger = Ledger(rows, "study", Budget(usd=float(usd), first=("gpt",)))
    endpoint = Endpoint(url=url, prices=PRICES, timeout_s=3, concurrency=int(concurrency), retries=2)
    backend = EndpointBackend("m", endpoint, ledger, classifier)
    outcomes, stop_reason = drive(rows, backend, [f"{classifier} clip {i}" for i in range(int(questions))])
    sys.stdout.write(json.dumps([Counter(r.outcome for r in outcomes.values()), stop_reason]))


@pytest.mark.slow
def test_after_a_kill_only_requests_that_were_in_flight_are_repeated(rows):
    """The process is killed three times; at each kill at most six requests are in flight."""
    with serving(ServerScript(seconds=0.02)) as server:
        for kill in range(3):
            process = start(server.url, rows.path, 1000, 400)
            until = time.monotonic() + 60
            while server.charged < 80 * (kill + 1) + kill and time.monotonic() < until:
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
            assert process.communicate()[0] == ""  # the process had not ended by itself
            assert rows.count("response") >= 80 * (kill + 1) + kill - 6 * (kill + 1)
        last = start(server.url, rows.path, 1000, 400)
        counts, stop_reason = json.loads(last.communicate(timeout=60)[0])
        assert stop_reason is None
        assert counts["answered"] == 400 - (rows.count("response") - counts["answered"])
        assert rows.count("response") == 400
        repeated = sum(server.attempts.values()) - 400
        assert len(server.attempts) == 400
        assert max(server.attempts.values()) <= 4
        assert 0 <= repeated <= 3 * 6
    ledger = Ledger(rows, "study", Budget(usd=1000))
    (spending,) = spending_by_classifier(ledger).values()
    # Every attempt is in the ledger, also those of killed processes. A kill between reservation and sending adds one.
    assert 0 <= spending.requests - sum(server.attempts.values()) <= 3 * 6
    assert (spending.reserved_usd > 0) == (spending.requests > 400)
    ledger.close()
