"""The contract of a language-model backend, checked for every registered one."""

import json

import pytest
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS, LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Reply, Request
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.field_docs import field_docs
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, serving

RUNNABLE = {
    "transformers": {"model": "demo-janus", "device": "cpu"},
    "openai": {"model": "any-model"},
    "scripted": {"model": "scripted"},
}
"""Keys with which a backend answers requests on any machine. The address of the endpoint is that of a test server."""

each_backend = pytest.mark.parametrize("backend", BACKENDS.all())


@pytest.fixture
def server():
    with serving(ServerScript()) as server:
        yield server


@pytest.fixture
def spec(backend, server) -> LanguageModel:
    endpoint = {"endpoint": {"url": server.url}} if backend == "openai" else {}
    values = {"backend": backend, "rendering": "small", **RUNNABLE[backend], **endpoint}
    return LanguageModel.spec_class(values).model_validate(values)


@each_backend
def test_a_backend_is_a_language_model_of_its_own_name(backend):
    spec_class = BACKENDS.get(backend)
    assert issubclass(spec_class, CLASSIFIERS.get("language_model"))
    assert spec_class.kind == "language_model"
    assert spec_class.backend_name == backend == spec_class.model_fields["backend"].default
    assert LanguageModel.spec_class({"backend": backend}) is spec_class
    assert set(spec_class.supported_scorings) <= {"likelihood", "generation", "first_token"}


@each_backend
def test_every_key_of_a_backend_is_documented(backend):
    spec_class = BACKENDS.get(backend)
    assert [name for name in spec_class.model_fields if name not in field_docs(spec_class)] == []


@each_backend
def test_the_identity_of_the_model_can_be_hashed_and_names_the_backend(backend, spec):
    identity = spec.model_identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["backend"] == backend


@each_backend
def test_a_backend_declares_its_needs_and_stages(backend, spec):
    needs = spec.needs()
    assert needs.asks_per_clip
    assert needs.rendering == "small"
    assert needs.weights == spec.weights
    assert needs.card is not None and needs.card.title
    assert spec.unavailable() is None
    assert [stage.asset for stage in spec.stages("model", (1, 2))] == ["responses", "predictions"]
    assert spec.cost(5).requests == 5


@each_backend
def test_every_request_gets_one_reply_with_the_scorings_it_asks_for(backend, spec, tmp_path):
    result_store = ResultStore(tmp_path / "results.sqlite")
    context = StageContext("study", "model", 1, ("dog", "rain"), {}, None, result_store, engine=LocalEngine())
    requests = [
        Request((Message("user", (f"Which sound is clip {i}?",)),), ("dog", "rain"), spec.scorings) for i in range(3)
    ]
    replies: dict[int, Reply] = {}
    spec.open_backend(context).close()
    opened = spec.open_backend(context)  # after it was closed, too
    assert opened.ask(requests, replies.__setitem__) is None
    opened.close()
    result_store.close()
    assert sorted(replies) == [0, 1, 2]
    for reply in replies.values():
        assert reply.outcome == "answered", reply.error
        assert isinstance(reply.text, str)
        assert (reply.log_probabilities is not None) == ("likelihood" in spec.scorings)
        assert reply.usage.seconds is not None


@each_backend
def test_a_scoring_that_the_backend_cannot_compute_is_refused(backend):
    spec_class = BACKENDS.get(backend)
    scored = {"endpoint": {"likelihood": "prompt_logprobs", "end_token": "</s>"}} if backend == "openai" else {}
    values = {"rendering": "small", **RUNNABLE[backend], **scored}
    for scoring in ("likelihood", "generation"):
        if scoring in spec_class.supported_scorings:
            assert spec_class(scoring=(scoring,), **values).scorings == {scoring}
        else:
            with pytest.raises(ValidationError, match=f"for backend {backend}, got {scoring}; remove it"):
                spec_class(scoring=(scoring,), **values)


@each_backend
def test_a_key_of_another_backend_is_refused_with_the_name_of_that_backend(backend):
    spec_class = BACKENDS.get(backend)
    for name, other in BACKENDS.all().items():
        for key in other.model_fields.keys() - spec_class.model_fields:
            with pytest.raises(VlmAudioError, match=f"{key} is a key of backend {name}, got backend {backend}"):
                LanguageModel.spec_class({"backend": backend, key: None})


def test_an_unknown_backend_is_refused_with_the_names_of_all():
    with pytest.raises(VlmAudioError, match=r"unknown language model backend kind 'opnai'; did you mean 'openai'\?"):
        LanguageModel.spec_class({"backend": "opnai"})
