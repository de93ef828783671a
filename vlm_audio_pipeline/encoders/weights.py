"""Weight files on this machine: their revision, whether they are complete, and their download.

Handles the hub's cache folder (https://huggingface.co/docs/huggingface_hub/guides/manage-cache), local folders, and the demo
models of this package (`demo_models`). Imports no torch. Only `fetch_weights` downloads. Loading is in `pretrained`.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.paths import expand_home
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.stages import Input
from vlm_audio_pipeline.encoders.large_files import fetch_large_file
from vlm_audio_pipeline.storage.atomic import write_atomically

TENSOR_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")  # preferred format first
DESCRIPTION_SUFFIXES = (".json", ".txt", ".model", ".jinja")
CONFIG = ("config.json", "preprocessor_config.json|processor_config.json")
"""Config files that every model of transformers needs; `a|b` means either."""

DEMO_MODELS = Path(__file__).parents[1] / "demo_models"
"""Folder of the models of this package; each has a folder of its name, e.g. `demo-janus`."""


def _relative_to_study(model: str, info: ValidationInfo) -> str:
    if not model.startswith(("/", "./", "../", "~")):
        return model
    folder, path = (info.context or {}).get("folder"), expand_home(model)
    return os.path.normpath(path if folder is None or path.is_absolute() else Path(folder) / path)


ModelName = Annotated[str, AfterValidator(_relative_to_study)]
"""A model id of the hub (`org/name`), one that comes with this package (`demo-janus`, `demo-clap`, `demo-aimv2`), or a
folder: `/...`, `~/...`, or `./...` and `../...` relative to the study file."""


def cache_folder() -> Path:
    """Return the hub's cache folder, from the same environment variables as huggingface_hub, without importing it."""
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if cache:
        return expand_home(os.path.expandvars(cache))
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return expand_home(os.path.expandvars(home)) / "hub"


@dataclass(frozen=True)
class Weights:
    """The files of one model.

    Attributes:
        model: id on the hub, an absolute path of a folder, or `demo-...` for one that comes with this package.
        revision: branch, tag or full commit; None: the default branch. A folder has none.
        needs: names of required files besides tensors; `a|b` means either.
        tensors: names of the files with tensors, if the repository contains other tensor files; by default all.
        has_other_models: whether the repository also contains other models; the name of the input asset then includes `tensors`.
    """

    model: str
    revision: str | None = None
    needs: tuple[str, ...] = CONFIG
    tensors: tuple[str, ...] = ()
    has_other_models: bool = False

    @property
    def is_demo_model(self) -> bool:
        """Whether the model comes with this package."""
        return re.fullmatch(r"demo-[a-z0-9]+", self.model) is not None

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder (of the user or of this package), not a repository of the hub."""
        return os.path.isabs(self.model) or self.is_demo_model

    @property
    def input_asset(self) -> Input:
        """Input asset of a stage with this model; its data version is the revision.

        Weights that change make results stale; weights that are deleted do not.
        """
        name = self.model
        if self.is_demo_model:
            name = name.replace("-", "/")  # the same on every machine
        elif self.is_folder:
            name = f"local/{re.sub('[^A-Za-z0-9_]+', '_', Path(name).name)}_{fingerprint(name, length=8)}"
        name = f"{name}@{self.revision}" if self.revision else name
        return Input("models", "/".join((name, *self.tensors)) if self.has_other_models else name)

    def resolve(self) -> str | None:
        """Return the commit, or the digest of a folder; None if the cache of this machine does not record it.

        A branch or tag is resolved to the commit that the cache records for it; only `fetch_weights` changes that record.
        """
        if self.is_folder:
            return _folder_digest(self._folder, self.tensors) if self._folder.is_dir() else None
        if self.revision and re.fullmatch(r"[0-9a-f]{40}", self.revision):
            return self.revision
        try:
            return (self._repository / "refs" / (self.revision or "main")).read_text().strip() or None
        except OSError:
            return None

    def missing(self) -> str | None:
        """Return why the weights cannot be loaded on this machine, or None."""
        reason = self._missing_reason()
        if reason is None:
            return None
        advice = "correct `model`" if self.is_folder else "get them with `vlm-audio fetch STUDY`"
        if self.is_demo_model:
            advice = f"the models of this package are {', '.join(_demo_models()) or 'none'}; correct `model`"
        revision = "" if self.is_folder else f" (revision {self.revision or 'main'})"
        return f"weights of {self.model} missing{revision}: {reason}; {advice}"

    def snapshot(self) -> Path:
        """Return the folder with the files.

        Raises:
            NotAvailable: if files are missing; names model, revision and the command that downloads them.
        """
        if (reason := self.missing()) is not None:
            raise NotAvailable(reason)
        return self._folder

    def config(self, name: str = "config.json") -> dict[str, Any]:
        """Read one of the JSON files; {} if it is missing."""
        try:
            content = json.loads((self._folder / name).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def _repository(self) -> Path:
        return cache_folder() / ("models--" + self.model.replace("/", "--"))

    @property
    def _folder(self) -> Path:
        if self.is_demo_model:
            return DEMO_MODELS / self.model
        return Path(self.model) if self.is_folder else self._repository / "snapshots" / (self.resolve() or "unknown")

    def _missing_reason(self) -> str | None:
        folder = self._folder
        if not folder.is_dir():
            return "the folder does not exist" if self.is_folder else "they are not on this machine"
        for names in (*self.needs, *self.tensors):
            if not any((folder / name).exists() for name in names.split("|")):
                return f"there is no {names.replace('|', ' or ')}"
        return None if self.tensors else _missing_tensors(folder)


def _demo_models() -> list[str]:
    return sorted(p.parent.name for p in DEMO_MODELS.glob("demo-*/config.json"))


def _missing_tensors(folder: Path) -> str | None:
    """Return which tensor files of a folder are missing (shards, or all); None if they are complete."""
    existing = {p.name for p in folder.iterdir() if p.exists()}  # broken links do not exist
    for suffix in TENSOR_SUFFIXES:
        if index := next((n for n in sorted(existing) if n.endswith(f"{suffix}.index.json")), None):
            shards = set(json.loads((folder / index).read_text())["weight_map"].values())
            absent = sorted(shards - existing)
            return f"there is no {', '.join(absent)}" if absent else None
        if any(n.endswith(suffix) for n in existing):
            return None
    return f"there is no {' or '.join(TENSOR_SUFFIXES)} file"


def _folder_digest(folder: Path, tensors: tuple[str, ...]) -> str:
    suffixes = (*TENSOR_SUFFIXES, *DESCRIPTION_SUFFIXES)
    files = sorted(p for p in folder.iterdir() if (p.suffix in suffixes or p.name in tensors) and p.is_file())
    return fingerprint([[path.name, file_sha256(path)] for path in files], length=40)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; it is computed again only after its size, inode or times changed."""
    s = path.stat()
    return _sha256(str(path), s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns)


