"""Clips that the demo's models were never trained on, as a study reads them."""

import pytest

from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.demo_models.material import RENDERINGS
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline_tests.demo_models.unseen import Unseen


@pytest.fixture(scope="session")
def unseen(tmp_path_factory) -> Unseen:
    """100 clips of another seed than those of the training and of the demo, and their pictures in rendering `demo`."""
    spec = SyntheticDataset(clips=100, n_folds=2, seed=77, takes=1)
    dataset = spec.open(Layout(tmp_path_factory.mktemp("unseen")))
    return Unseen.drawn(dataset, Recipe(**RENDERINGS["demo"]))
