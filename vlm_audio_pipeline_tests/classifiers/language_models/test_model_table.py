"""The table of models: format, dates and sources of its rows, and the warnings about retirement."""

from datetime import date, timedelta

import pytest

from vlm_audio_pipeline.classifiers.language_models.endpoint.backend import not_run_reason
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.classifiers.language_models.endpoint.model_table import INPUTS, find_model, model_table
from vlm_audio_pipeline.classifiers.language_models.endpoint.retirement import WARNING_DAYS, retirement_warning
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.studies.loading import load_study

OPENAI = Endpoint()
GOOGLE = Endpoint(url="https://generativelanguage.googleapis.com/v1beta/openai", key="GEMINI_API_KEY")
RETIRED, TODAY = "gemini-1.5-pro", date(2026, 11, 29)


@pytest.mark.parametrize("model", model_table().values(), ids=lambda model: model.id)
def test_each_row_has_a_date_and_sources(model):
    assert model.sources and all(source.startswith("https://") for source in model.sources)
    assert model.looked_up >= date(2026, 11, 29)
    assert set(model.inputs) <= set(INPUTS)
    assert model.replacement != model.id
    if model.prices:
        assert model.prices.input > 0 and (model.prices.output > model.prices.input or "audio" in model.inputs)
        assert model.prices.cached_input is None or model.prices.cached_input < model.prices.input


def test_values_of_the_providers_pages():
    """https://developers.openai.com/api/docs/models/gpt-6.2-sol and the deprecations pages of OpenAI and Anthropic."""
    sol = find_model("gpt-6.2-sol")
    assert (sol.prices.input, sol.prices.cached_input, sol.prices.output) == (2, 0.1, 10)
    assert (sol.inputs, sol.reasoning, sol.batch, sol.retirement) == (("text", "image"), True, True, None)
    assert find_model("gpt-4o-2024-08-06").retirement == date(2027, 1, 14)
    assert find_model("claude-3-5-sonnet-20241022").retirement == date(2025, 10, 28)


def test_the_price_of_the_input_is_that_of_audio_where_it_costs_more():
    assert find_model("gpt-audio-1.5").prices.input == 32


def test_a_model_is_found_behind_the_prefix_of_a_gateway_but_has_no_prices_there():
    assert find_model("openai/gpt-6-luna").id == "gpt-6-luna"
    assert find_model("openai/gpt-6-luna", "openrouter.ai") is None
    assert find_model("gpt-6-luna", "openrouter.ai") is None


@pytest.mark.parametrize(
    ("model", "endpoint", "today", "words"),
    [
        (
            RETIRED,
            GOOGLE,
            TODAY,
            "Google has retired gemini-1.5-pro on 2025-09-24; its replacement is gemini-2.0-flash",
        ),
        ("gpt-4o-2024-08-06", OPENAI, TODAY, "OpenAI will retire gpt-4o-2024-08-06 on 2027-01-14; its replacement is"),
        ("openai/gpt-4o-2024-08-06", Endpoint(url="http://127.0.0.1:4000/v1"), TODAY, "will retire openai/gpt-4o"),
        ("gpt-4o-2024-08-06", OPENAI, date(2027, 1, 14) - timedelta(WARNING_DAYS), "on 2027-01-14"),
        ("ours", Endpoint(retires=date(2026, 12, 1)), TODAY, "will retire ours on 2026-12-01 (`retires` in the study)"),
    ],
)
def test_a_retirement_is_a_warning_with_date_replacement_and_source(model, endpoint, today, words):
    warning = retirement_warning(model, endpoint, today)
    assert words in warning
    assert "https://" in warning or "`retires`" in warning


@pytest.mark.parametrize(
    ("model", "endpoint", "today"),
    [
        ("gpt-4o-2024-08-06", OPENAI, date(2027, 1, 14) - timedelta(WARNING_DAYS + 1)),
        ("gpt-4o-2024-08-06", Endpoint(retires="never"), TODAY),
        ("gpt-4o-2024-08-06", Endpoint(retires=date(2028, 1, 1)), TODAY),
        ("gpt-6.2-sol", OPENAI, TODAY),
        ("an-unknown-model", OPENAI, TODAY),
    ],
)
def test_no_warning_long_before_or_against_the_study(model, endpoint, today):
    assert retirement_warning(model, endpoint, today) is None


def test_no_request_is_sent_to_a_model_that_was_retired_when_the_table_was_made(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "k" * 20)
    prices = {"input": 1, "output": 1}
    reason = not_run_reason(RETIRED, GOOGLE.model_copy(update={"prices": prices}), has_budget=True)
    assert "has retired gemini-1.5-pro" in reason and "`endpoint: {retires: never}`" in reason
    accepted = Endpoint(url=GOOGLE.url, key=GOOGLE.key, prices=prices, retires="never")
    assert not_run_reason(RETIRED, accepted, has_budget=True) is None
    elsewhere = Endpoint(url="http://127.0.0.1:4000/v1")
    assert not_run_reason(RETIRED, elsewhere, has_budget=False) is None


def test_the_paper_study_has_models_of_today_beside_those_of_the_publication():
    study = load_study("paper")
    models = {n: s for n, s in study.classifiers.items() if isinstance(s, EndpointLanguageModel)}
    retired = {name for name, spec in models.items() if "has retired" in (spec.unavailable() or "")}
    assert retired == {"claude_few_shot", "gemini_few_shot", "gemini_few_shot_image"}
    today = {name for name in models if name.endswith("_today")}
    assert len(today) == 3
    for name in today:
        row = find_model(models[name].model, models[name].endpoint.host)
        assert row.retirement is None and models[name].input in row.inputs
    assert {models[name].reproduces for name in today} == {"dixit2024/GPT-4o", "dixit2024/Gemini-1.5", None}
