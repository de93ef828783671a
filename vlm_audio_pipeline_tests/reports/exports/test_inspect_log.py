"""Expected values follow Inspect's documentation of its logs: https://inspect.aisi.org.uk/eval-logs.html."""

import base64
import json
from zipfile import ZipFile

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.exports.inspect_log import export_inspect
from vlm_audio_pipeline_tests.reports.exports.answers import RAW_TEXT, png


@pytest.fixture(scope="module")
def logs(answers, tmp_path_factory):
    """Scoring -> JSON files of its log, by name."""
    contents = {}
    for path in export_inspect(answers, tmp_path_factory.mktemp("inspect") / "logs"):
        assert path.suffix == ".eval"
        with ZipFile(path) as archive:
            files = {name: json.loads(archive.read(name)) for name in archive.namelist()}
        contents[files["header.json"]["eval"]["metadata"]["scoring"]] = files
    return contents


def test_a_log_has_the_files_of_inspect(logs):
    clips = ("1-dog", "1-rain", "1-sea", "2-dog", "2-rain", "2-sea")
    samples = {f"samples/{clip}_epoch_1.json" for clip in clips}
    assert set(logs["generation"]) == {"_journal/start.json", "summaries.json", "header.json"} | samples
    assert set(logs) == {"generation", "likelihood"}


def test_the_header_names_task_model_and_measures(logs):
    header = logs["generation"]["header.json"]
    assert (header["version"], header["status"]) == (2, "success")
    spec = header["eval"]
    assert (spec["task"], spec["model"], spec["created"]) == (
        "s_vlm_generation",
        "org/vlm-1",
        "2026-05-01T12:00:00+00:00",
    )
    assert spec["task_args"] == {
        "model": "org/vlm-1",
        "rendering": "small",
        "prompt": spec["task_args"]["prompt"],
        "shots": 1,
        "encoder": "bands",
        "select": "random",
        "max_tokens": 8,
    }
    assert spec["model_generate_config"] == {"temperature": 0.0, "top_p": 1.0, "max_tokens": 8, "seed": 0}
    assert spec["config"] == {"epochs": 1, "fail_on_error": False, "limit": None}
    assert spec["metadata"]["revisions"] == {"vlm-1-0501": 6}
    [score] = header["results"]["scores"]
    # one of six requests failed: it has no score
    assert (score["scored_samples"], score["unscored_samples"]) == (5, 1)
    assert score["metrics"] == {
        "accuracy": {"name": "accuracy", "value": 0.2},
        "accuracy_answered": {"name": "accuracy_answered", "value": 0.5},
    }
    assert header["results"]["metadata"] == {"undefined": {"ece": "no confidence"}}
    # 6 x (100 - 40) tokens in, 6 x 5 out; 0.002 + 0.001 USD
    usage = header["stats"]["model_usage"]["org/vlm-1"]
    assert (usage["input_tokens"], usage["input_tokens_cache_read"], usage["output_tokens"]) == (360, 240, 30)
    assert usage["total_tokens"] == 630 and usage["total_cost"] == pytest.approx(0.003)


