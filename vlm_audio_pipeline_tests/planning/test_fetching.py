"""Models on the nodes of a cluster: each node downloads them, and must have the revisions of this machine."""

import pickle

from vlm_audio_pipeline.contracts.work import NodeCall
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.planning.fetching import ModelOnNode, NodeFetch, fetch_on_nodes
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.studies.loading import load_study


class Nodes(LocalEngine):
    """Calls functions in this process for one node, and has given results for others."""

    def __init__(self, **others):
        self.others = others

    def call_everywhere(self, function):
        others = [NodeCall(node, *result) for node, result in self.others.items()]
        return [NodeCall("good", pickle.loads(pickle.dumps(function))()), *others]


def demo_graph(data_folder, engine):
    return Graph(load_study("demo"), data_folder, engine)


def test_this_machine_alone_has_no_other_node(data_folder):
    assert fetch_on_nodes(demo_graph(data_folder, LocalEngine())) == []


def test_each_node_has_the_revisions_of_this_machine(data_folder):
    models = fetch_on_nodes(demo_graph(data_folder, Nodes()))
    assert {(model.name, model.error) for model in models} >= {("clap", None), ("aimv2", None), ("janus", None)}
    revisions = {model.name: model.revision for model in models}
    assert revisions["clap"] == Weights("demo-clap").resolve()
    assert revisions["janus"] == Weights("demo-janus").resolve()


def test_a_node_that_fails_or_has_another_revision_is_reported(data_folder):
    graph = demo_graph(data_folder, LocalEngine())
    names = [model.name for model in fetch_on_nodes(demo_graph(data_folder, Nodes()))]
    graph.engine = Nodes(lost=(None, "the node was lost"), old=([("abc", None)] * len(names),))
    models = [model for model in fetch_on_nodes(graph) if model.node != "good"]
    assert models[: len(names)] == [ModelOnNode("lost", name, None, "the node was lost") for name in names]
    expected = Weights("demo-clap").resolve()
    assert (
        ModelOnNode(
            "old", "clap", "abc", f"revision abc instead of {expected}, which this machine has; run the command again"
        )
        in models
    )


def test_a_model_that_cannot_be_fetched_does_not_stop_the_others(tmp_path):
    states = NodeFetch((Weights(str(tmp_path / "missing")), Weights("demo-clap")))()
    assert states[0][0] is None and "missing" in states[0][1]
    assert states[1] == (Weights("demo-clap").resolve(), None)
