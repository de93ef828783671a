"""Bodies without end, packed bodies that unpack to gigabytes, and claims of tokens that no request can have."""

import gzip
import json
import threading
import time
import tracemalloc
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import parse_reply
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Request, Sampling
from vlm_audio_pipeline.storage.ledger import Budget, Ledger
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.storage.ledger_spending import spending_by_classifier

REQUEST = Request((Message("user", ("which?",)),), ("dog", "cat"), frozenset({"generation"}), Sampling(max_tokens=10))
PRICES = Prices(input=10, output=100)


@contextmanager
def sending(write, status=200, **headers):
    """Serve responses whose body `write(file)` sends; yield the address and the list of requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            requests.append(dict(self.headers))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                write(self.wfile)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", requests
    server.shutdown()
    server.server_close()


def ask(url, ledger=None, timeout_s=5.0, retries=1):
    endpoint = Endpoint(url=url, prices=PRICES if ledger else None, timeout_s=timeout_s, retries=retries)
    replies = []
    backend = EndpointBackend("m", endpoint, ledger, "gpt")
    backend.ask([REQUEST], lambda _, reply: replies.append(reply))
    return replies[0]


@pytest.fixture
def ledger(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    ledger = Ledger(store, "study", Budget(usd=1))
    yield ledger
    ledger.close()
    store.close()


def endless(file):
    while True:
        file.write(b" " * 1_000_000)


@pytest.mark.parametrize("status", [200, 500, 404])
def test_a_body_without_end_is_read_up_to_the_limit_and_not_requested_again(ledger, status):
    with sending(endless, status) as (url, requests):
        tracemalloc.start()
        reply = ask(url, ledger)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (reply.outcome, reply.error) == ("error", "the response has more than 16 MiB; it was not read further")
    assert len(requests) == 1
    assert peak < 60_000_000  # bytes
    (spending,) = spending_by_classifier(ledger).values()
    assert spending.reserved_usd > 0  # the endpoint may charge for it


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_body_is_unpacked_up_to_the_limit(encoding):
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    bomb = b"".join([*(compressor.compress(bytes(1 << 20)) for _ in range(64)), compressor.flush()])
    with sending(lambda file: file.write(bomb), content_encoding=encoding) as (url, _):
        tracemalloc.start()
        reply = ask(url)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(bomb) < 100_000
    assert reply.error == "the response has more than 16 MiB when it is unpacked; it was not read further"
    assert peak < 80_000_000  # bytes


RAW_DEFLATE = zlib.compressobj(9, zlib.DEFLATED, -15)
BODY = json.dumps(completion("dog", {"model": "m"}, {"prompt_tokens": 1, "completion_tokens": 1})).encode()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]), "gzip"),
        (zlib.compress(BODY), "deflate"),
        (RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush(), "deflate"),
        (gzip.compress(zlib.compress(BODY)), "deflate, gzip"),
        (BODY, "identity"),
    ],
)
def test_packed_answers_are_read(body, encoding):
    with sending(lambda file: file.write(body), content_encoding=encoding) as (url, _):
        reply = ask(url)
    assert (reply.outcome, reply.text) == ("answered", "dog")


@pytest.mark.parametrize(
    ("body", "encoding"), [(BODY, "br"), (BODY, "gzip"), (gzip.compress(BODY)[:-9], "gzip"), (BODY, "zstd")]
)
def test_a_body_that_cannot_be_unpacked_is_an_error(body, encoding):
    with sending(lambda file: file.write(body), content_encoding=encoding) as (url, _):
        assert ask(url, retries=0).error == "the connection failed (DecodingError)"


def test_a_body_that_drips_is_cut_off_at_the_time_limit_of_the_attempt():
    written = []

    def drip(file):
        for number in range(1200):
            file.write(b" ")
            written.append(number)
            time.sleep(0.05)

    with sending(drip) as (url, _):
        assert ask(url, timeout_s=0.3, retries=0).error == "no response within 0.3 s"
        assert len(written) < 1200  # bytes of the body


# ---------------------------------------------------------------- claims of tokens


@pytest.mark.parametrize(
    "claim",
    [-1, 10_000_001, 2**53, 2**53 - 1, 2**63, 10**30, True, "7", 7.0, float("nan"), float("inf"), None, [7], {}],
)
def test_a_claim_that_no_request_can_have_counts_as_no_claim(claim):
    usage = {"prompt_tokens": claim, "completion_tokens": 5, "total_tokens": claim}
    parsed = parse_reply(completion("dog", {"model": "m"}, usage)).usage
    assert (parsed.input_tokens, parsed.output_tokens) == (None, 5)
    usage = {"prompt_tokens": 5, "completion_tokens": claim, "completion_tokens_details": {"reasoning_tokens": claim}}
    parsed = parse_reply(completion("dog", {"model": "m"}, usage)).usage
    assert (parsed.input_tokens, parsed.output_tokens, parsed.reasoning_tokens) == (5, None, None)


@pytest.mark.parametrize("claim", [2**53, 2**53 - 1, 10**30])
def test_after_an_impossible_claim_the_cost_bound_stays_reserved(ledger, claim):
    with serving(ServerScript(usage={"prompt_tokens": claim, "completion_tokens": claim})) as server:
        reply = ask(server.url, ledger)
    assert (reply.outcome, reply.text, reply.usage.usd) == ("answered", "dog", None)
    (spending,) = spending_by_classifier(ledger).values()
    assert spending.reserved_usd > 0 and ledger.excess_usd() == 0


def test_a_claim_above_the_cost_bound_is_recorded_and_exceeds_the_budget(ledger):
    """10,000,000 tokens at 10 USD per million cost 100 USD; the budget is 1 USD."""
    with serving(ServerScript(usage={"prompt_tokens": 10_000_000, "completion_tokens": 0})) as server:
        assert ask(server.url, ledger).usage.usd == pytest.approx(100)
    assert ledger.spent_usd() == pytest.approx(100) and ledger.excess_usd() == pytest.approx(99)
    assert ledger.reserve("gpt", 0.01) is None


@pytest.mark.parametrize("usd", [1e7, 1e300])
def test_an_amount_of_any_size_fits_into_the_ledger(ledger, usd):
    assert ledger.reserve("gpt", usd) is None
    ledger.expect("gpt", 1_000_000, usd)
    for _ in range(3):
        ledger.settle(ledger.reserve("gpt", 0.0) or 0, 0.0)
    reservation = ledger.reserve("gpt", 0.5)
    assert reservation is not None
    ledger.settle(reservation, usd)
    assert ledger.excess_usd() == pytest.approx(2e6 - 1)
