"""Computing: works on this machine or on a Ray cluster, the lock of the GPU, and checks of the set-up."""

from vlm_audio_pipeline.contracts.work import Failure
from vlm_audio_pipeline.engines.local import LocalEngine, compute_results, core_count, map_ordered

__all__ = ["Failure", "LocalEngine", "compute_results", "core_count", "map_ordered"]
