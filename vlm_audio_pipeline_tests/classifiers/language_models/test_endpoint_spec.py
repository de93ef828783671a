"""Valid and invalid endpoint sections of a study."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import EndpointBackend, not_run_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.contracts.errors import BadStudy, NotAvailable
from vlm_audio_pipeline.studies.loading import load_study

GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
SECRET = "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8t"


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)


@pytest.mark.parametrize(
    "values",
    [
        {"key": SECRET},
        {"key": "sk-1"},
        {"key": ["sk-1"]},
        {"key": {"sk-1": "sk-2"}},
        {"key": "AIzaSyA-0123"},
        {"key": "my_key"},
        {"key": "0A1B2C3D4E5F60718293A4B5C6D7E8F9"},
        {"key": "A1B2C3D4E5F60718293A4B5C6D7E8F9"},
        {"key": ""},
        {"key": "A B"},
    ],
)
def test_a_key_in_the_study_is_refused_and_not_printed(values):
    with pytest.raises(ValidationError, match="must be the NAME of an environment variable") as caught:
        Endpoint(**values)
    assert "sk-" not in str(caught.value.errors(include_input=False))
    if values["key"]:
        assert str(values["key"]) not in str(caught.value)
        assert str(values["key"]) not in repr(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1",
        "http://192.168.1.7:8000/v1",
        "http://0.0.0.0:8000/v1",
        "http://localhost.example.com/v1",
        "http://127.0.0.1.example.com/v1",
        "http://[::ffff:8.8.8.8]/v1",
    ],
)
def test_a_key_is_never_sent_unencrypted_to_another_machine(url):
    with pytest.raises(ValidationError, match="must be https for a host that is not this machine"):
        Endpoint(url=url, key="SOME_KEY")


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com", "ftp://x/v1", "https:///v1", "https://u:p@x/v1", "https://x/v1?key=abc", "https://x/#y"],
)
def test_an_url_must_not_contain_credentials_query_or_fragment(url):
    with pytest.raises(ValidationError, match=r"must start with https|must be an address only") as caught:
        Endpoint(url=url, key="SOME_KEY")
    assert "u:p" not in str(caught.value)
    assert "key=abc" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://127.0.0.1:8000/v1/", "http://127.9.9.9/v1", "http://[::1]:9/v1"]
)
def test_a_loopback_endpoint_needs_no_key_tls_or_budget(url):
    endpoint = Endpoint(url=url)
    assert endpoint.is_loopback
    assert endpoint.key_variable is None
    assert endpoint.unavailable() is None
    assert not_run_reason("any-model", endpoint, has_budget=False) is None


def test_a_key_is_sent_only_to_its_own_provider(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert Endpoint().read_key() == SECRET
    assert Endpoint(url="http://127.0.0.1:8000/v1").read_key() is None
    with pytest.raises(ValidationError, match="key is required for generativelanguage"):
        Endpoint(url=GEMINI)
    assert Endpoint(url=GEMINI, key="GEMINI_API_KEY").read_key() is None


def test_a_missing_key_is_reported_with_the_name_of_its_variable(monkeypatch):
    assert "OPENAI_API_KEY must contain the key of api.openai.com" in Endpoint().unavailable()
    local = Endpoint(url="http://localhost:1/v1", key="LOCAL_KEY")
    assert "LOCAL_KEY" in local.unavailable()
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    assert Endpoint().unavailable() is None
    assert Endpoint().read_key() == SECRET


@pytest.mark.parametrize("value", [f"{SECRET}\r\nX: y", f"{SECRET} {SECRET}", f"{SECRET}ü"])
def test_a_key_that_is_invalid_in_a_header_is_refused_without_printing_it(monkeypatch, value):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    reason = Endpoint().unavailable()
    assert "set it to the key alone" in reason
    assert SECRET not in reason


def test_without_a_budget_only_a_loopback_endpoint_is_allowed(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(NotAvailable, match=r"api\.openai\.com may charge: the study needs a `budget"):
        EndpointBackend("gpt-4o", Endpoint(), None, "gpt4o")
    priced = Endpoint(url=GEMINI, key="OPENAI_API_KEY", prices=Prices(input=0, output=0))
    with pytest.raises(NotAvailable, match="needs a `budget"):
        EndpointBackend("gemini-3", priced, None, "gemini")


def test_a_model_without_prices_is_refused_with_instructions_to_declare_them(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert "endpoint: {prices: {input:" in not_run_reason("gpt-99", Endpoint(), has_budget=True)
    assert not_run_reason("gpt-4o", Endpoint(), has_budget=True) is None
    assert not_run_reason("gpt-99", Endpoint(prices=Prices(input=1, output=1)), has_budget=True) is None


def test_fields_that_can_change_a_response_are_in_the_fingerprint():
    assert Endpoint().fingerprint_fields() == {}
    assert Endpoint(url="https://API.openai.com:443/v1/", detail="auto").fingerprint_fields() == {}
    assert Endpoint(detail="low", structured=True, sample_rate=16000).fingerprint_fields() == {
        "detail": "low",
        "structured": True,
        "sample_rate": 16000,
    }
    assert Endpoint(url=GEMINI, key="K").fingerprint_fields() == {
        "url": "generativelanguage.googleapis.com/v1beta/openai"
    }
    assert Endpoint(url="https://a.b:8443/v1", key="K").fingerprint_fields() == {"url": "a.b:8443/v1"}
    local = {
        Endpoint(url=f"http://{host}/v1").fingerprint_fields()["url"]
        for host in ("localhost:1", "127.0.0.1:2", "[::1]:3")
    }
    assert local == {"loopback"}


def test_fields_that_cannot_change_a_response_are_not_in_the_fingerprint():
    other = {
        "key": "ANOTHER_KEY",
        "prices": Prices(input=1, output=2),
        "image_tokens": 7,
        "timeout_s": 1,
        "concurrency": 3,
        "retries": 0,
        "accept": ("other-model",),
        "retires": "never",
        "batch": "openai",
    }
    assert Endpoint(**other).fingerprint_fields() == {}
    hidden = {n for n, f in Endpoint.model_fields.items() if (f.json_schema_extra or {}).get("in_fingerprint") is False}
    assert hidden == set(other)


@given(
    st.dictionaries(
        st.sampled_from(["timeout_s", "concurrency", "retries", "detail", "pirces"]), st.integers(-5, -1), min_size=1
    )
)
def test_values_out_of_range_and_unknown_keys_are_refused(values):
    with pytest.raises(ValidationError):
        Endpoint(**values)


STUDY = """name: s
dataset: {kind: synthetic}
renderings: {r: {preset: plain, size: 32}}
classifiers:
  a:
    kind: language_model
    backend: openai
    model: m
    rendering: r
    scoring: %s
    endpoint:
      url: %s
      key: SOME_KEY
      %s
