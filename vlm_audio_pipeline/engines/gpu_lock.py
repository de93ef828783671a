"""One lock for the accelerator of this machine, shared by all users and data folders.

A run of the local engine holds it alone, one step at a time. The workers of a Ray cluster hold it together, because Ray gives each of
them a GPU of its own.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm_audio_pipeline.contracts.paths import expand_home
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.storage.locks import machine_lock

DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Device files of the drivers: NVIDIA, AMD, and both under WSL."""


def gpu_lock_path() -> Path:
    """Return the path of the lock file.

    `VLM_AUDIO_GPU_LOCK` sets it. The default is one file for all users of the machine, in the temporary folder.
    """
    path = os.environ.get("VLM_AUDIO_GPU_LOCK")
    return expand_home(path) if path else Path(tempfile.gettempdir()) / "vlm-audio-gpu.lock"


def has_gpu() -> bool:
    """Return whether this process may use a GPU; does not load torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(os.path.exists(d) for d in DEVICES)


@contextmanager
def exclusive_gpu(progress: Progress = no_progress) -> Iterator[None]:
    """Hold the accelerator while a step runs; without an accelerator, do nothing.

    Args:
        progress: called once if another process has the accelerator.
    """
    if not has_gpu():
        yield
        return
    with machine_lock(gpu_lock_path(), lambda: progress(0, 1, "waiting for the GPU: another process uses it")):
        yield


@contextmanager
def shared_gpu() -> Iterator[None]:
    """Hold the accelerator together with other workers of a cluster; wait for a run of the local engine that uses it."""
    if not has_gpu():
        yield
        return
    with machine_lock(gpu_lock_path(), is_shared=True):
        yield