def test_a_sample_has_the_request_and_the_response_verbatim(logs):
    sample = logs["generation"]["samples/1-dog_epoch_1.json"]
    question, answer, *_, query, response = sample["messages"]
    assert question["role"] == "user" and question["content"][0] == {
        "type": "text",
        "text": "Which sound? dog, rain, sea",
    }
    assert answer == {"role": "assistant", "content": "dog", "source": "input"}
    image = {"type": "image", "image": "data:image/png;base64," + base64.b64encode(png(3)).decode()}
    assert query["content"] == [image]
    assert sample["input"] == sample["messages"][:-1]
    assert response["content"] == [
        {"type": "reasoning", "reasoning": "Short bursts <think>, so a dog."},
        {"type": "text", "text": RAW_TEXT},
    ]
    assert (sample["id"], sample["epoch"], sample["target"]) == ("1-dog", 1, "dog")
    assert (response["model"], sample["output"]["model"]) == ("vlm-1-0501", "vlm-1-0501")
    assert sample["output"]["completion"] == RAW_TEXT
    assert sample["output"]["choices"] == [{"message": response, "stop_reason": "stop"}]
    assert sample["output"]["usage"] == {
        "input_tokens": 60,
        "output_tokens": 5,
        "total_tokens": 105,
        "input_tokens_cache_read": 40,
        "reasoning_tokens": 3,
        "total_cost": 0.002,
    }
    assert sample["scores"] == {"generation": {"value": "C", "metadata": {}, "answer": "dog"}}
    assert (sample["total_time"], sample["completed_at"]) == (0.5, "2026-05-01T12:00:00+00:00")
    assert "note" not in sample["metadata"] and sample["metadata"]["source"] == "r1-dog"


def test_a_response_without_a_class_is_never_scored_as_wrong(logs):
    files = logs["generation"]
    scores = {
        name: files[f"samples/{name}_epoch_1.json"]["scores"]
        for name in ("1-rain", "1-sea", "2-dog", "2-rain", "2-sea")
    }
    assert scores["1-sea"] is None, "a request that failed has no score"
    score = {name: value["generation"] for name, value in scores.items() if value}
    assert {name: (s["value"], s.get("reason"), s.get("answer")) for name, s in score.items()} == {
        "1-rain": ("N", "truncated", None),
        "2-dog": ("N", "refusal", None),
        "2-rain": ("N", "invalid_response_format", None),
        "2-sea": ("I", None, "rain"),
    }
    assert files["samples/1-rain_epoch_1.json"]["output"]["choices"][0]["stop_reason"] == "max_tokens"
    assert files["samples/2-dog_epoch_1.json"]["output"]["choices"][0]["stop_reason"] == "content_filter"
    failed = files["samples/1-sea_epoch_1.json"]
    assert failed["error"]["message"] == "HTTP 500 after 5 attempts"
    assert failed["output"]["choices"] == [] and failed["messages"] == failed["input"]
    assert files["samples/2-dog_epoch_1.json"]["metadata"]["note"].startswith(
        "the messages were built again and differ"
    )


def test_a_likelihood_has_scores_and_no_text(logs):
    sample = logs["likelihood"]["samples/1-rain_epoch_1.json"]
    assert sample["scores"]["likelihood"] == {
        "value": "I",
        "answer": "dog",
        "metadata": {
            "scores": {"dog": 0.7, "rain": 0.2, "sea": 0.1},
            "confidence": 0.7,
            "log_probabilities": {"dog": -0.5, "rain": -1.5, "sea": -2.5},
        },
    }
    assert sample["output"]["choices"] == [] and sample["model_usage"] == {}


def test_the_list_of_samples_has_texts_and_no_images(logs):
    summaries = logs["generation"]["summaries.json"]
    assert [s["id"] for s in summaries] == ["1-dog", "1-rain", "1-sea", "2-dog", "2-rain", "2-sea"]
    assert summaries[0]["input"].startswith("user: Which sound? dog, rain, sea<image>")
    assert summaries[0]["scores"] == {"generation": {"value": "C", "answer": "dog"}}
    assert summaries[2]["error"] == "HTTP 500 after 5 attempts"
    assert "base64" not in json.dumps(summaries)


def test_an_export_replaces_only_an_earlier_one(answers, tmp_path):
    first = export_inspect(answers, tmp_path / "logs")
    assert export_inspect(answers, tmp_path / "logs") == first
    assert {p.name for p in (tmp_path / "logs").iterdir()} == {"README.md", *(p.name for p in first)}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my thesis")
    with pytest.raises(VlmAudioError, match=r"--out must name a new or empty folder, or an earlier inspect export"):
        export_inspect(answers, tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "my thesis"
