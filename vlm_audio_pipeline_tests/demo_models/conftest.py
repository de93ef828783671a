"""Clips that were not in the training of the demo models, as a study reads them."""

import pytest

from demo_model_training.material import RENDERINGS
from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline_tests.demo_models.held_out import HeldOutClips


@pytest.fixture(scope="session")
def held_out(tmp_path_factory) -> HeldOutClips:
    """100 clips of another seed than those of the training and of the demo, with images in rendering `demo`."""
    spec = SyntheticDataset(clips=100, n_folds=2, seed=77, takes=1)
    dataset = spec.open(DataFolder(tmp_path_factory.mktemp("held_out")))
    return HeldOutClips.render(dataset, Recipe(**RENDERINGS["demo"]))
