"""What this machine offers, and what must be mended before a study runs well."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.engines.local import cores
from vlm_audio_pipeline.storage.layout import Layout

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
LITTLE_DISK = 5e9  # bytes


@dataclass(frozen=True)
class Finding:
    """One thing looked at: "ok", "warn" (works, but worse than it could) or "bad" (must be mended)."""

    state: Literal["ok", "warn", "bad"]
    what: str


def examine(layout: Layout) -> list[Finding]:
    """Look at Python, packages, processor, GPU, disk, data folder and local datasets."""
    python = f"Python {platform.python_version()} on {platform.machine()}, {cores()} cores"
    return [
        Finding("ok" if sys.version_info >= (3, 11) else "bad", python),
        *_packages(),
        _torch(),
        *_data(layout),
        _esc10(),
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
        findings.append(Finding("bad", f"not installed: {', '.join(missing)}; do `pip install vlm-audio-pipeline`"))
    return findings


def _gpu_here() -> str | None:
    """Name the GPU the driver knows, whatever torch thinks."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"(nvidia-smi gave no answer: {error})"
    return asked.stdout.strip().splitlines()[0] if asked.returncode == 0 and asked.stdout.strip() else None


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library torch is linked with is missing
        return Finding("bad", f"torch must be importable, got {error}; install it again")
    return gpu_finding(_gpu_here(), torch.__version__, torch.cuda.is_available())


def gpu_finding(name: str | None, torch_version: str, sees: bool) -> Finding:
    """Judge whether torch makes use of the GPU there is.

    Args:
        name: the GPU as its driver names it, or None.
        torch_version: as torch gives it, such as "2.13.0+cpu".
        sees: whether torch can use a GPU.
    """
    if sees:
        return Finding("ok", f"GPU {name or '(unknown to nvidia-smi)'}; torch {torch_version} sees it")
    if name is None:
        return Finding("ok", f"no GPU; torch {torch_version} computes on the processor")
    return Finding(
        "warn",
        f"GPU {name} is there, but torch {torch_version} cannot see it: models will run on the processor; install a "
        "CUDA build as the README says (`pip install torch==2.13.0 --index-url ...`), or update the driver",
    )


def _data(layout: Layout) -> list[Finding]:
    folder = layout.root
    there = folder
    while not os.path.exists(there):  # False, too, where we may not look
        there = there.parent
    free = shutil.disk_usage(there).free
    findings = [
        Finding("ok", f"data folder {folder}{'' if folder.exists() else ' (not made yet)'}")
        if os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK)
        else Finding(
            "bad", f"data folder {folder} must be a writable folder; choose another with --data or VLM_AUDIO_DATA"
        )
    ]
    words = f"{free / 1e9:.0f} GB of disk free there"
    findings.append(Finding("ok" if free > LITTLE_DISK else "warn", words))
    return findings


def _esc10() -> Finding:
    folder = os.path.expanduser(os.environ.get("ESC10_DIR", ""))
    if folder and not os.path.isdir(folder):
        return Finding("bad", f"ESC10_DIR must be a folder, got {folder}; correct or unset it")
    return Finding("ok", f"ESC-10 from {folder}" if folder else "ESC-10: downloaded when first needed (40 MB)")
