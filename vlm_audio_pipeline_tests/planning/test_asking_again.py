"""`--again`: stored responses are asked for again once, whatever happens in between."""

import os
import signal
import subprocess
import sys

import pytest

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.planning.asking_again import ask_again, select_nodes_again
from vlm_audio_pipeline.planning.budget import planned_costs
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import AGAIN, make_plan
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.catalogue import query
from vlm_audio_pipeline_tests.bench import Bench
from vlm_audio_pipeline_tests.classifiers.language_models.scripted_server import ServerScript, completion, serving

CLIPS = 12
FOLDS = [Node("responses/gpt", fold) for fold in (1, 2, 3)]


class Scenario:
    """A bench with one model behind a server, whose answer can be changed."""

    def __init__(self, folder, server):
        self.bench, self.server, self.answer, self.finish = Bench(folder), server, "low", "stop"
        server.play = lambda question, attempt: self.reply(server.bodies[-1])
        endpoint = {"url": server.url, "concurrency": 1, "retries": 0}
        model = {
            "kind": "language_model",
            "backend": "openai",
            "model": "gpt",
            "rendering": "small",
            "endpoint": endpoint,
        }
        self.bench.study |= {
            "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
            "classifiers": {"gpt": model},
        }
        self.run()

    def reply(self, body):
        if self.answer is None:
            return 400, {"error": {"message": "out of order"}}
        reply = completion(self.answer, body, self.server.usage)
        reply["choices"][0]["finish_reason"] = self.finish
        return 200, reply

    def run(self, again=(), fold=None, only_fold=None):
        """Run the study; return the number of requests."""
        graph, before = self.bench.graph(), len(self.server.bodies)
        if again:
            ask_again(graph, select_nodes_again(graph, again, fold))
        selected = None if only_fold is None else {n for n in graph.nodes if n.fold in (None, only_fold)}
        self.summary = run_study(graph, selected)
        return len(self.server.bodies) - before

    def texts(self):
        return sorted({row["text"] for row in query(self.bench.data_folder, "SELECT text FROM responses").to_pylist()})


@pytest.fixture
def scenario(tmp_path):
    with serving(ServerScript()) as server:
        yield Scenario(tmp_path / "bench", server)


def test_each_response_is_requested_once_more_and_replaces_the_old_one(scenario):
    assert (len(scenario.server.bodies), scenario.texts()) == (CLIPS, ["low"])
    scenario.answer = "high"
    assert (scenario.run(), scenario.run(["responses/gpt"]), scenario.run()) == (0, CLIPS, 0)
    assert scenario.texts() == ["high"]
    scenario.answer = "low"
    assert (scenario.run(["gpt"], fold=2), scenario.run()) == (4, 0)
    assert scenario.texts() == ["high", "low"]


@pytest.mark.slow
def test_nothing_is_lost_in_the_result_store(scenario):
    store = scenario.bench.graph().result_store
    scenario.answer = "high"
    scenario.run(["responses/gpt"])
    assert store.count("response") == 2 * CLIPS


@pytest.mark.slow
def test_an_interrupted_run_is_continued_without_a_second_request(scenario):
    scenario.answer = "high"
    assert scenario.run(["responses/gpt"], only_fold=1) == 4  # folds 2 and 3 are not reached
    graph = scenario.bench.graph()
    plan = make_plan(graph, current_input_versions(graph))
    assert {node for node, reasons in plan.todo.items() if AGAIN in reasons} == set(FOLDS[1:])
    assert not ask_again(graph, FOLDS)  # the same command again asks for nothing new
    assert (scenario.run(["responses/gpt"]), scenario.run()) == (8, 0)
    assert scenario.texts() == ["high"]


@pytest.mark.slow
def test_responses_that_arrived_before_a_failure_are_not_requested_again(scenario):
    graph, answers = scenario.bench.graph(), iter([*["high"] * 2, *[None] * CLIPS])
    play = scenario.server.play

    def failing(question, attempt):
        scenario.answer = next(answers)
        return play(question, attempt)

    scenario.server.play = failing
    ask_again(graph, FOLDS)
    run_study(graph)
    scenario.server.play, scenario.answer = play, "high"
    assert scenario.run() == CLIPS - 2
    assert scenario.texts() == ["high"]


@pytest.mark.slow
def test_the_old_responses_are_used_until_the_new_ones_arrive(scenario):
    scenario.server.over.set()
    scenario.bench.study["classifiers"]["gpt"]["endpoint"]["url"] = "http://127.0.0.1:9/v1"  # nothing listens there
    assert scenario.run(["responses/gpt"]) == 0
    assert scenario.summary.failed.keys() == set(FOLDS)
    assert scenario.texts() == ["low"]
    row = query(scenario.bench.data_folder, "SELECT predictions FROM leaderboard WHERE classifier = 'gpt'").to_pylist()
    assert row == [{"predictions": CLIPS}]


@pytest.mark.slow
def test_truncated_responses_are_requested_again_too(scenario):
    scenario.answer, scenario.finish = "It is", "length"
    scenario.run(["responses/gpt"])
    assert scenario.run() == 0
    scenario.answer, scenario.finish = "high", "stop"
    assert (scenario.run(["responses/gpt"]), scenario.run()) == (CLIPS, 0)
    assert scenario.texts() == ["high"]


def test_the_plan_shows_the_requests_before_anything_is_recorded(scenario):
    graph = scenario.bench.graph()
    plan = make_plan(graph, current_input_versions(graph), again=select_nodes_again(graph, ["responses/gpt"]))
    assert [cost.cost.requests for cost in planned_costs(graph, plan)] == [CLIPS]
    assert scenario.run() == 0


def test_a_step_without_requests_is_refused(scenario):
    for name in ("responses/gtp", "clips", "predictions/gpt"):
        with pytest.raises(VlmAudioError, match="--again must"):
            select_nodes_again(scenario.bench.graph(), [name])


KILLED = """
import sys
from pathlib import Path
from vlm_audio_pipeline.planning.asking_again import ask_again, select_nodes_again
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study

graph = Graph(load_study(sys.argv[1]), DataFolder(Path(sys.argv[2])))
ask_again(graph, select_nodes_again(graph, ["responses/gpt"]))
run_study(graph)
"""


@pytest.mark.slow
def test_a_killed_run_loses_only_the_response_in_flight(scenario):
    """SIGKILL when the sixth response has arrived and is not stored; then the same command again."""
    scenario.answer, before = "high", len(scenario.server.bodies)
    command = [sys.executable, "-c", KILLED, scenario.bench.write(), scenario.bench.data_folder.root]
    killed = subprocess.run(command, env=os.environ | {"VLM_AUDIO_FAULT": "results:response:6"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(scenario.server.bodies) - before == 6
    assert subprocess.run(command, check=False).returncode == 0
    assert len(scenario.server.bodies) - before == CLIPS + 1  # five were stored, and the sixth was requested twice
    assert (scenario.run(), scenario.texts()) == (0, ["high"])
