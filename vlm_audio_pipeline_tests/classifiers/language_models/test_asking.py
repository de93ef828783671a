"""No request is sent twice, no response is lost, and every question has a row with its outcome."""

import hashlib
from dataclasses import replace

import pytest

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message, Reply, Request, Sampling, Usage
from vlm_audio_pipeline.classifiers.language_models.response_keys import response_key, truncated_key
from vlm_audio_pipeline.classifiers.language_models.scripted import Script, ScriptedBackend
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.asked_again import successor_key
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.first_trial import FIRST_TRIAL

CLASSES = ("dog", "rain")
BOTH = frozenset({"likelihood", "generation"})
GREEDY = Sampling()
DEFAULT_SCRIPT = Script()
MODEL_IDENTITY = {"backend": "transformers", "revision": "abc", "dtype": "float32"}


def request(
    sha: str = "0", scorings=BOTH, text: str = "Which?", labels=CLASSES, sampling: Sampling = GREEDY
) -> Request:
    return Request((Message("user", (text, ImagePart(b"png", "image/png", sha))),), labels, scorings, sampling)


def question(clip: str, result: Request | None = None, control: str = "none") -> Question:
    return Question({**FIRST_TRIAL, "clip": clip, "control": control}, result or request(clip), CLASSES)


class Recorder:
    """A scripted backend that records its requests and stops after `max_requests`."""

    def __init__(self, script: Script = DEFAULT_SCRIPT, max_requests: int = 1000):
        self.requests: list[Request] = []
        self.max_requests = max_requests
        self.inner = ScriptedBackend(script)

    def ask(self, requests, answered):
        for i, single_request in enumerate(requests):
            if len(self.requests) == self.max_requests:
                return "the budget is spent"
            self.requests.append(single_request)
            self.inner.ask([single_request], lambda _, reply, i=i: answered(i, reply))
        return None

    def close(self):
        """Do nothing."""


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


def send(questions, rows, backend, revision="abc"):
    return ask_all(questions, MODEL_IDENTITY, rows, lambda: backend, model="m", revision=revision)


def test_every_question_has_a_row_for_each_scoring(rows):
    result = send([question("a"), question("b")], rows, Recorder())
    table = result.table.to_pylist()
    assert [(r["clip"], r["scoring"]) for r in table] == [
        ("a", "generation"), ("a", "likelihood"), ("b", "generation"), ("b", "likelihood")
    ]  # fmt: skip
    for row in table:
        assert row["outcome"] == "answered" and row["error"] is None and row["revision"] == "abc" and row["answered_at"]
        assert (row["text"] is None) == (row["scoring"] == "likelihood")
        assert (row["log_probabilities"] is None) == (row["scoring"] == "generation")
    assert [c for c, _ in table[1]["log_probabilities"]] == list(CLASSES)
    assert result.unfinished == [] and result.requests == 2


def test_stored_responses_are_not_requested_again(rows):
    first = send([question("a"), question("b")], rows, Recorder())
    second_backend = Recorder()
    second = send([question("b"), question("a")], rows, second_backend)
    assert second_backend.requests == [] and second.requests == 0
    assert first.table.sort_by("result_key").equals(second.table.sort_by("result_key"))


def test_the_backend_is_not_created_without_a_missing_response(rows):
    send([question("a")], rows, Recorder())

    def refuse():
        raise AssertionError("the backend was created")

    ask_all([question("a")], MODEL_IDENTITY, rows, refuse, model="m", revision="abc")


def test_only_the_missing_scoring_is_requested(rows):
    send([question("a", request("a", frozenset({"likelihood"})))], rows, Recorder())
    backend = Recorder()
    result = send([question("a")], rows, backend)
    assert [r.scorings for r in backend.requests] == [{"generation"}]
    assert result.table.num_rows == 2


def test_equal_questions_share_one_request_and_have_a_row_for_each_clip(rows):
    backend = Recorder()
    result = send([question(c, request("blank"), "blank") for c in "abc"], rows, backend)
    assert len(backend.requests) == 1
    assert sorted(result.table["clip"].to_pylist()) == ["a", "a", "b", "b", "c", "c"]


def test_a_chunk_with_a_missing_response_is_asked_again_as_a_whole_and_stored_responses_stay(rows):
    """11 requests in chunks of 4 have the chunks 0-3, 4-7 and 8-10. Without the response 5, the requests 4-7 are sent again."""
    questions = [question(str(n)) for n in range(11)]
    before = send([q for n, q in enumerate(questions) if n != 5], rows, Recorder()).table.to_pylist()
    backend = Recorder()
    backend.chunk_size = 4
    after = send(questions, rows, backend)
    assert [r.messages[0].parts[1].sha256 for r in backend.requests] == ["4", "5", "6", "7"]
    assert all(r.scorings == BOTH for r in backend.requests)
    assert [row for row in after.table.to_pylist() if row["clip"] != "5"] == before
    backend.requests.clear()
    send(questions, rows, backend)
    assert backend.requests == []


