"""Requests: none is sent twice, no response is lost, and every question has a row with its outcome."""

from dataclasses import replace

import pytest

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all, response_key
from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart, Message, Reply, Request, Sampling, Usage
from vlm_audio_pipeline.classifiers.language_models.scripted import Script, ScriptedBackend
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.result_store import ResultStore

CLASSES = ("dog", "rain")
BOTH = frozenset({"likelihood", "generation"})
GREEDY = Sampling()
WILLING = Script()
MODEL_IDENTITY = {"backend": "transformers", "revision": "abc", "dtype": "float32"}


def request(
    sha: str = "0", scorings=BOTH, prompt_text: str = "Which?", labels=CLASSES, sampling: Sampling = GREEDY
) -> Request:
    return Request((Message("user", (prompt_text, ImagePart(b"png", "image/png", sha))),), labels, scorings, sampling)


def question(clip: str, result: Request | None = None, control: str = "none") -> Question:
    row_columns = {"clip": clip, "control": control, "trial": 0, "draw": 0, "class_order": 0, "wording": 0, "repeat": 0}
    return Question(row_columns, result or request(clip), CLASSES)


class Recorder:
    """A scripted backend that records its requests and stops after `max_requests`."""

    def __init__(self, script: Script = WILLING, max_requests: int = 1000):
        self.requests: list[Request] = []
        self.most = max_requests
        self.inner = ScriptedBackend(script)

    def ask(self, requests, answered):
        for i, single_request in enumerate(requests):
            if len(self.requests) == self.most:
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


def test_nothing_is_asked_twice(rows):
    first = send([question("a"), question("b")], rows, Recorder())
    again = Recorder()
    second = send([question("b"), question("a")], rows, again)
    assert again.requests == [] and second.requests == 0
    assert first.table.sort_by("result_key").equals(second.table.sort_by("result_key"))


def test_no_backend_is_made_where_nothing_is_to_be_asked(rows):
    send([question("a")], rows, Recorder())

    def refuse():
        raise AssertionError("made")

    ask_all([question("a")], MODEL_IDENTITY, rows, refuse, model="m", revision="abc")


def test_only_the_scoring_that_is_missing_is_asked_for(rows):
    send([question("a", request("a", frozenset({"likelihood"})))], rows, Recorder())
    backend = Recorder()
    result = send([question("a")], rows, backend)
    assert [r.scorings for r in backend.requests] == [{"generation"}]
    assert result.table.num_rows == 2


def test_equal_questions_are_asked_once_and_answer_for_each_clip(rows):
    backend = Recorder()
    result = send([question(c, request("blank"), "blank") for c in "abc"], rows, backend)
    assert len(backend.requests) == 1
    assert sorted(result.table["clip"].to_pylist()) == ["a", "a", "b", "b", "c", "c"]


def test_errors_are_rows_and_are_asked_again(rows):
    backend = Recorder(Script(fails=1))
    result = send([question("a"), question("b")], rows, backend)
    assert {r["outcome"] for r in result.table.to_pylist()} == {"error"} and result.table.num_rows == 4
    assert result.unfinished == ["4 requests ended in an error (the script makes this request fail)"]
    assert rows.count("response") == 0
    good = send([question("a"), question("b")], rows, Recorder())
    assert good.requests == 2 and good.unfinished == []


def test_what_nobody_got_to_has_no_row_and_is_asked_next_time(rows):
    result = send([question(c) for c in "abcd"], rows, Recorder(max_requests=3))
    assert result.table.num_rows == 6 and result.unfinished == ["the budget is spent"]
    rest = Recorder()
    assert send([question(c) for c in "abcd"], rows, rest).table.num_rows == 8
    assert [r.messages[-1].content() for r in rest.requests] == [request("d").messages[-1].content()]


def test_what_was_answered_before_a_crash_is_kept(rows):
    class Dies(Recorder):
        def ask(self, requests, answered):
            super().ask(requests[:2], answered)
            raise NotAvailable("gone")

    with pytest.raises(NotAvailable):
        send([question(c) for c in "abc"], rows, Dies())
    rest = Recorder()
    send([question(c) for c in "abc"], rows, rest)
    assert len(rest.requests) == 1


def test_the_endpoint_says_which_model_it_was_where_no_revision_is_known(rows):
    class Names(Recorder):
        def ask(self, requests, answered):
            answered(0, Reply("answered", text="dog", model="gpt-x-2026 fp_1", usage=Usage(usd=0.5)))

    result = send([question("a", request("a", frozenset({"generation"})))], rows, Names(), revision=None)
    [row] = result.table.to_pylist()
    assert (row["revision"], row["usd"], row["model"]) == ("gpt-x-2026 fp_1", 0.5, "m")


BASE = request("a")


