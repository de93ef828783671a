"""Check whether this machine is ready to run studies."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys

from vlm_audio_pipeline.engines.local import core_count
from vlm_audio_pipeline.engines.machine_check import MachineCheck
from vlm_audio_pipeline.storage.data_folder import DataFolder

PACKAGES = (
    "dagster",
    "duckdb",
    "pyarrow",
    "torch",
    "transformers",
    "librosa",
    "scikit-learn",
    "matplotlib",
    "soundfile",
)
MIN_FREE_DISK = 5e9  # bytes


def check_machine(data_folder: DataFolder) -> list[MachineCheck]:
    """Check Python, packages, processor, GPU, disk and data folder."""
    python = f"Python {platform.python_version()} on {platform.machine()}, {core_count()} cores"
    return [
        MachineCheck("ok" if sys.version_info >= (3, 11) else "bad", python),
        *_check_packages(),
        _check_torch(),
        *_check_data_folder(data_folder),
    ]


def installed_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_packages() -> list[MachineCheck]:
    versions, missing = [], []
    for name in PACKAGES:
        if (version := installed_version(name)) is None:
            missing.append(name)
        else:
            versions.append(f"{name} {version}")
    checks = [MachineCheck("ok", ", ".join(versions))]
    if missing:
        checks.append(MachineCheck("bad", f"not installed: {', '.join(missing)}; run `pip install vlm-audio-pipeline`"))
    return checks


def gpu_name() -> str | None:
    """Return the name of the GPU as the driver reports it, independent of torch; None without a GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"(nvidia-smi failed: {error})"
    return result.stdout.strip().splitlines()[0] if result.returncode == 0 and result.stdout.strip() else None


def _check_torch() -> MachineCheck:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that torch is linked with is missing
        return MachineCheck("bad", f"torch cannot be imported: {error}; install it again")
    return check_gpu(gpu_name(), torch.__version__, torch.cuda.is_available())


def check_gpu(name: str | None, torch_version: str, can_use_gpu: bool) -> MachineCheck:
    """Check whether torch can use the GPU of this machine.

    Args:
        name: name of the GPU from its driver, or None.
        torch_version: version of torch, such as "2.13.0+cpu".
        can_use_gpu: whether torch can use a GPU.
    """
    if can_use_gpu:
        return MachineCheck("ok", f"GPU {name or '(unknown to nvidia-smi)'}; torch {torch_version} can use it")
    if name is None:
        return MachineCheck("ok", f"no GPU; torch {torch_version} computes on the processor")
    return MachineCheck(
        "warn",
        f"GPU {name} is present, but torch {torch_version} cannot use it, so models run on the processor; install a "
        "CUDA build as in the README (`pip install torch==2.13.0 --index-url ...`), or update the driver",
    )


def _check_data_folder(data_folder: DataFolder) -> list[MachineCheck]:
    folder = data_folder.root
    existing_folder = folder
    while not os.path.exists(existing_folder):  # also False without permission
        existing_folder = existing_folder.parent
    free = shutil.disk_usage(existing_folder).free
    checks = [
        MachineCheck("ok", f"data folder {folder}{'' if folder.exists() else ' (does not exist yet)'}")
        if os.path.isdir(existing_folder) and os.access(existing_folder, os.W_OK | os.X_OK)
        else MachineCheck(
            "bad", f"data folder {folder} is not a writable folder; choose another with --data or VLM_AUDIO_DATA"
        )
    ]
    checks.append(MachineCheck("ok" if free > MIN_FREE_DISK else "warn", f"{free / 1e9:.0f} GB free on its disk"))
    return checks
