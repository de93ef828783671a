"""Computing on this machine: batches over its cores, the lock of its GPU, and checks of its set-up."""

from vlm_audio_pipeline.engines.local import Failure, compute_results, core_count

__all__ = ["Failure", "compute_results", "core_count"]