@pytest.mark.parametrize(
    "other",
    [
        request("b"),
        request("a", prompt_text="Which one?"),
        request("a", labels=("dog", "rooster")),
        replace(BASE, messages=(Message("system", ("Be brief.",)), *BASE.messages)),
        replace(BASE, messages=(replace(BASE.messages[0], role="assistant"),)),
    ],
    ids=["image", "text", "labels", "system turn", "role"],
)
def test_whatever_can_change_an_answer_changes_its_key(other):
    for scoring in ("likelihood", "generation"):
        assert response_key(BASE, scoring, MODEL_IDENTITY) != response_key(other, scoring, MODEL_IDENTITY)


def test_sampling_changes_the_key_of_what_is_generated_and_not_of_likelihoods():
    for sampling in (Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(max_tokens=8), Sampling(seed=1)):
        other = replace(BASE, sampling=sampling)
        assert response_key(BASE, "generation", MODEL_IDENTITY) != response_key(other, "generation", MODEL_IDENTITY)
        assert response_key(BASE, "likelihood", MODEL_IDENTITY) == response_key(other, "likelihood", MODEL_IDENTITY)


def test_the_asker_changes_the_key_and_the_bytes_of_a_image_count_only_by_their_hash():
    assert response_key(BASE, "generation", MODEL_IDENTITY) != response_key(
        BASE, "generation", {**MODEL_IDENTITY, "revision": "abd"}
    )
    same = replace(BASE, messages=(Message("user", ("Which?", ImagePart(b"other bytes", "image/png", "a"))),))
    assert response_key(BASE, "generation", MODEL_IDENTITY) == response_key(same, "generation", MODEL_IDENTITY)
    assert response_key(BASE, "generation", MODEL_IDENTITY) != response_key(BASE, "likelihood", MODEL_IDENTITY)


def test_what_was_paid_once_is_in_the_table_once(rows):
    class Priced(Recorder):
        def ask(self, requests, answered):
            for i, single_request in enumerate(requests):
                self.requests.append(single_request)
                answered(i, Reply("answered", text="dog", usage=Usage(usd=0.25)))

    blank = request("blank", scorings=frozenset({"generation"}))
    other = request("other", scorings=frozenset({"generation"}))
    questions = [question("a", blank), question("b", blank), question("c", other), question("d", blank)]
    for backend in (Priced(), Priced()):  # the second finds all stored
        table = send(questions, rows, backend).table
        assert table["usd"].to_pylist() == [0.25, 0.0, 0.25, 0.0]
    assert len(backend.requests) == 0


def test_an_error_that_was_paid_costs_once_what_it_cost(rows):
    """Two errors of 0.005 and 0.25 USD, the first of which serves three rows; what nobody counted stays unknown."""
    prompt_text = {
        "blank": Usage(1000, 200, 32, 1.5, usd=0.005),
        "other": Usage(400, None, 8, 2.0, usd=0.25),
        "lost": Usage(),
    }

    class Charges(Recorder):
        def ask(self, requests, answered):
            for i, single_request in enumerate(requests):
                usage = prompt_text[single_request.messages[-1].content()[-1][0]]
                answered(i, Reply("error", error="no text was generated within max_tokens", usage=usage))

    stored = {name: request(name, scorings=frozenset({"generation"})) for name in prompt_text}
    clips = {"a": "blank", "b": "blank", "c": "other", "d": "blank", "e": "lost"}
    table = send([question(clip, stored[name]) for clip, name in clips.items()], rows, Charges()).table
    assert table["usd"].to_pylist() == [0.005, 0.0, 0.25, 0.0, None]
    assert table["input_tokens"].to_pylist() == [1000, 1000, 400, 1000, None]
    assert table["cached_tokens"].to_pylist() == [200, 200, None, 200, None]
    assert table["output_tokens"].to_pylist() == [32, 32, 8, 32, None]
    assert table["seconds"].to_pylist() == [1.5, 1.5, 2.0, 1.5, None]
    assert set(table["outcome"].to_pylist()) == {"error"} and rows.count("response") == 0


@pytest.mark.parametrize(
    ("scoring", "key"),
    [
        ("likelihood", "613a73073298b3aeac080c5742c8a408012977db5adf09e32fed0dbbf42f5eb0"),
        ("generation", "0a1e753ab7948734af0fede9b5114e3893caf25d5fde983c56df022fdd3618b0"),
    ],
)
def test_response_keys_stay_so_that_nothing_is_paid_twice(scoring, key):
    """Keys of `RESPONSE_VERSION` 1; change them only together with that version."""
    text_only = Request((Message("user", ("Which?",)),), CLASSES, frozenset({"generation"}), Sampling())
    assert response_key(text_only, scoring, {"backend": "openai", "model": "gpt-4o"}) == key
