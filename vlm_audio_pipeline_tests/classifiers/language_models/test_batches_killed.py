"""Processes killed while they submit and collect batches: no request is paid twice, none is lost, the budget holds."""

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import collecting
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchLimits
from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.batch_client import EXACT_USD, MAX_USD, PROTOCOLS, Client
from vlm_audio_pipeline_tests.classifiers.language_models.batch_server import HOUR, BatchServer, serving_batches
from vlm_audio_pipeline_tests.storage.ledger_spending import spending_by_classifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIPS = [f"clip {i}" for i in range(10, 50)]
KILLS = int(os.environ.get("VLM_AUDIO_TEST_KILLS", "5"))
"""Number of kills at random times, for each protocol; set the variable to 20 for the long test."""
SEED = 16
MISSING_S = 1.0
"""How long a batch is looked for in these tests, s; the server needs `HIDDEN_S` to list a new batch."""
HIDDEN_S = 0.6
BUDGET = 30 * MAX_USD  # less than all cost bounds, more than all prices
POINTS = ["batch:intent", "batch:file", "batch:created", "batch:submitted", "batch:results", "results:response:3"]


def run_until_done(url: str, path: str, protocol: str, fault: str) -> None:
    """Run until all requests are answered, and print their outcomes; in a forked process that a test kills."""
    name, _, count = fault.rpartition(":")
    faults._POINT, faults._COUNT = (name, count) if count.isdigit() else (fault, "1")
    client = Client(Path(path), BatchServer(url=url), protocol, usd=BUDGET, limits=BatchLimits(15, 10**6))
    until = time.monotonic() + 60
    while time.monotonic() < until:
        result = client.run(CLIPS)
        if not result.unfinished:
            sys.stderr.write(json.dumps(result.table["outcome"].to_pylist()))
            return
        time.sleep(0.05)
    sys.exit(f"not done: {result.unfinished}")


def serve() -> None:
    """Fork a process for each line of the input, a JSON list of arguments and a time after which it is killed."""
    collecting.MISSING_S = MISSING_S
    importlib.import_module("openai.resources.batches")
    importlib.import_module("openai.resources.files")
    importlib.import_module("anthropic.resources.messages.batches")
    for line in sys.stdin:
        *arguments, output, after_s = json.loads(line)
        child = os.fork()
        if child == 0:
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            code: object = 1
            try:
                run_until_done(*arguments)
                code = 0
            except SystemExit as end:
                sys.stderr.write(str(end.code))
            except BaseException:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(int(code == 1))
        deadline = time.monotonic() + after_s
        while (waited := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                waited = os.waitpid(child, 0)
                break
            time.sleep(0.002)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(waited[1])}\n")
        sys.stdout.flush()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs a client in a new process and returns its exit status and output."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    output = tmp_path_factory.mktemp("output") / "output"

    def run(server, path, protocol, fault="", after_s=120.0):
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps([server.url, str(path), protocol, fault, str(output), after_s]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline()), output.read_text() if output.exists() else ""

    yield run
    process.communicate()


def finish(run, server: BatchServer, path: Path, protocol: str) -> None:
    """Run to the end, then check that each request was answered, charged and submitted once, and the ledger is exact."""
    code, output = run(server, path, protocol)
    assert code == 0, output
    assert json.loads(output.splitlines()[-1]) == ["answered"] * len(CLIPS)
    assert set(server.charged) == set(server.submitted) == {f"user: {clip}" for clip in CLIPS}
    assert set(server.charged.values()) == {1}  # nothing is paid twice
    for content, count in server.submitted.items():
        assert count == 1 + server.failures[content], content  # nothing is sent twice, except what failed or expired
    assert ledger_state(path) == (pytest.approx(len(CLIPS) * EXACT_USD), 0)


def ledger_state(path: Path) -> tuple[float, float]:
    """Return what is spent or reserved, and what is reserved, USD."""
    store = ResultStore(path)
    ledger = Ledger(store, "study", Budget(usd=BUDGET))
    spending = spending_by_classifier(ledger)
    reserved = sum(s.reserved_usd for s in spending.values())
    spent = ledger.spent_usd()
    ledger.close()
    store.close()
    return spent, reserved


def outcome(batch: int, item: int, failures: int):
    """Some requests of every batch fail or expire the first time."""
    return "answer" if failures or item % 5 else (500 if batch % 2 else "expire")


def batch_server() -> BatchServer:
    return BatchServer(outcome=outcome, duration_s=3 * HOUR, hidden_s=HIDDEN_S)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_kill_at_every_step_of_a_batch_repeats_and_loses_nothing(run, tmp_path, protocol):
    path = tmp_path / "results.sqlite"
    with serving_batches(batch_server()) as server:
        for point in POINTS:
            if protocol == "anthropic" and point == "batch:file":
                continue
            assert run(server, path, protocol, point)[0] == -9, point
            assert ledger_state(path)[0] <= BUDGET + 1e-9
        finish(run, server, path, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_kills_at_random_times_repeat_and_lose_nothing(run, tmp_path, protocol):
    """After a run that finishes, a new data folder and a new server are used."""
    rng = random.Random(f"{SEED} {protocol}")
    kills = finished = 0
    while kills < KILLS:
        path = tmp_path / f"results{finished}.sqlite"
        with serving_batches(batch_server()) as server:
            while kills < KILLS:
                code, output = run(server, path, protocol, after_s=rng.uniform(0.0, 0.6))
                assert code in (0, -9), output
                assert ledger_state(path)[0] <= BUDGET + 1e-9
                if code == 0:
                    break
                kills += 1
            finish(run, server, path, protocol)
        finished += 1
