import pytest

from vlm_audio_pipeline.planning.clip_limit import limit_study
from vlm_audio_pipeline.planning.contrast_power import planned_contrasts
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline_tests.bench import Bench


@pytest.fixture
def graph(tmp_path):
    """A study of 12 clips in three folds, two clips a source and two classes."""
    bench = Bench(tmp_path / "bench")
    few = {"kind": "language_model", "backend": "scripted", "model": "scripted", "rendering": "small", "shots": 1}
    bench.study["dataset"]["tuning_folds"] = [1]
    bench.study |= {
        "renderings": {"small": {"preset": "plain", "width": 32, "height": 32, "rate": 8000, "n_fft": 256}},
        "classifiers": {
            "probe": {"kind": "probe", "encoder": "bands"},
            "sample": {"kind": "knn", "encoder": "bands", "sample": {"clips": 6}},
            "first_fold": {"kind": "knn", "encoder": "bands", "folds": [1]},
            "few": {**few, "select": "random", "draws": 3, "orders": 2, "encoder": "bands"},
        },
        "contrasts": [
            {"classifier": "probe", "against": ["chance", "sample", "first_fold"]},
            {"classifier": "probe", "against": ["sample"], "folds": "without_tuning"},
            {"classifier": "few", "against": ["probe"], "margin": 0.05},
            {"classifier": "probe", "against": ["chance"]},
        ],
    }
    return bench.graph()


def test_sizes_of_the_contrasts_of_a_study(graph):
    contrasts = planned_contrasts(graph)
    assert [(c.classifier, c.against, c.sizes.clips, len(c.sizes.source_sizes)) for c in contrasts] == [
        ("probe", "chance", 12, 6),
        ("probe", "sample", 6, 6),  # one clip of each class in each fold
        ("probe", "first_fold", 4, 2),
        ("probe", "sample", 4, 4),
        ("few", "probe", 12, 6),
    ]
    assert {c.sizes.tests for c in contrasts} == {6}, "five comparisons, of which one is declared twice, and one margin"
    chance, few = contrasts[0].sizes, contrasts[4].sizes
    assert (chance.reference_accuracy, chance.trials, chance.random_draws) == (0.5, (1,), ())
    assert (few.reference_accuracy, few.trials, few.random_draws) == (None, (6, 1), (3,))


def test_the_majority_reference_of_unequal_classes_is_the_share_of_the_largest_class(tmp_path):
    bench = Bench(tmp_path / "bench")
    bench.rows = [row for row in bench.rows if row["id"] not in {"1-high-0", "2-high-0", "3-high-0"}]
    bench.study["contrasts"] = [{"classifier": "probe", "against": ["majority", "chance"]}]
    majority, chance = (c.sizes.reference_accuracy for c in planned_contrasts(bench.graph()))
    assert (majority, chance) == (pytest.approx(6 / 9), 1 / 2)  # 6 of 9 clips are low


def test_a_limited_study_has_fewer_clips(graph):
    limited = Graph(limit_study(graph.study, 2), graph.data_folder)
    assert [c.sizes.clips for c in planned_contrasts(limited)] == [6, 6, 2, 4, 6]
