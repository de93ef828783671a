"""docs/language-models.md: its lists are complete, and its responses, plans and studies are those of the program."""

import re

import pytest
import yaml

from vlm_audio_pipeline.classifiers.language_models.endpoint.model_table import find_model
from vlm_audio_pipeline.classifiers.language_models.endpoint.prices import Prices
from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import Endpoint
from vlm_audio_pipeline.classifiers.language_models.language_model import BACKENDS
from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.parsing import parse_response
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt
from vlm_audio_pipeline.classifiers.language_models.scripted import Script
from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.loading import load_study, parse_study
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving
from vlm_audio_pipeline_tests.pages import LANGUAGE_MODELS, ROOT, blocks, in_backticks, table_after


@pytest.mark.parametrize(
    "spec", [*BACKENDS.all().values(), Endpoint, Prices, Budget, OwnPrompt, Script], ids=lambda s: s.__name__
)
def test_the_page_of_language_models_names_every_key(spec):
    assert set(spec.model_fields) <= in_backticks(LANGUAGE_MODELS)


def test_the_table_of_endpoint_keys_has_every_key_once():
    text = (ROOT / LANGUAGE_MODELS).read_text()
    [section] = re.findall(r"^### Keys of an endpoint\n(.*?)^#", text, re.DOTALL | re.MULTILINE)
    names = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(names))) == sorted(Endpoint.model_fields)


def test_the_page_of_language_models_names_every_prompt():
    assert set(PROMPTS) <= in_backticks(LANGUAGE_MODELS)


RESPONSES = table_after(LANGUAGE_MODELS, "| response |")


@pytest.mark.parametrize(("response", "outcome", "explanation"), RESPONSES)
def test_responses_are_parsed_as_documented(response, outcome, explanation):
    parsed = parse_response(response.replace("\\n", "\n"), ESC10)
    assert (parsed.label or parsed.outcome) == outcome
    assert explanation


def test_the_page_has_responses_of_every_outcome():
    assert len(RESPONSES) >= 20
    assert {"unparseable", "refused", "rain"} <= {outcome for _, outcome, _ in RESPONSES}


def test_the_documented_plan_is_that_of_the_study(tmp_path):
    graph = Graph(load_study("paper"), DataFolder(tmp_path))
    (plan,) = [b for b in blocks(LANGUAGE_MODELS, "text") if "USD at most" in b]
    rows = [r.split() for r in plan.splitlines() if r.split()[0] in graph.study.classifiers]
    assert len(rows) >= 3
    for name, requests, tokens, usd, *batch in rows:
        step = graph.steps[f"responses/{name}"]
        folds, cost = len(step.nodes), step.stage.cost(80)  # ESC-10 has 80 clips in each fold
        assert (requests, tokens) == (f"{folds * cost.requests:,}", f"{folds * cost.tokens:,}")
        assert usd == f"{folds * cost.usd:.2f}"
        assert " ".join(batch) == ("not offered" if cost.batch_usd is None else f"{folds * cost.batch_usd:.2f}")


# name of the study on the page -> the id that its server returns
SERVED_STUDIES = {"reasoning": "gpt-6.2-sol-2026-11-01", "vllm": "Qwen/Qwen2.5-VL-7B-Instruct", "proxy": "house-model"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVED_STUDIES)
def test_a_study_of_an_endpoint_runs_with_a_server(name, tmp_path, monkeypatch):
    """Only the address is replaced, and the published prices, which apply to the provider's own host, are declared."""
    (text,) = [b for b in blocks(LANGUAGE_MODELS, "yaml") if b.startswith(f"# {name}.yaml")]
    values = yaml.safe_load(text)
    ((classifier, entry),) = values["classifiers"].items()
    endpoint = entry.setdefault("endpoint", {})
    if "url" not in endpoint:
        prices = find_model(entry["model"], "api.openai.com").prices
        endpoint |= {"key": "OPENAI_API_KEY", "prices": prices.model_dump()}
    monkeypatch.setenv(endpoint.get("key", "UNUSED_KEY"), "k" * 20)
    script = ServerScript()
    reply = completion("dog", {"model": ""}, script.usage, reasoning_content="short bursts") | {
        "model": SERVED_STUDIES[name]
    }
    script.play = lambda question, attempt: (200, reply)
    with serving(script) as server:
        endpoint["url"] = server.url
        data_folder = DataFolder(tmp_path / "data")
        summary = run_study(Graph(parse_study(yaml.safe_dump(values), tmp_path / f"{name}.yaml"), data_folder))
        (body, *_), headers = server.bodies, server.headers[0]
    assert not summary.failed and not summary.not_run and not summary.failed_checks
    (row,) = query(
        data_folder, f"SELECT * FROM leaderboard WHERE classifier = '{classifier}' AND control = 'none'"
    ).to_pylist()
    assert (row["rank"], row["partial"], row["correct"]) == (1, False, 4)  # 4 of 40 clips are dogs
    assert ("key" in endpoint) == (headers.get("authorization", headers.get("Authorization")) == "Bearer " + "k" * 20)
    assert ("temperature" in body) == (name != "reasoning")
    assert body.get("reasoning_effort") == ("low" if name == "reasoning" else None)
