"""One lock for the accelerator of this machine, whoever runs and from whichever data folder.

What belongs here: waiting for the GPU. What does not: the lock of each (step, fold), which lies in the data folder and
is taken by `execute`. Both are `flock`s: the kernel releases them when their holder dies, however it dies.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vlm_audio_pipeline.contracts.paths import expanded
from vlm_audio_pipeline.contracts.stages import Progress, silent

DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What a driver puts there: NVIDIA, AMD, and either under Windows' Linux."""
_LOOK_AGAIN_S = 0.5


def gpu_lock_path() -> Path:
    """Give the lock file: `VLM_AUDIO_GPU_LOCK`, else one for all users of this machine in the temporary folder."""
    given = os.environ.get("VLM_AUDIO_GPU_LOCK")
    return expanded(given) if given else Path(tempfile.gettempdir()) / "vlm-audio-gpu.lock"


def gpu_is_here() -> bool:
    """Say whether this machine has a GPU that this process may use, without loading torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(os.path.exists(d) for d in DEVICES)


@contextmanager
def gpu_alone(progress: Progress = silent) -> Iterator[None]:
    """Hold the accelerator while a step runs; where there is none, wait for nobody.

    Args:
        progress: told when another process has it.
    """
    if not gpu_is_here():
        yield
        return
    with holding(gpu_lock_path(), progress):
        yield


@contextmanager
def holding(path: Path, progress: Progress = silent) -> Iterator[None]:
    """Hold a lock file that users of one machine share; wait for whoever has it.

    Args:
        path: the file; made where it is absent, and left there.
        progress: told when it has to be waited for.
    """
    import fcntl

    file = _open(path)
    try:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress(0, 1, "waiting for the GPU, which another process has")
                    told = True
                time.sleep(_LOOK_AGAIN_S)
        yield
    finally:
        os.close(file)  # and the lock is gone with it


def _open(path: Path) -> int:
    """Open the file for whoever made it; one that another user made in a shared folder can only be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