budget: {usd: 1}
"""
LOCAL, ANTHROPIC = "http://127.0.0.1:1/v1", "https://api.anthropic.com/v1"


@pytest.mark.parametrize(
    ("url", "batch"),
    [
        (LOCAL, "batch: anthropic"),
        (LOCAL, "batch: openai, protocol: anthropic"),
        (ANTHROPIC, "batch: true"),
        (ANTHROPIC, "batch: openai"),
        (ANTHROPIC, "batch: anthropic"),
    ],
)
def test_batches_of_another_protocol_than_live_requests_are_refused_with_file_line_and_key(tmp_path, url, batch):
    """Both share their responses, so their requests must have one form."""
    file = tmp_path / "study.yaml"
    file.write_text(STUDY % ("[generation]", url, batch.replace(", ", "\n      ")))
    with pytest.raises(BadStudy, match=r"protocol: (openai|anthropic)`") as error:
        load_study(file)
    assert "study.yaml:14: classifiers.a.endpoint.batch: " in str(error.value)


@pytest.mark.parametrize(("protocol", "batch"), [("openai", "openai"), ("anthropic", "anthropic"), ("anthropic", True)])
def test_batches_of_the_protocol_are_allowed(protocol, batch):
    assert Endpoint(url="http://127.0.0.1:1/v1", protocol=protocol, batch=batch).batch == batch


@pytest.mark.parametrize(
    ("scoring", "keys"),
    [
        ("[generation, first_token]", "batch: true"),
        ("[generation, likelihood]", "{batch: true, likelihood: prompt_logprobs, end_token: x}"),
        ("[]", "{batch: true, likelihood: prompt_logprobs, end_token: x}"),
    ],
)
def test_scorings_that_batches_do_not_return_are_refused(tmp_path, scoring, keys):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY % (scoring, LOCAL, keys.strip("{}").replace(", ", "\n      ")))
    with pytest.raises(BadStudy, match=r"study\.yaml:\d+: classifiers\.a.*scoring must be \[generation\] with `batch`"):
        load_study(file)
