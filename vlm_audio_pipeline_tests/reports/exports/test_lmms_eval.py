"""Expected values follow lmms-eval's field reference: docs/getting-started/commands.md, "Log Samples Output Format"."""

import json

import pytest

from vlm_audio_pipeline.reports.exports.lmms_eval import export_lmms_eval
from vlm_audio_pipeline_tests.reports.exports.answers import RAW_TEXT, png


@pytest.fixture(scope="module")
def files(answers, tmp_path_factory):
    """The end of each file name -> its path."""
    folder = tmp_path_factory.mktemp("lmms") / "out"
    paths = export_lmms_eval(answers, folder)
    assert {path.parent for path in paths} == {folder / "org__vlm-1"}
    times = {path.name[:15] for path in paths}
    assert len(times) == 1, "lmms-eval pairs samples and results by the time in their names"
    return {path.name[16:]: path for path in paths}


def samples(path):
    return {line["clip"]: line for line in map(json.loads, path.read_text().splitlines())}


def test_names_of_files(files):
    assert set(files) == {"results.json", "samples_s_vlm_generation.jsonl", "samples_s_vlm_likelihood.jsonl"}


def test_a_sample_has_the_prompt_and_the_response_verbatim(files):
    sample = samples(files["samples_s_vlm_generation.jsonl"])["1-dog"]
    assert (sample["doc_id"], sample["target"]) == (0, "dog")
    assert sample["input"].startswith("user: Which sound? dog, rain, sea<image>\n\nassistant: dog\n\n")
    assert sample["resps"] == [RAW_TEXT] and sample["filtered_resps"] == ["dog"]
    assert sample["reasoning"] == "Short bursts <think>, so a dog."
    assert sample["token_counts"] == [{"input_tokens": 100, "output_tokens": 5, "reasoning_tokens": 3}]
    assert (sample["accuracy"], sample["usd"], sample["revision"]) == (1.0, 0.002, "vlm-1-0501")
    assert len(sample["doc_hash"]) == 64
    export = files["results.json"].parent.parent
    assert [(export / name).read_bytes() for name in sample["input_media"]] == [png(6), png(7), png(8), png(3)]


def test_a_response_without_a_class_has_no_score(files):
    lines = samples(files["samples_s_vlm_generation.jsonl"])
    assert {clip: (s["outcome"], s["accuracy"], s["filtered_resps"]) for clip, s in lines.items()} == {
        "1-dog": ("answered", 1.0, ["dog"]),
        "1-rain": ("truncated", None, []),
        "1-sea": ("error", None, []),
        "2-dog": ("refused", None, []),
        "2-rain": ("unparseable", None, []),
        "2-sea": ("answered", 0.0, ["rain"]),
    }
    assert lines["1-sea"]["resps"] == [] and lines["1-sea"]["error"] == "HTTP 500 after 5 attempts"


def test_a_likelihood_lists_the_classes_in_order(files):
    sample = samples(files["samples_s_vlm_likelihood.jsonl"])["2-sea"]
    assert sample["doc_id"] == 5
    assert sample["resps"] == [[[-0.5, True], [-1.5, False], [-2.5, False]]]


def test_results(files):
    results = json.loads(files["results.json"].read_text())
    assert results["results"]["s_vlm_generation"] == {
        "alias": "s_vlm_generation",
        "samples": 6,
        "accuracy,none": 0.2,
        "accuracy_answered,none": 0.5,
        "accuracy_stderr,none": "N/A",
        "undefined": {"ece": "no confidence"},
    }
    assert results["model_name"] == "org/vlm-1" and results["model_name_sanitized"] == "org__vlm-1"
    assert results["n-shot"] == {"s_vlm_generation": 1, "s_vlm_likelihood": 1}
    assert results["n-samples"]["s_vlm_generation"] == {"original": 6, "effective": 6}
    assert results["configs"]["s_vlm_likelihood"]["output_type"] == "multiple_choice"
    assert results["higher_is_better"]["s_vlm_generation"] == {"accuracy": True}
