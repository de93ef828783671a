"""Compiled code of UMAP is kept on disk."""

import pytest

from vlm_audio_pipeline.evaluation.compiled_umap import import_umap


@pytest.mark.slow
def test_compiled_functions_of_umap_are_stored():
    import_umap()
    import umap.layouts
    import umap.umap_

    for function in (umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths, umap.layouts.clip):
        assert function.stats.cache_path is not None
