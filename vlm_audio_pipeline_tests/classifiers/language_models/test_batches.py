"""Batches over real sockets: nothing is sent, charged or lost twice, whatever the server and the connection do."""

import itertools
import json
import shutil

import numpy as np
import pytest

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import backend as batch_backend
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import collecting
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.anthropic_batches import (
    AnthropicBatches,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.backend import BatchBackend, poll_batches
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.openai_batches import OpenAIBatches
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.protocol import BatchLimits
from vlm_audio_pipeline.classifiers.language_models.messages import (
    AudioPart,
    Message,
    Request,
)
from vlm_audio_pipeline.classifiers.language_models.response_keys import response_key
from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.storage.batch_log import BatchLog
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline_tests.classifiers.language_models.batch_client import (
    CLIPS,
    EXACT_USD,
    IDENTITY,
    MAX_USD,
    PRICES,
    PROTOCOLS,
    Client,
    assert_each_paid_once,
    outcomes,
    request,
)
from vlm_audio_pipeline_tests.classifiers.language_models.batch_client import make_client as make_client  # fixtures
from vlm_audio_pipeline_tests.classifiers.language_models.batch_client import without_grace as without_grace
from vlm_audio_pipeline_tests.classifiers.language_models.batch_server import HOUR, BatchServer, Item, serving_batches
from vlm_audio_pipeline_tests.storage.ledger_spending import spending_by_classifier


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_is_submitted_once_and_its_responses_are_stored(make_client, protocol):
    with serving_batches(BatchServer()) as server:
        client = make_client(server, protocol)
        first = client.run()
        assert first.stop_reason == ("waiting for the batch of 20 requests to m at 127.0.0.1 (batch_0): submitted")
        assert first.table.num_rows == 0
        assert client.ledger.spent_usd() == pytest.approx(20 * MAX_USD)
        progress = poll_batches("m", client.endpoint, client.store)
        assert (progress.done, progress.total, progress.is_ready) == (0, 20, False)
        done = client.run_until_done()
        assert set(outcomes(done).values()) == {"answered"} and len(outcomes(done)) == 20
        assert set(done.table["usd"].to_pylist()) == {EXACT_USD}
        assert set(done.table["text"].to_pylist()) == {"dog"}
        assert client.ledger.spent_usd() == pytest.approx(20 * EXACT_USD)
        assert spending_by_classifier(client.ledger)["gpt"].reserved_usd == 0
        assert poll_batches("m", client.endpoint, client.store) is None
        calls = server.calls.copy()
        assert outcomes(client.run()) == outcomes(done) and server.calls == calls
        assert_each_paid_once(server)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_of_two_days_with_partial_failures_an_expiry_and_lost_connections(make_client, protocol):
    """Each question about a batch takes an hour. The first batch expires after a day with half of its requests answered; of
    the second, some requests fail on the server; every fourth call loses its connection."""

    def outcome(batch, item, failures):
        if batch == 0 and item % 2:
            return "expire"
        return 500 if batch == 1 and item % 3 == 0 else "answer"

    server = BatchServer(outcome=outcome, duration_s=24 * HOUR, fault=lambda call, n: "lost" if n % 4 == 3 else None)
    with serving_batches(server):
        client = make_client(server, protocol)
        done = client.run_until_done(most=120)
        assert server.now >= 48 * HOUR and len(server.batches) == 3
        assert [len(b.items) for b in server.batches.values()] == [20, 10, 4]
        assert set(outcomes(done).values()) == {"answered"} and len(outcomes(done)) == 20
        assert_each_paid_once(server)
        assert client.ledger.spent_usd() == pytest.approx(20 * EXACT_USD)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_that_was_created_without_a_response_is_found_again(make_client, protocol):
    create = {"openai": "POST /v1/batches", "anthropic": "POST /v1/messages/batches"}[protocol]
    server = BatchServer(fault=lambda call, n: "unanswered" if call == create and n == 0 else None, page=1)
    with serving_batches(server):
        for i in range(3):  # of other programs with the same account
            server.create([])
            server.create(server.batches["batch_0"].items * (i + 1))
        client = make_client(server, protocol)
        assert "whether the server received it is not known yet" in client.run().stop_reason
        done = client.run_until_done()
        assert len(outcomes(done)) == 20 and server.calls[create] == 1
        assert_each_paid_once(server)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_batch_that_never_arrived_is_submitted_again_only_when_the_server_does_not_list_it(
    make_client, protocol, monkeypatch
):
    create = {"openai": "POST /v1/batches", "anthropic": "POST /v1/messages/batches"}[protocol]
    server = BatchServer(fault=lambda call, n: "lost" if call == create and n == 0 else None)
    monkeypatch.setattr(collecting, "MISSING_S", 3600.0)
    with serving_batches(server):
        client = make_client(server, protocol)
        client.run()
        for _ in range(3):
            assert client.run().stop_reason.endswith("the server does not list the batch yet; run again later")
        assert server.calls[create] == 1
        assert client.ledger.spent_usd() == pytest.approx(20 * MAX_USD)
        monkeypatch.setattr(collecting, "MISSING_S", 0.0)
        done = client.run_until_done()
        assert len(outcomes(done)) == 20 and server.calls[create] == 2
        assert_each_paid_once(server)
        assert client.ledger.spent_usd() == pytest.approx(20 * EXACT_USD)
        assert len(server.files) == (1 if protocol == "openai" else 0)  # the file of the first attempt is deleted


def test_a_running_batch_of_the_same_size_may_be_the_lost_one_until_it_has_ended(make_client):
    """Anthropic lists no names: a foreign batch of 20 requests delays the decision, and is not taken for ours."""
    create = "POST /v1/messages/batches"
    server = BatchServer(fault=lambda call, n: "lost" if call == create and n == 0 else None)
    with serving_batches(server):
        client = make_client(server, "anthropic")
        client.run()
        foreign = server.create([Item(f"other-{i}", f"other {i}", {"model": "m"}) for i in range(20)])
        assert client.run().stop_reason.endswith("is known only when the running batches of the server have ended")
        assert server.calls[create] == 1
        server.poll()
        assert foreign.state == "ended"
        done = client.run_until_done()
        assert len(outcomes(done)) == 20 and server.calls[create] == 2


def test_a_provider_that_drops_the_tag_is_searched_for_the_input_file(make_client):
    server = BatchServer(fault=lambda call, n: "unanswered" if call == "POST /v1/batches" and n == 0 else None)
    with serving_batches(server):
        client = make_client(server)
        client.run()
        server.batches["batch_0"].metadata.clear()
        assert len(outcomes(client.run_until_done())) == 20
        assert_each_paid_once(server)


def test_results_of_other_requests_are_never_a_reason_to_send_again(make_client):
    with serving_batches(BatchServer()) as server:
        client = make_client(server)
        client.run()
        for item in server.batches["batch_0"].items:
            item.custom_id = f"other-{item.custom_id}"
        client.run()
        for _ in range(2):
            with pytest.raises(NotAvailable, match="must contain the requests of this data folder"):
                client.run()
        assert len(server.batches) == 1


def test_a_batch_whose_id_is_known_does_not_delay_the_search(make_client):
    """Two batches of 10 requests; the second never arrives, while the first is running for a day."""
    create = "POST /v1/messages/batches"
    server = BatchServer(fault=lambda call, n: "lost" if call == create and n == 1 else None, duration_s=24 * HOUR)
    with serving_batches(server):
        client = make_client(server, "anthropic", limits=BatchLimits(10, 10**6))
        client.run(), client.run()
        assert [len(b.items) for b in server.batches.values()] == [10, 10]
        assert {b.state for b in server.batches.values()} == {"running"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("limits", "sizes"),
    [(BatchLimits(8, 10**6), [8, 8, 4]), (BatchLimits(100, 5 * 400), None)],
)
def test_batches_are_split_by_requests_and_bytes(make_client, protocol, limits, sizes):
    with serving_batches(BatchServer()) as server:
        client = make_client(server, protocol, limits=limits)
        client.run()
        lengths = [len(b.items) for b in server.batches.values()]
        assert sum(lengths) == 20 and len(lengths) > 1
        if sizes is not None:
            assert lengths == sizes
        if protocol == "openai":
            contents = [content for _, content in server.files.values()]
            assert len(contents) == len(lengths) and all(len(content) <= limits.bytes for content in contents)
            # A line is counted as its body and 200 bytes around it. No batch could take the first request of the next one.
            sizes = [[200 + len(json.dumps(json.loads(line)["body"])) for line in c.splitlines()] for c in contents]
            for batch, next_batch in itertools.pairwise(sizes):
                assert len(batch) == limits.requests or sum(batch) + next_batch[0] > limits.bytes
        done = client.run_until_done()
        assert len(outcomes(done)) == 20
        assert_each_paid_once(server)


def test_the_limits_are_those_of_the_providers():
    assert OpenAIBatches.limits == BatchLimits(50_000, 200 * 10**6)
    assert AnthropicBatches.limits == BatchLimits(100_000, 256 * 10**6)


def test_a_request_larger_than_a_batch_is_an_error_and_the_others_are_sent(make_client):
    with serving_batches(BatchServer()) as server:
        client = make_client(server, limits=BatchLimits(100, 1000))
        result = client.run_until_done([*CLIPS[:2], "clip " + "x" * 1000])
        assert sorted(outcomes(result).values()) == ["answered", "answered", "error"]
        assert "must fit into a batch of 1,000 bytes" in result.unfinished[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_budget_for_a_part_is_spent_in_several_batches(make_client, protocol):
    """The budget allows 5.5 cost bounds, and a response costs much less: later batches use what is left."""
    with serving_batches(BatchServer()) as server:
        client = make_client(server, protocol, usd=5.5 * MAX_USD)
        first = client.run()
        assert [len(b.items) for b in server.batches.values()] == [5]
        assert first.stop_reason.startswith("waiting for the batch")
        assert "does not allow the next request" in first.stop_reason
        for _ in range(60):
            result = client.run()
            assert client.ledger.spent_usd() <= 5.5 * MAX_USD + 1e-9
            if not result.stop_reason or not result.stop_reason.startswith("waiting"):
                break
        answered = len(outcomes(result))
        assert 5 < answered < 20
        assert answered * EXACT_USD + MAX_USD > 5.5 * MAX_USD  # nothing more fits
        assert result.stop_reason.startswith("the budget of")
        assert client.ledger.spent_usd() == pytest.approx(answered * EXACT_USD)
        client.ledger.budget = Budget(usd=1)
        done = client.run_until_done()
        assert len(outcomes(done)) == 20
        assert_each_paid_once(server)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_batch_answers_follow_the_rules_of_live_answers(make_client, protocol):
    """A filtered response is refused, a cut one truncated; a higher `max_tokens` sends only the cut one again."""
    special = {"user: clip 10": "!filter", "user: clip 11": "!length"}
    with serving_batches(BatchServer(answer=lambda content: special.get(content, "cat"))) as server:
        client = make_client(server, protocol)
        done = client.run_until_done()
        assert outcomes(done) | {} == dict.fromkeys(CLIPS, "answered") | {
            "clip 10": "refused",
            "clip 11": "truncated",
        }
        client.max_tokens = 20
        again = client.run_until_done()
        assert outcomes(again)["clip 11"] == "truncated"
        assert server.charged["user: clip 11"] == 2 and sum(server.charged.values()) == 21


def test_a_request_that_fails_in_every_batch_is_reported_and_the_next_run_sends_it_again(make_client):
    def outcome(batch, item, failures):
        return "answer" if batch == 0 and item else 503

    with serving_batches(BatchServer(outcome=outcome)) as server:
        client = make_client(server, retries=2)
        result = client.run_until_done()
        assert [len(b.items) for b in server.batches.values()] == [20, 1, 1]  # once, and two retries
        assert result.unfinished == ["1 requests ended in an error (HTTP 503 (failed))"]
        assert outcomes(result)["clip 10"] == "error"
        client.run()
        assert [len(b.items) for b in server.batches.values()] == [20, 1, 1, 1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rejected_parameter_is_left_out_of_the_next_batch(make_client, protocol):
    """Every request of the first batch is rejected for its temperature; nothing is charged for it."""
    rejected = (400, {"message": "`temperature` is deprecated for this model."})

    def outcome(batch, item, failures):
        return rejected if batch == 0 else "answer"

    with serving_batches(BatchServer(outcome=outcome)) as server:
        client = make_client(server, protocol)
        done = client.run_until_done()
        assert set(done.table["revision"].to_pylist()) == {"m without temperature"}
        bodies = [batch.items[0].body for batch in server.batches.values()]
        assert ["temperature" in body for body in bodies] == [True, False]
        assert client.ledger.spent_usd() == pytest.approx(20 * EXACT_USD)


def test_answers_of_another_model_are_used_only_after_they_are_accepted_and_paid_once(make_client):
    with serving_batches(BatchServer(model="gpt-4o-mini")) as server:
        client = make_client(server)
        client.endpoint = client.endpoint.model_copy(update={"prices": PRICES})
        backend_model = "gpt-4o"

        def run():
            questions = [Question({"clip": clip}, request(clip), ("dog", "cat")) for clip in CLIPS]

            def open_backend():
                return BatchBackend(
                    backend_model, client.endpoint, client.ledger, "gpt", client.store, IDENTITY, study="study"
                )

            return ask_all(questions, IDENTITY, client.store, open_backend, model=backend_model, revision=None)

        run(), run()
        for _ in range(2):
            with pytest.raises(NotAvailable, match=r"got responses of gpt-4o-mini.*accept: \[gpt-4o-mini\]"):
                run()
        assert client.store.count("response") == 0
        client.endpoint = client.endpoint.model_copy(update={"accept": ("gpt-4o-mini",)})
        assert len(outcomes(run())) == 20
        assert_each_paid_once(server)
        assert client.ledger.spent_usd() == pytest.approx(20 * EXACT_USD)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_machine_with_the_data_folder_continues(make_client, tmp_path, protocol):
    with serving_batches(BatchServer()) as server:
        client = make_client(server, protocol)
        client.run()
        client.ledger.close()
        client.store.close()
        (tmp_path / "other").mkdir()
        shutil.move(client.store.path, tmp_path / "other" / "results.sqlite")
        moved = Client(tmp_path / "other" / "results.sqlite", server, protocol)
        assert len(outcomes(moved.run_until_done())) == 20
        assert_each_paid_once(server)
        assert moved.ledger.spent_usd() == pytest.approx(20 * EXACT_USD)
        moved.close()


def test_two_studies_share_a_batch_that_is_not_answered_yet(make_client):
    with serving_batches(BatchServer()) as server:
        first, second = make_client(server), make_client(server, study="other")
        first.run()
        assert second.run().stop_reason.startswith("waiting for the batch")
        done = second.run_until_done()
        assert len(outcomes(done)) == 20
        assert_each_paid_once(server)
        assert len(outcomes(first.run())) == 20
        assert (first.ledger.spent_usd(), second.ledger.spent_usd()) == (pytest.approx(20 * EXACT_USD), 0)


@pytest.mark.parametrize("is_checksum_right", [True, False])
def test_a_damaged_response_is_replaced_by_that_of_a_batch_and_paid_once(make_client, is_checksum_right):
    with serving_batches(BatchServer()) as server:
        client = make_client(server)
        key = response_key(request("clip 10"), "generation", IDENTITY)
        client.store.put("response", [(key, b"{" if is_checksum_right else b"{}")])
        if not is_checksum_right:
            with client.store._transaction() as db:
                db.execute("UPDATE results SET payload = x'00' WHERE result_key = ?", [key])
        assert set(outcomes(client.run_until_done(CLIPS[:2])).values()) == {"answered"}
        another = make_client(server)
        assert set(outcomes(another.run(CLIPS[:2])).values()) == {"answered"}
        assert_each_paid_once(server, CLIPS[:2])


def test_a_batch_of_a_model_that_is_retired_meanwhile_is_collected_and_no_other_is_submitted(make_client, monkeypatch):
    with serving_batches(BatchServer()) as server:
        client = make_client(server)
        client.run(CLIPS[:2])
        reason = "OpenAI has retired m"
        monkeypatch.setattr(batch_backend, "retired_reason", lambda model, endpoint: reason)
        assert set(outcomes(client.run_until_done(CLIPS[:2])).values()) == {"answered"}
        with pytest.raises(NotAvailable, match=reason):
            client.run(CLIPS[:3])
        assert len(server.batches) == 1


def test_a_batch_that_fails_as_a_whole_costs_nothing(make_client):
    with serving_batches(BatchServer(fails_with=[("invalid_model", "The model m does not exist.")])) as server:
        client = make_client(server)
        client.run()
        with pytest.raises(NotAvailable, match="rejects the batch batch_0: invalid_model: The model m does not exist"):
            client.run()
        assert client.ledger.spent_usd() == 0


def test_a_full_queue_of_the_provider_is_waited_for(make_client):
    with serving_batches(BatchServer(fails_with=[("token_limit_exceeded", "Enqueued token limit reached.")])) as server:
        client = make_client(server)
        done = client.run_until_done()
        assert len(outcomes(done)) == 20 and len(server.batches) == 2
        assert_each_paid_once(server)


@pytest.mark.parametrize(
    ("status", "message"), [(401, "correct the key"), (404, "may have no batch API"), (402, "top up the account")]
)
def test_a_rejected_call_stops_and_costs_nothing(make_client, status, message):
    with serving_batches(BatchServer(fault=lambda call, n: status)) as server:
        client = make_client(server)
        with pytest.raises(NotAvailable, match=message):
            client.run()
        assert client.ledger.spent_usd() == 0 and not server.batches


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_not_there_stops_and_costs_nothing(make_client, protocol):
    with serving_batches(BatchServer()) as server:
        pass
    client = make_client(server, protocol, retries=0)
    with pytest.raises(NotAvailable, match="must accept connections"):
        client.run()
    assert client.ledger.spent_usd() == 0


def test_likelihoods_are_refused(make_client):
    with serving_batches(BatchServer()) as server:
        backend = make_client(server).open()
        with pytest.raises(VlmAudioError, match="must be generation in batches, got likelihood"):
            backend.ask([request("x").with_scorings("likelihood")], lambda i, reply: None)


def test_the_key_is_sent_only_as_a_header_and_never_to_another_host(make_client, monkeypatch, caplog):
    """`results_url` of the test server names another host, which the guard of the tests would refuse."""
    monkeypatch.setenv("TEST_KEY", "sk-secret-0123456789")
    with serving_batches(BatchServer()) as server:
        for protocol in PROTOCOLS:
            client = make_client(server, protocol, key="TEST_KEY")
            client.run_until_done(CLIPS[:3] if protocol == "openai" else CLIPS[3:6])
        assert all("sk-secret-0123456789" in json.dumps(headers) for headers in server.headers)
        with BatchLog(client.store) as log:
            assert log.open_batches(client.open().account) == []
    assert b"sk-secret" not in client.store.path.read_bytes()
    assert "sk-secret" not in caplog.text


def test_audio_is_refused_for_messages(make_client):
    audio = AudioPart(lambda rate: np.zeros(rate, np.float32), "0" * 64, 1.0)
    asked = Request((Message("user", (audio,)),), ("dog",), frozenset({"generation"}))
    with serving_batches(BatchServer()) as server:
        backend = make_client(server, "anthropic").open()
        with pytest.raises(VlmAudioError, match="use `input: image`"):
            backend.ask([asked], lambda i, reply: None)
        assert not server.batches
