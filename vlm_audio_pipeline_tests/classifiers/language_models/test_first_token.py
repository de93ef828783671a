"""Probabilities of the first token of a response, from a server that returns only the most likely tokens."""

import contextlib
import math

import pyarrow as pa
import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.language_models.asking import Question, ask_all
from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.first_token import first_tokens
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Request, Sampling
from vlm_audio_pipeline.classifiers.language_models.predicting import predict_from_responses
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.first_trial import FIRST_TRIAL
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving

CLASSES = ("dog", "rain", "sea_lion", "sea_waves")


def tokens(**probabilities):
    return [(text, math.log(p)) for text, p in probabilities.items()]


def test_spellings_of_a_token_are_added_and_other_tokens_belong_to_no_class():
    """0.5 + 0.2 of "dog" and " Dog"; "The" begins no label; " ra" begins rain."""
    found = first_tokens(
        [("dog", math.log(0.5)), (" Dog", math.log(0.2)), ("The", math.log(0.2)), ("▁ra", math.log(0.05))], CLASSES
    )
    assert found.probabilities == (pytest.approx(0.7), pytest.approx(0.05), None, None)
    assert found.reasons[2:] == ("not among the 4 most likely first tokens",) * 2
    assert (found.best, found.shared) == (0, None)


def test_classes_with_the_same_first_token_are_null_with_a_reason_and_never_0():
    found = first_tokens(tokens(sea=0.6, dog=0.3), CLASSES)
    assert found.probabilities == (pytest.approx(0.3), None, None, None)
    assert found.reasons[2:] == (
        "begins with the same token 'sea' as sea_waves",
        "begins with the same token 'sea' as sea_lion",
    )
    assert found.shared == pytest.approx(0.6)
    assert found.best is None  # the most likely first token does not tell which class


def test_a_likelier_token_of_one_class_decides_beside_a_shared_one():
    found = first_tokens(tokens(dog=0.6, sea=0.3, sea_w=0.05), CLASSES)
    assert (found.best, found.probabilities[3]) == (0, None)
    assert first_tokens(tokens(sea_w=0.6, sea=0.3), CLASSES).best == 3


def test_a_label_that_begins_another_label_is_not_told_apart():
    assert first_tokens(tokens(dog=0.9), ("dog", "dog barking")).probabilities == (None, None)


@pytest.mark.parametrize("candidates", [[], [("", -0.1)], [(" ", -0.1)], [("dog", -math.inf)]])
def test_tokens_without_text_or_probability_say_nothing(candidates):
    found = first_tokens(candidates, CLASSES)
    assert found.probabilities == (None,) * 4
    assert None not in found.reasons
    assert found.best is None


def request(*scorings, labels=CLASSES):
    return Request((Message("user", ("clip",)),), labels, frozenset(scorings), Sampling(max_tokens=10))


def body_with(top, text="dog", **message):
    body = completion(
        text, {"model": "m"}, {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42}, **message
    )
    listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top]
    if top:
        body["choices"][0]["logprobs"] = {"content": [{"token": "dog", "logprob": -0.1, "top_logprobs": listed}]}
    return body


@pytest.fixture
def responses(tmp_path):
    """Return a function that asks one question and returns its response rows by scoring, and the server."""
    with contextlib.closing(ResultStore(tmp_path / "results.sqlite")) as store:

        def send(body, *scorings):
            with serving(ServerScript(play=lambda question, attempt: (200, body))) as server:
                backend = EndpointBackend("m", Endpoint(url=server.url, retries=0), None, "c")
                question = Question({**FIRST_TRIAL, "clip": "a"}, request(*scorings), CLASSES)
                table = ask_all([question], {"m": 1}, store, lambda: backend, model="m", revision=None).table
            return table, server

        yield send


def predict(table):
    clips = pa.table({"clip": ["a"], "label": ["dog"], "source": ["s"]})
    rows = predict_from_responses(table, clips, CLASSES).to_pylist()
    return {row["scoring"]: row for row in rows}


def test_one_request_gives_the_text_and_the_first_tokens(responses):
    table, server = responses(body_with(tokens(dog=0.7, sea=0.2)), "generation", "first_token")
    (sent,) = server.bodies
    assert (sent["logprobs"], sent["top_logprobs"], sent["max_tokens"]) == (True, 20, 10)
    rows = {row["scoring"]: row for row in table.to_pylist()}
    first = rows["first_token"]
    assert dict(first["first_token_probabilities"]) == {"dog": pytest.approx(0.7)} | dict.fromkeys(CLASSES[1:])
    assert dict(first["first_token_reasons"])["rain"] == "not among the 2 most likely first tokens"
    assert first["first_token_shared"] == pytest.approx(0.2)
    assert (first["text"], first["log_probabilities"]) == (None, None)
    assert rows["generation"]["first_token_probabilities"] is None
    predicted = predict(table)
    assert (predicted["first_token"]["outcome"], predicted["first_token"]["predicted"]) == ("answered", "dog")
    assert (predicted["first_token"]["scores"], predicted["first_token"]["confidence"]) == (None, None)
    assert predicted["generation"]["predicted"] == "dog"


def test_a_shared_first_token_is_stored_and_predicts_no_class(responses):
    table, server = responses(body_with(tokens(sea=0.9, dog=0.05)), "first_token")
    assert server.bodies[0]["max_tokens"] == 1
    predicted = predict(table)["first_token"]
    assert (predicted["outcome"], predicted["predicted"], predicted["correct"]) == ("unparseable", None, False)


def test_a_response_that_begins_with_reasoning_has_no_first_token_of_the_answer(responses):
    table, _ = responses(body_with(tokens(dog=0.9), reasoning_content="Hm"), "first_token")
    (row,) = table.to_pylist()
    assert set(dict(row["first_token_reasons"]).values()) == {"the response begins with reasoning"}
    assert predict(table)["first_token"]["outcome"] == "unparseable"


def test_a_server_without_log_probabilities_is_not_available_and_its_text_is_kept(responses):
    with pytest.raises(NotAvailable, match="returned none; remove first_token from `scoring`"):
        responses(body_with([]), "generation", "first_token")
    table, server = responses(body_with([]), "generation")
    assert not server.bodies  # the text was stored
    assert table["text"].to_pylist() == ["dog"]


def test_first_tokens_are_requested_only_by_name_and_not_with_a_schema():
    assert EndpointLanguageModel(model="m", rendering="r").scorings == {"generation"}
    with pytest.raises(ValidationError, match="scoring must not contain first_token with `structured`"):
        EndpointLanguageModel(model="m", rendering="r", scoring=("first_token",), endpoint={"structured": True})
