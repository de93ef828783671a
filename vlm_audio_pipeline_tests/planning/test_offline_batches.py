"""Files of requests and responses: only generated text, current keys, and one model, as with live requests."""

import json

import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.planning.asking_again import ask_again, select_nodes_again
from vlm_audio_pipeline.planning.offline_batches import read_responses, select_classifiers, write_requests
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench

CLIPS = 12
NEW = "gpt-4o-2024-11-20"
OLD = "gpt-4o-2024-08-06"


class OfflineStudy(Bench):
    """A study whose server does not exist: all responses come from files."""

    def __init__(self, folder, model="gpt-4o", **values):
        super().__init__(folder)
        endpoint = {"url": "http://127.0.0.1:1/v1", "retries": 0, **values.pop("endpoint", {})}
        self.study |= {
            "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
            "classifiers": {
                "gpt": {
                    "kind": "language_model",
                    "backend": "openai",
                    "model": model,
                    "rendering": "small",
                    "endpoint": endpoint,
                    **values,
                }
            },
        }

    def requests(self):
        """Write the requests to a file; return its lines."""
        graph, file = self.graph(), self.folder / "requests.jsonl"
        count = write_requests(graph, select_classifiers(graph, None), file)
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert count == len(lines)
        return lines

    def respond(self, requests, text="low", model="gpt-4o"):
        """Write responses to a file and read it; return the number of stored responses, and the errors."""
        body = {"model": model, "choices": [{"finish_reason": "stop", "message": {"content": text}}]}
        response = {"status_code": 200, "body": body}
        lines = [json.dumps({"custom_id": request["custom_id"], "response": response}) for request in requests]
        file = self.folder / "responses.jsonl"
        file.write_text("\n".join(lines))
        graph = self.graph()
        return read_responses(graph, select_classifiers(graph, None), file)

    def texts(self):
        run_study(self.graph())
        return query(self.data_folder, "SELECT DISTINCT scoring, text FROM responses ORDER BY ALL").to_pylist()


@pytest.mark.slow
def test_only_generated_text_is_requested_and_no_other_scoring_is_answered(tmp_path):
    study = OfflineStudy(tmp_path / "study", scoring=["generation", "first_token"])
    requests = study.requests()
    assert len(requests) == CLIPS and not {"logprobs", "top_logprobs"} & requests[0]["body"].keys()
    assert study.respond(requests) == (CLIPS, {})
    assert study.requests() == []


@pytest.mark.slow
def test_responses_that_are_asked_again_have_other_ids_and_an_old_file_does_not_answer_them(tmp_path):
    study = OfflineStudy(tmp_path / "study")
    first = study.requests()
    study.respond(first, "low")
    assert study.texts() == [{"scoring": "generation", "text": "low"}]
    graph = study.graph()
    ask_again(graph, select_nodes_again(graph, ["gpt"]))
    second = study.requests()
    assert len(second) == CLIPS
    assert not {r["custom_id"] for r in first} & {r["custom_id"] for r in second}
    assert [r["body"] for r in first] == [r["body"] for r in second]
    assert study.respond(first, "high") == (0, {})
    assert study.respond(second, "high") == (CLIPS, {})
    assert study.texts() == [{"scoring": "generation", "text": "high"}]


@pytest.mark.slow
def test_files_of_two_models_are_one_classifier_only_if_the_study_accepts_both(tmp_path):
    study = OfflineStudy(tmp_path / "study", endpoint={"accept": [OLD, NEW]})
    requests = study.requests()
    study.respond(requests[:4], model=OLD)
    study.respond(requests[4:], model=NEW)
    assert study.texts() == [{"scoring": "generation", "text": "low"}]
    strict = OfflineStudy(tmp_path / "strict", endpoint={})
    requests = strict.requests()
    strict.respond(requests[:4], model=OLD)
    with pytest.raises(NotAvailable, match=f"got responses of {OLD} and of {NEW}"):
        strict.respond(requests[4:], model=NEW)


@pytest.mark.slow
def test_a_file_of_another_model_than_that_of_the_other_folds_is_refused(tmp_path):
    """Fold 1 has responses in its partition file; the file has another model's of the folds 2 and 3."""
    study = OfflineStudy(tmp_path / "study")
    requests = study.requests()
    study.respond(requests[:4], model=OLD)
    graph = study.graph()
    run_study(graph, {node for node in graph.nodes if node.fold in (None, 1)})
    with pytest.raises(NotAvailable, match=f"got responses of {OLD} and of {NEW}"):
        study.respond(requests[4:], model=NEW)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"endpoint": {"protocol": "anthropic"}}, r"gpt must have `protocol: openai`.*got anthropic"),
        ({"scoring": ["first_token"]}, "gpt must have the scoring generation.*got first_token"),
    ],
)
def test_classifiers_whose_requests_files_cannot_contain_are_refused(tmp_path, values, message):
    graph = OfflineStudy(tmp_path / "study", **values).graph()
    with pytest.raises(VlmAudioError, match=message):
        select_classifiers(graph, None)