def test_errors_have_rows_and_are_requested_again(rows):
    backend = Recorder(Script(fails=1))
    result = send([question("a"), question("b")], rows, backend)
    assert {r["outcome"] for r in result.table.to_pylist()} == {"error"} and result.table.num_rows == 4
    assert result.unfinished == ["4 requests ended in an error (the script makes this request fail)"]
    assert rows.count("response") == 0
    good = send([question("a"), question("b")], rows, Recorder())
    assert good.requests == 2 and good.unfinished == []


def test_unsent_questions_have_no_row_and_are_sent_in_the_next_run(rows):
    result = send([question(c) for c in "abcd"], rows, Recorder(max_requests=3))
    assert result.table.num_rows == 6 and result.unfinished == ["the budget is spent"]
    rest = Recorder()
    assert send([question(c) for c in "abcd"], rows, rest).table.num_rows == 8
    assert [r.messages[-1].content() for r in rest.requests] == [request("d").messages[-1].content()]


def test_responses_before_a_crash_are_kept(rows):
    class FailingBackend(Recorder):
        def ask(self, requests, answered):
            super().ask(requests[:2], answered)
            raise NotAvailable("gone")

    with pytest.raises(NotAvailable):
        send([question(c) for c in "abc"], rows, FailingBackend())
    rest = Recorder()
    send([question(c) for c in "abc"], rows, rest)
    assert len(rest.requests) == 1


def test_the_model_name_of_the_endpoint_replaces_an_unknown_revision(rows):
    class NamingBackend(Recorder):
        def ask(self, requests, answered):
            answered(0, Reply("answered", text="dog", model="gpt-x-2026 fp_1", usage=Usage(usd=0.5)))

    result = send([question("a", request("a", frozenset({"generation"})))], rows, NamingBackend(), revision=None)
    [row] = result.table.to_pylist()
    assert (row["revision"], row["usd"], row["model"]) == ("gpt-x-2026 fp_1", 0.5, "m")


BASE = request("a")


@pytest.mark.parametrize(
    "other",
    [
        request("b"),
        request("a", text="Which one?"),
        request("a", labels=("dog", "rooster")),
        replace(BASE, messages=(Message("system", ("Be brief.",)), *BASE.messages)),
        replace(BASE, messages=(replace(BASE.messages[0], role="assistant"),)),
    ],
    ids=["image", "text", "labels", "system turn", "role"],
)
def test_everything_that_can_change_a_response_changes_its_key(other):
    for scoring in ("likelihood", "generation"):
        assert response_key(BASE, scoring, MODEL_IDENTITY) != response_key(other, scoring, MODEL_IDENTITY)


def test_sampling_changes_the_key_of_generation_and_not_of_likelihood():
    for sampling in (Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(seed=1)):
        other = replace(BASE, sampling=sampling)
        assert response_key(BASE, "generation", MODEL_IDENTITY) != response_key(other, "generation", MODEL_IDENTITY)
        assert response_key(BASE, "likelihood", MODEL_IDENTITY) == response_key(other, "likelihood", MODEL_IDENTITY)


class Truncating(Recorder):
    """Cuts off every response that needs more than `needed` tokens."""

    def __init__(self, needed: int):
        super().__init__()
        self.needed = needed

    def ask(self, requests, answered):
        for i, single_request in enumerate(requests):
            self.requests.append(single_request)
            is_cut_off = single_request.sampling.max_tokens < self.needed
            answered(i, Reply("truncated", text="It is a d") if is_cut_off else Reply("answered", text="dog"))


def with_limit(clip: str, max_tokens: int) -> Question:
    return question(clip, request(clip, frozenset({"generation"}), sampling=Sampling(max_tokens=max_tokens)))


def test_a_truncated_response_is_stored_and_requested_again_only_with_a_higher_limit(rows):
    first = send([with_limit("a", 8)], rows, Truncating(20))
    assert first.table["outcome"].to_pylist() == ["truncated"] and first.unfinished == []
    backend = Truncating(20)
    again = send([with_limit("a", 8)], rows, backend)
    assert backend.requests == [] and again.table.equals(first.table)
    assert rows.get(first.table["result_key"].to_pylist())
    higher = send([with_limit("a", 64)], rows, backend)
    assert len(backend.requests) == 1 and higher.table["text"].to_pylist() == ["dog"]


