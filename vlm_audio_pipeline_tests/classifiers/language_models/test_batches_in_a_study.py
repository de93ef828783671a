"""One study by live requests, by batch and by files: equal tables except for time and cost."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from vlm_audio_pipeline.classifiers.language_models.endpoint.batches import collecting
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.planning import waiting
from vlm_audio_pipeline.planning.budget import open_ledger
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.classifiers.language_models.batch_server import (
    HOUR,
    BatchServer,
    content_of,
    serving_batches,
)
from vlm_audio_pipeline_tests.cli.program import run_command

TIME_AND_COST = {"seconds", "usd", "answered_at", "median_seconds", "usd_per_correct"}
"""Columns, and measures in the table `metrics`."""
PROTOCOLS = ("openai", "anthropic")


def answer(content: str) -> str:
    """Answer with a class, a sentence without a class, a refusal or a cut response, by a hash of texts and image."""
    digit = int(hashlib.sha256(content.encode()).hexdigest()[:2], 16) % 6
    return ("low", "high", "Answer: low", "It is hard to tell.", "!filter", "!length")[digit]


class EndpointStudy(Bench):
    """Two classifiers behind the test server: with and without blank images."""

    def __init__(self, folder, url, **endpoint):
        super().__init__(folder)
        values = {"url": url, "prices": {"input": 10, "output": 100}, "image_tokens": 100, "retries": 1, **endpoint}
        model = {"kind": "language_model", "backend": "openai", "model": "m", "rendering": "small"}
        self.study["renderings"] = {"small": {"size": 24, "n_fft": 256, "hop_length": 128, "rate": 8000}}
        self.study["classifiers"] = {
            "asked": {**model, "endpoint": values, "controls": ["blank"]},
            "words": {**model, "endpoint": values, "prompt": "one_word"},
        }
        self.study["budget"] = {"usd": 1}
        self.write()

    def tables(self):
        """Return the rows of every partition file and summary, without time and cost."""
        graph, rows = self.graph(), {}
        for node in graph.nodes:
            if node.step in ("report", "history") or read_node_provenance(graph, node) is None:
                continue
            for name, path in graph.partition_files(node).items():
                table = read_partition(path, TABLES[name])[0]
                columns = [c for c in table.column_names if c not in TIME_AND_COST]
                all_rows = table.select(columns).to_pylist()
                rows[str(node), name] = [row for row in all_rows if row.get("metric") not in TIME_AND_COST]
        return rows


def assert_equal_tables(study, expected_study):
    """Compare all tables row by row; return those of the study."""
    tables, expected = study.tables(), expected_study.tables()
    assert tables.keys() == expected.keys()
    for name, rows in expected.items():
        for row, expected_row in zip(tables[name], rows, strict=True):
            assert {k: (row[k], v) for k, v in expected_row.items() if v != row[k] and v == v} == {}, name
    return tables


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(waiting, "FIRST_POLL_S", 0.001)
    monkeypatch.setattr(waiting, "MAX_POLL_S", 0.001)
    monkeypatch.setattr(collecting, "MISSING_S", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_live_requests_and_batches_give_equal_tables_except_for_time_and_cost(tmp_path, protocol):
    with serving_batches(BatchServer(answer=answer, duration_s=20 * HOUR)) as server:
        live = EndpointStudy(tmp_path / "live", server.url, protocol=protocol)
        assert run_command(live, "run").code == 0
        batch = EndpointStudy(tmp_path / "batch", server.url, protocol=protocol, batch=True)
        result = run_command(batch, "run")
        assert result.code == 0, result.err
        assert "responses/words: waiting for the batch of 4 requests to m at 127.0.0.1 (batch_" in result.out
        tables = assert_equal_tables(batch, live)
        assert {name for _, name in tables} >= {"responses", "predictions", "metrics", "leaderboard"}
        outcomes = {row["outcome"] for (_, name), rows in tables.items() if name == "predictions" for row in rows}
        assert outcomes == {"answered", "unparseable", "refused", "truncated"}
        assert server.submitted == server.charged == server.live  # the same requests, each once
        assert len(server.batches) == 6  # 2 classifiers x 3 folds, all submitted before the first wait
        usd = {
            name: sum(
                row["usd"]
                for fold in (1, 2, 3)
                for row in read_partition(
                    study.graph().partition_files(Node(f"responses/{'asked'}", fold))["responses"], TABLES["responses"]
                )[0].to_pylist()
            )
            for name, study in (("live", live), ("batch", batch))
        }
        assert usd["batch"] == pytest.approx(usd["live"] / 2)


@pytest.mark.slow
def test_a_run_without_waiting_ends_and_the_next_one_continues(tmp_path):
    with serving_batches(BatchServer(duration_s=5 * HOUR)) as server:
        study = EndpointStudy(tmp_path / "study", server.url, batch=True)
        first = run_command(study, "run", "--no-wait", "--only", "words")
        assert "waiting for the batch of 4 requests" in first.err and "run the same command" in first.err
        assert len(server.batches) == 3 and not server.charged
        second = run_command(study, "run", "--only", "words")
        assert second.code == 0 and "waiting for" not in second.err
        assert set(server.charged.values()) == {1} and len(server.charged) == 12


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_for_long_ends_the_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "MAX_LOST_POLLS", 2)
    with serving_batches(BatchServer()) as server:
        study = EndpointStudy(tmp_path / "study", server.url, batch=True, retries=0)
        run_command(study, "run", "--no-wait", "--only", "words")
    result = run_command(study, "run", "--only", "words")
    assert result.code != 0 and "Nothing is lost; run the same command again later" in result.err


@pytest.mark.slow
def test_the_plan_shows_both_prices(tmp_path):
    """The price of a batch is half the price of live requests, and the study says which of them it uses."""
    with serving_batches(BatchServer()) as server:
        live = EndpointStudy(tmp_path / "live", server.url)
        batch = EndpointStudy(tmp_path / "batch", server.url, batch=True)
    for study in (live, batch):
        study.study["classifiers"]["asked"]["endpoint"]["prices"] = {"input": 10_000, "output": 100_000}
        study.write()
        run_command(study, "run", "--only", "clips")
    plans = [run_command(study, "plan").out for study in (live, batch)]
    cells = [re.search(r"^asked +(.+)$", plan, re.M)[1].split() for plan in plans]
    requests, tokens, usd, *batch_usd = cells[0]
    assert cells[1][:3] == [requests, tokens, usd]
    assert float(cells[1][3]) == pytest.approx(float(usd) / 2, abs=0.01)
    assert " ".join(batch_usd) == "not offered"  # nothing says that a server on this machine has a batch API
    assert "sent as batches: asked, words" in plans[1]


def test_the_cost_of_a_batch_is_half_and_openai_shows_both(tmp_path):
    spec = {"backend": "openai", "model": "gpt-4.1", "rendering": "paper"}
    live = EndpointLanguageModel.model_validate(spec).cost(40)
    batch = EndpointLanguageModel.model_validate({**spec, "endpoint": {"batch": True}}).cost(40)
    assert (live.usd, live.batch_usd, live.is_batch) == (live.live_usd, pytest.approx(live.usd / 2), False)
    assert (batch.usd, batch.live_usd, batch.is_batch) == (live.batch_usd, live.usd, True)


@pytest.mark.slow
def test_requests_in_a_file_are_answered_offline(tmp_path):
    """The lines have the format that `vllm run-batch` reads; its output has the format of OpenAI's output files.

    https://docs.vllm.ai/en/latest/serving/offline_inference.html
    """
    requests, responses = tmp_path / "requests.jsonl", tmp_path / "responses.jsonl"
    with serving_batches(BatchServer(answer=answer)) as server:
        study = EndpointStudy(tmp_path / "study", server.url, prices=None)
        live = EndpointStudy(tmp_path / "live", server.url, prices=None)
        assert run_command(live, "run").code == 0
    written = run_command(study, "batch", "--write", requests)
    assert written.code == 0 and written.out.startswith("25 requests written to")  # 12 x 2, and the blank image once
    lines = [json.loads(line) for line in requests.read_text().splitlines()]
    assert {(line["method"], line["url"]) for line in lines} == {("POST", "/v1/chat/completions")}
    assert len({line["custom_id"] for line in lines}) == 25
    server = BatchServer(answer=answer)
    outputs = [
        {
            "id": f"vllm-{i}",
            "custom_id": line["custom_id"],
            "response": {
                "status_code": 200,
                "request_id": f"vllm-batch-{i}",
                "body": server.completion(line["body"], content_of(line["body"])),
            },
            "error": None,
        }
        for i, line in enumerate(lines)
    ]
    responses.write_text("\n".join(json.dumps(line) for line in reversed(outputs)) + "\n")
    read = run_command(study, "batch", "--read", responses)
    assert read.code == 0 and read.out.startswith("25 responses stored")
    run = run_command(study, "run")  # the server is gone
    assert run.code == 0, run.err
    assert_equal_tables(study, live)
    assert run_command(study, "batch", "--write", requests).out.startswith("0 requests written")


@pytest.mark.slow
def test_offline_responses_of_another_model_are_refused_and_errors_are_reported(tmp_path):
    requests, responses = tmp_path / "requests.jsonl", tmp_path / "responses.jsonl"
    study = EndpointStudy(tmp_path / "study", "http://127.0.0.1:1/v1", prices=None)
    study.study["classifiers"]["asked"]["model"] = study.study["classifiers"]["words"]["model"] = "gpt-4o"
    study.write()
    run_command(study, "batch", "--write", requests, "--classifier", "words")
    [first, *_] = [json.loads(line) for line in requests.read_text().splitlines()]
    body = {"model": "gpt-4o-mini", "choices": [{"finish_reason": "stop", "message": {"content": "low"}}]}
    line = {"custom_id": first["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}
    responses.write_text(json.dumps(line))
    assert "must contain responses of gpt-4o, got gpt-4o-mini" in run_command(study, "batch", "--read", responses).err
    line["response"] = {"status_code": 400, "body": {"error": {"message": "the prompt is too long"}}}
    responses.write_text(json.dumps(line) + "\nnot JSON\n[1]\n")
    result = run_command(study, "batch", "--read", responses)
    assert result.code == 1 and "1 requests ended in an error (HTTP 400 (the prompt is too long))" in result.out


def test_the_batch_command_explains_wrong_uses(tmp_path):
    study = EndpointStudy(tmp_path / "study", "http://127.0.0.1:1/v1")
    assert "give one of --write, --read and --forget" in run_command(study, "batch").err
    assert "must name a batch that was submitted" in run_command(study, "batch", "--forget", "batch_1").err
    assert "got absent.jsonl" in run_command(study, "batch", "--read", "absent.jsonl").err
    study.study["classifiers"]["words"]["model"] = "other"
    study.write()
    assert "a file is for one model, got m, other" in run_command(study, "batch", "--write", tmp_path / "f").err


@pytest.mark.slow
def test_lost_results_are_explained_and_can_be_given_up(tmp_path):
    with serving_batches(BatchServer()) as server:
        study = EndpointStudy(tmp_path / "study", server.url, batch=True)
        run_command(study, "run", "--no-wait", "--only", "words", "--fold", "1")
        batch = server.batches.pop("batch_0")
        result = run_command(study, "run", "--only", "words", "--fold", "1")
        assert result.code == 1 and "must have the batch batch_0" in result.err and "--forget batch_0" in result.err
        server.batches["batch_x"] = batch  # keeps the numbers of later batches apart
        assert run_command(study, "batch", "--forget", "batch_0").code == 0
        assert run_command(study, "run", "--only", "words", "--fold", "1").code == 0
        assert len(server.charged) == 4


@pytest.mark.slow
def test_money_of_an_open_batch_is_kept_once(tmp_path):
    """The classifier with priority has all its requests in batches: the other one may use the rest of the budget."""
    with serving_batches(BatchServer(duration_s=24 * HOUR)) as server:
        study = EndpointStudy(tmp_path / "study", server.url, batch=True)
        study.study["budget"] = {"usd": 1, "first": ["words"]}
        study.write()
        run_command(study, "run", "--no-wait", "--only", "words")
        ledger = open_ledger(study.graph())
        assert 0 < ledger.spent_usd() < 0.1
        assert ledger.remaining_usd("asked") == pytest.approx(1 - ledger.spent_usd())
        ledger.close()


@pytest.mark.slow
def test_live_requests_do_not_repeat_those_of_an_open_batch(tmp_path):
    with serving_batches(BatchServer()) as server:
        study = EndpointStudy(tmp_path / "study", server.url, batch=True)
        arguments = ("run", "--no-wait", "--only", "words", "--fold", "1")
        run_command(study, *arguments)
        study.study["classifiers"]["words"]["endpoint"]["batch"] = False
        study.write()
        result = run_command(study, *arguments)
        assert (
            result.code == 1
            and "would be paid for twice. To use its responses, set `batch` of the endpoint as it was" in result.err
        )
        assert not server.live
        study.study["classifiers"]["words"]["endpoint"]["batch"] = True
        study.write()
        assert run_command(study, "run", *arguments[2:]).code == 0
        assert set(server.charged.values()) == {1}


@pytest.mark.slow
def test_the_documented_batch_study_runs(tmp_path, monkeypatch):
    """The endpoints of the example are at the test server, and the recordings are those of the bench."""
    page = (Path(__file__).parents[3] / "docs" / "language-models.md").read_text()
    [example] = re.findall(r"^```yaml\n(# batch\.yaml\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-second")
    with serving_batches(BatchServer()) as server:
        study = EndpointStudy(tmp_path / "study", server.url)
        documented = yaml.safe_load(example)
        gpt, claude = (documented["classifiers"][name]["endpoint"] for name in ("gpt", "claude"))
        gpt |= {"url": server.url, "key": "OPENAI_API_KEY", "prices": {"input": 2, "output": 8}}
        claude |= {"url": server.url}
        study.study |= {k: documented[k] for k in ("classifiers", "budget")} | {"encoders": {}}
        study.study["renderings"] = {"paper": study.study["renderings"]["small"]}
        study.write()
        result = run_command(study, "run", "--only", "gpt", "--only", "claude")
        assert result.code == 0, result.err
        assert {"POST /v1/batches", "POST /v1/messages/batches"} <= server.calls.keys()
        assert set(server.charged.values()) == {2}  # 12 clips, each by both models
        assert len(server.charged) == 12


@pytest.mark.slow
def test_responses_that_are_asked_again_come_from_new_batches_once(tmp_path):
    """The second batches are collected by a later command, which asks for nothing again."""
    with serving_batches(BatchServer(answer=lambda content: "low")) as server:
        study = EndpointStudy(tmp_path / "study", server.url, batch=True)
        del study.study["classifiers"]["asked"]
        study.write()
        assert run_command(study, "run").code == 0
        server.answer = lambda content: "high"
        assert run_command(study, "run").code == 0
        assert len(server.batches) == 3 and set(server.charged.values()) == {1}
        submitted = run_command(study, "run", "--again", "words", "--no-wait")
        assert "waiting for the batch of 4 requests" in submitted.err
        again = run_command(study, "run", "--again", "words")  # continues: nothing is asked a third time
        assert again.code == 0, again.err
        assert len(server.batches) == 6 and set(server.charged.values()) == {2} == set(server.submitted.values())
        texts = {row["text"] for (_, name), rows in study.tables().items() if name == "responses" for row in rows}
        assert texts == {"high"}