@lru_cache(maxsize=4096)
def _sha256(name: str, *_stamp: int) -> str:
    with open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def required_files(names: Sequence[str], tensors: Sequence[str] = ()) -> list[str]:
    """Select the files of a repository that a model is loaded from: descriptions, and tensors in one format.

    Args:
        names: paths within the repository.
        tensors: the files with tensors; by default those of the best available format in the top folder.

    >>> required_files(["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "training_args.bin"])
    ['config.json', 'model.safetensors']
    """
    top = [n for n in names if "/" not in n and n != "training_args.bin"]
    formats = [[n for n in top if n.endswith(suffix)] for suffix in TENSOR_SUFFIXES]
    tensor_files = list(tensors) or next((f for f in formats if f), [])
    return sorted({n for n in top if n.endswith(DESCRIPTION_SUFFIXES)} | set(tensor_files))


def fetch_weights(weights: Weights, progress: Progress = no_progress) -> str:
    """Download the missing files of a model into the hub's cache and record its revision there.

    The record (`refs/<branch>`) is written last, so the old weights stay in use until the new ones are complete.

    Args:
        weights: a model of the hub; for a folder nothing is downloaded.
        progress: called with the bytes downloaded so far, the total and the name of the model.

    Returns:
        The commit, or the digest of a folder.

    Raises:
        NotAvailable: if the hub cannot be reached, has no such model, revision or file, or sends contents that do not have
            the declared hash.
    """
    if weights.is_folder:
        weights.snapshot()
        return weights.resolve() or ""
    from huggingface_hub import HfApi, hf_hub_download

    name, revision = weights.model, weights.revision or "main"
    try:
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
        siblings = {s.rfilename: s for s in info.siblings or []}
        sizes = {file: s.size or 0 for file, s in siblings.items()}
        files, commit = required_files(list(sizes), weights.tensors), str(info.sha)
        absent = sorted(set(files) - set(sizes))
        if absent:
            raise NotAvailable(f"{name} (revision {revision}) has no {absent}; correct `model`")
        done, total = 0, sum(sizes[f] for f in files)
        for file in files:
            progress(done, total, name)
            fetch_large_file(
                name, commit, siblings[file], cache_folder(), partial(_report_bytes, progress, done, total, name)
            )
            hf_hub_download(name, file, revision=commit, cache_dir=cache_folder())
            done += sizes[file]
        progress(done, total, name)
    except BadDataset as error:
        raise NotAvailable(str(error)) from error
    except _download_errors() as error:
        raise NotAvailable(
            f"weights of {name} (revision {revision}) cannot be downloaded: {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}; check the name, the "
            "network and, for gated models, HF_TOKEN"
        ) from error
    if revision != commit:
        write_atomically(weights._repository / "refs" / revision, commit)
    return commit


def _report_bytes(progress: Progress, before: int, total: int, name: str, done: int) -> None:
    progress(before + done, total, name)


def _download_errors() -> tuple[type[Exception], ...]:
    """Return the errors of huggingface_hub and of its HTTP library, which depends on its version."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    http_errors = tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    return (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, *http_errors)