def test_another_limit_requests_no_complete_response_again(rows):
    send([with_limit("a", 64), with_limit("b", 64)], rows, Truncating(20))
    backend = Truncating(20)
    assert send([with_limit("a", 128), with_limit("b", 128)], rows, backend).requests == 0


def test_the_likelihood_is_complete_if_the_generated_text_is_cut_off(rows):
    class BothScorings(Recorder):
        def ask(self, requests, answered):
            for i, _ in enumerate(requests):
                answered(i, Reply("truncated", text="It is", log_probabilities=(-1.0, -2.0), label_tokens=(2, 2)))

    table = send([question("a")], rows, BothScorings()).table
    outcomes = dict(zip(table["scoring"].to_pylist(), table["outcome"].to_pylist(), strict=True))
    assert outcomes == {"generation": "truncated", "likelihood": "answered"}


def test_the_key_depends_on_the_model_and_on_the_hash_of_an_image():
    assert response_key(BASE, "generation", MODEL_IDENTITY) != response_key(
        BASE, "generation", {**MODEL_IDENTITY, "revision": "abd"}
    )
    same = replace(BASE, messages=(Message("user", ("Which?", ImagePart(b"other bytes", "image/png", "a"))),))
    assert response_key(BASE, "generation", MODEL_IDENTITY) == response_key(same, "generation", MODEL_IDENTITY)
    assert response_key(BASE, "generation", MODEL_IDENTITY) != response_key(BASE, "likelihood", MODEL_IDENTITY)


def test_the_cost_of_a_shared_request_is_in_the_table_once(rows):
    class PricedBackend(Recorder):
        def ask(self, requests, answered):
            for i, single_request in enumerate(requests):
                self.requests.append(single_request)
                answered(i, Reply("answered", text="dog", usage=Usage(usd=0.25)))

    blank = request("blank", scorings=frozenset({"generation"}))
    other = request("other", scorings=frozenset({"generation"}))
    questions = [question("a", blank), question("b", blank), question("c", other), question("d", blank)]
    for backend in (PricedBackend(), PricedBackend()):  # for the second backend, all responses are stored
        table = send(questions, rows, backend).table
        assert table["usd"].to_pylist() == [0.25, 0.0, 0.25, 0.0]
    assert len(backend.requests) == 0


def test_the_cost_of_a_paid_error_is_in_the_table_once(rows):
    """Two errors cost 0.005 and 0.25 USD; the first has three rows. Usage without counts stays null."""
    text = {
        "blank": Usage(1000, 200, 32, 1.5, usd=0.005),
        "other": Usage(400, None, 8, 2.0, usd=0.25),
        "lost": Usage(),
    }

    class ChargingBackend(Recorder):
        def ask(self, requests, answered):
            for i, single_request in enumerate(requests):
                usage = text[single_request.messages[-1].content()[-1][0]]
                answered(i, Reply("error", error="no text was generated within max_tokens", usage=usage))

    stored = {name: request(name, scorings=frozenset({"generation"})) for name in text}
    clips = {"a": "blank", "b": "blank", "c": "other", "d": "blank", "e": "lost"}
    table = send([question(clip, stored[name]) for clip, name in clips.items()], rows, ChargingBackend()).table
    assert table["usd"].to_pylist() == [0.005, 0.0, 0.25, 0.0, None]
    assert table["input_tokens"].to_pylist() == [1000, 1000, 400, 1000, None]
    assert table["cached_tokens"].to_pylist() == [200, 200, None, 200, None]
    assert table["output_tokens"].to_pylist() == [32, 32, 8, 32, None]
    assert table["seconds"].to_pylist() == [1.5, 1.5, 2.0, 1.5, None]
    assert set(table["outcome"].to_pylist()) == {"error"} and rows.count("response") == 0


@pytest.mark.parametrize(
    ("scoring", "options"), [("likelihood", '["dog","rain"]'), ("generation", '[0.0,1.0,32,0,"dog","rain"]')]
)
def test_response_keys_do_not_change_between_versions(scoring, options):
    """Keys of `RESPONSE_VERSION` 1: the SHA-256 of this JSON. Change them only together with that version."""
    text_only = Request((Message("user", ("Which?",)),), CLASSES, frozenset({"generation"}), Sampling())
    key_json = f'["answer",1,{{"backend":"openai","model":"gpt-4o"}},"{scoring}",[["user","Which?"]],{options}]'
    key = response_key(text_only, scoring, {"model": "gpt-4o", "backend": "openai"})
    assert key == hashlib.sha256(key_json.encode()).hexdigest()


def test_the_keys_of_truncated_and_superseded_responses_do_not_change_between_versions():
    assert truncated_key("k", 5) == hashlib.sha256(b'["truncated","k",5]').hexdigest()
    assert successor_key("k") == hashlib.sha256(b'["successor","k"]').hexdigest()
