"""The edges of the graph in Dagster."""

import pytest

from vlm_audio_pipeline.dagster_app.edges import carriers, dagster_version, visible_inputs
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import read_node_provenance
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study


@pytest.fixture
def graph(tmp_path):
    return Graph(load_study("demo"), DataFolder(tmp_path))


def test_only_steps_without_another_way_to_the_clips_have_an_edge_to_them(graph):
    edges = {name for name, step in graph.steps.items() if any(i.key == "clips" for i in visible_inputs(graph, step))}
    # directly from the recordings, and the summaries of predictions
    assert edges == {
        *("spectrograms/demo", "spectrograms/demo__blank", "spectrograms/demo__time_shuffled"),
        *("embeddings/clap", "embeddings/classical", "leaderboard", "contrasts", "verdicts"),
    }


def test_no_other_edge_is_left_out_and_every_step_still_comes_after_the_clips(graph):
    after_clips = {"clips"}
    for name, step in graph.steps.items():
        inputs = [i.key for i in visible_inputs(graph, step)]
        assert [i.key for i in step.stage.inputs if i.key != "clips"] == [key for key in inputs if key != "clips"]
        if after_clips & set(inputs):
            after_clips.add(name)
    assert after_clips == set(graph.steps)


def test_a_step_whose_readers_do_not_all_read_clips_is_not_a_carrier(graph):
    assert "embeddings/clap" in carriers(graph)
    assert "predictions/janus" not in carriers(graph)  # metrics read only predictions
    assert "probes/aimv2_probe" not in carriers(graph)  # it reads the clips of other folds than its readers


def test_a_corrected_label_changes_the_version_of_a_carrier_in_dagster(done):
    """The embeddings are the same, but their readers must run again, because they read labels."""
    node = Node("embeddings/bands", 2)

    def versions() -> tuple[str, str]:
        provenance = read_node_provenance(done.graph(), node)
        return provenance.data_version, dagster_version(done.graph(), node, provenance)

    before = versions()
    next(row for row in done.rows if row["id"] == "2-high-0")["label"] = "low"
    done.run(only=("clips", "embeddings/bands"))
    after = versions()
    assert before[0] == after[0] and before[1] != after[1]
