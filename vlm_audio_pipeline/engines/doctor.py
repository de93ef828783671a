"""Check whether this machine is ready to run studies."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.engines.local import core_count
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


@dataclass(frozen=True)
class Finding:
    """The result of one check: "ok", "warn" (works, but slower or at risk) or "bad" (must be fixed)."""

    state: Literal["ok", "warn", "bad"]
    text: str


def check_machine(data_folder: DataFolder) -> list[Finding]:
    """Check Python, packages, processor, GPU, disk and data folder."""
    python = f"Python {platform.python_version()} on {platform.machine()}, {core_count()} cores"
    return [
        Finding("ok" if sys.version_info >= (3, 11) else "bad", python),
        *_packages(),
        _torch(),
        *_data(data_folder),
    ]


def _packages() -> list[Finding]:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    findings = [Finding("ok", ", ".join(versions))]
    if missing:
        findings.append(Finding("bad", f"not installed: {', '.join(missing)}; run `pip install vlm-audio-pipeline`"))
    return findings


def _driver_gpu_name() -> str | None:
    """Return the name of the GPU as the driver reports it, independent of torch; None without a GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        reply = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"(nvidia-smi failed: {error})"
    return reply.stdout.strip().splitlines()[0] if reply.returncode == 0 and reply.stdout.strip() else None


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library torch is linked with is missing
        return Finding("bad", f"torch cannot be imported: {error}; install it again")
    return gpu_finding(_driver_gpu_name(), torch.__version__, torch.cuda.is_available())


def gpu_finding(name: str | None, torch_version: str, can_use_gpu: bool) -> Finding:
    """Check whether torch can use the GPU of this machine.

    Args:
        name: name of the GPU from its driver, or None.
        torch_version: version of torch, such as "2.13.0+cpu".
        can_use_gpu: whether torch can use a GPU.
    """
    if can_use_gpu:
        return Finding("ok", f"GPU {name or '(unknown to nvidia-smi)'}; torch {torch_version} can use it")
    if name is None:
        return Finding("ok", f"no GPU; torch {torch_version} computes on the processor")
    return Finding(
        "warn",
        f"GPU {name} is present, but torch {torch_version} cannot use it, so models run on the processor; install a "
        "CUDA build as in the README (`pip install torch==2.13.0 --index-url ...`), or update the driver",
    )


def _data(data_folder: DataFolder) -> list[Finding]:
    folder = data_folder.root
    existing = folder
    while not os.path.exists(existing):  # also False without permission
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    findings = [
        Finding("ok", f"data folder {folder}{'' if folder.exists() else ' (does not exist yet)'}")
        if os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)
        else Finding(
            "bad", f"data folder {folder} is not a writable folder; choose another with --data or VLM_AUDIO_DATA"
        )
    ]
    findings.append(Finding("ok" if free > MIN_FREE_DISK else "warn", f"{free / 1e9:.0f} GB free on its disk"))
    return findings
