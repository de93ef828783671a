"""Weights on this machine: which revision of a model there is, whether it is whole, and how to get it.

What belongs here: the hub's cache folder (https://huggingface.co/docs/huggingface_hub/guides/manage-cache), local
folders, and the demo's models, which come with this package (`demo_models`). What does not: loading them into a model (`pretrained`). Nothing here imports torch, and asking whether weights
are here takes a few looks at the disk; nothing is downloaded but by `fetch_weights`.
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
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.paths import expanded
from vlm_audio_pipeline.contracts.stages import Input, Progress, silent
from vlm_audio_pipeline.encoders.large_files import fetch_large_file

TENSORS = (".safetensors", ".bin", ".pt", ".pth")  # best first
DESCRIPTIONS = (".json", ".txt", ".model", ".jinja")
CONFIG = ("config.json", "preprocessor_config.json|processor_config.json")
"""Files without which no model of transformers can be fed; `a|b`: either."""


PACKAGED = Path(__file__).parents[1] / "demo_models"
"""Where the models lie that come with this package, wherever it is installed; `demo-janus` is its folder of that name."""


def _beside_the_study(model: str, info: ValidationInfo) -> str:
    if not model.startswith(("/", "./", "../", "~")):
        return model
    folder, path = (info.context or {}).get("folder"), expanded(model)
    return os.path.normpath(path if folder is None or path.is_absolute() else Path(folder) / path)


ModelName = Annotated[str, AfterValidator(_beside_the_study)]
"""A model id of the hub (`org/name`), one that comes with this package (`demo-janus`, `demo-clap`, `demo-aimv2`), or a
folder: `/...`, `~/...`, or `./...` and `../...` seen from the study file."""


def cache_folder() -> Path:
    """Give the hub's cache folder, by the same variables as huggingface_hub, without importing it."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if given:
        return expanded(os.path.expandvars(given))
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return expanded(os.path.expandvars(home)) / "hub"


@dataclass(frozen=True)
class Weights:
    """The files of one model.

    Attributes:
        model: id on the hub, an absolute path of a folder, or `demo-...` for one that comes with this package.
        revision: branch, tag or full commit; None: the default branch. A folder has none.
        needs: files that must be there besides tensors, by name; `a|b` for either.
        tensors: names of the files with tensors, where the repository holds others too; by default what there is.
        among_others: whether those others are models of their own; a source is then named by its tensors, too.
    """

    model: str
    revision: str | None = None
    needs: tuple[str, ...] = CONFIG
    tensors: tuple[str, ...] = ()
    among_others: bool = False

    @property
    def is_packaged(self) -> bool:
        """Whether the model comes with this package."""
        return re.fullmatch(r"demo-[a-z0-9]+", self.model) is not None

    @property
    def is_folder(self) -> bool:
        """Whether the model is a folder, one's own or this package's, and not of the hub."""
        return os.path.isabs(self.model) or self.is_packaged

    @property
    def observed(self) -> Input:
        """The source that a stage with this model reads; its data version is the revision.

        Weights that go away make nothing stale; weights that change do.
        """
        name = self.model
        if self.is_packaged:
            name = name.replace("-", "/")  # the same on every machine
        elif self.is_folder:
            name = f"local/{re.sub('[^A-Za-z0-9_]+', '_', Path(name).name)}_{fingerprint(name, length=8)}"
        name = f"{name}@{self.revision}" if self.revision else name
        return Input("models", "/".join((name, *self.tensors)) if self.among_others else name)

    def resolve(self) -> str | None:
        """Give what identifies the files: the commit, or the digest of a folder; None where that is not known here.

        A branch or tag stands for the commit the cache has on record; only `fetch_weights` moves it.
        """
        if self.is_folder:
            return _folder_digest(self._folder) if self._folder.is_dir() else None
        if self.revision and re.fullmatch(r"[0-9a-f]{40}", self.revision):
            return self.revision
        try:
            return (self._repository / "refs" / (self.revision or "main")).read_text().strip() or None
        except OSError:
            return None

    def missing(self) -> str | None:
        """Say why the weights cannot be loaded here and now, or None."""
        why = self._why_missing()
        if why is None:
            return None
        do = "correct `model`" if self.is_folder else "get them with `vlm-audio fetch STUDY`"
        if self.is_packaged:
            do = f"of the models that come with this package there are {', '.join(_packaged()) or 'none'}; correct `model`"
        revision = "" if self.is_folder else f" (revision {self.revision or 'main'})"
        return f"weights of {self.model} missing{revision}: {why}; {do}"

    def snapshot(self) -> Path:
        """Give the folder with the files.

        Raises:
            NotAvailable: when they are not all here; names model, revision and the command that gets them.
        """
        if (reason := self.missing()) is not None:
            raise NotAvailable(reason)
        return self._folder

    def config(self, name: str = "config.json") -> dict:
        """Read one of the JSON files; {} where it is not here."""
        try:
            found = json.loads((self._folder / name).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the files, or None where they are not all here."""
        return None if self.missing() else sum(os.stat(p).st_size for p in self._folder.iterdir() if p.is_file())

    @property
    def _repository(self) -> Path:
        return cache_folder() / ("models--" + self.model.replace("/", "--"))

    @property
    def _folder(self) -> Path:
        if self.is_packaged:
            return PACKAGED / self.model
        return Path(self.model) if self.is_folder else self._repository / "snapshots" / (self.resolve() or "unknown")

    def _why_missing(self) -> str | None:
        folder = self._folder
        if not folder.is_dir():
            return "there is no such folder" if self.is_folder else "they are not on this machine"
        for names in (*self.needs, *self.tensors):
            if not any((folder / name).exists() for name in names.split("|")):
                return f"there is no {names.replace('|', ' or ')}"
        return None if self.tensors else _without_tensors(folder)


def _packaged() -> list[str]:
    return sorted(p.parent.name for p in PACKAGED.glob("demo-*/config.json"))


def _without_tensors(folder: Path) -> str | None:
    """Say what is missing of the tensors of a folder: a shard, or all; None where they are whole."""
    there = {p.name for p in folder.iterdir() if p.exists()}  # links whose file is gone do not exist
    for suffix in TENSORS:
        if index := next((n for n in sorted(there) if n.endswith(f"{suffix}.index.json")), None):
            shards = set(json.loads((folder / index).read_text())["weight_map"].values())
            absent = sorted(shards - there)
            return f"there is no {', '.join(absent)}" if absent else None
        if any(n.endswith(suffix) for n in there):
            return None
    return f"there is no {' or '.join(TENSORS)} file"


def _folder_digest(folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.suffix in (*TENSORS, *DESCRIPTIONS) and p.is_file())
    stamps = []
    for path in files:
        s = path.stat()
        stamps.append((str(path), s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns))
    return _digest_of(tuple(stamps))


@lru_cache(maxsize=256)
def _digest_of(stamps: tuple[tuple, ...]) -> str:
    """Hash names and contents of files; remembered while size, inode and times stay as they are."""
    contents = []
    for name, *_ in stamps:
        with open(name, "rb") as file:
            contents.append([os.path.basename(name), hashlib.file_digest(file, "sha256").hexdigest()])
    return fingerprint(contents, length=40)


def wanted_files(names: Sequence[str], tensors: Sequence[str] = ()) -> list[str]:
    """Choose from a repository's files those a model is loaded from: descriptions, and tensors in one format.

    Args:
        names: paths within the repository.
        tensors: the files with tensors; by default the best format there is, from the repository's top folder.

    >>> wanted_files(["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "training_args.bin"])
    ['config.json', 'model.safetensors']
    """
    top = [n for n in names if "/" not in n and n != "training_args.bin"]
    formats = [[n for n in top if n.endswith(suffix)] for suffix in TENSORS]
    chosen = list(tensors) or next((f for f in formats if f), [])
    return sorted({n for n in top if n.endswith(DESCRIPTIONS)} | set(chosen))


def fetch_weights(weights: Weights, progress: Progress = silent) -> str:
    """Download what is missing of a model into the hub's cache, and put its revision on record there.

    The record (`refs/<branch>`) is written last, so that whole weights of before stay in use until the new ones are whole.

    Args:
        weights: a model of the hub; of a folder nothing is downloaded.
        progress: told bytes after each file.

    Returns:
        The commit, or the digest of a folder.

    Raises:
        NotAvailable: when the hub cannot be reached, has no such model, revision or file, or gives other contents than
            it says.
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
        files, commit = wanted_files(list(sizes), weights.tensors), str(info.sha)
        absent = sorted(set(files) - set(sizes))
        if absent:
            raise NotAvailable(f"{name} (revision {revision}) must hold {absent}, but does not; correct `model`")
        done, total = 0, sum(sizes[f] for f in files)
        for file in files:
            progress(done, total, name)
            fetch_large_file(name, commit, siblings[file], cache_folder(), partial(_told, progress, done, total, name))
            hf_hub_download(name, file, revision=commit, cache_dir=cache_folder())
            done += sizes[file]
        progress(done, total, name)
    except BadDataset as error:
        raise NotAvailable(str(error)) from error
    except _download_errors() as error:
        raise NotAvailable(
            f"weights of {name} (revision {revision}) must be downloadable, got {type(error).__name__}: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}; check the name, the "
            "network and, for gated models, HF_TOKEN"
        ) from error
    if revision != commit:
        ref = weights._repository / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f".{ref.name}.{os.getpid()}")
        new.write_text(commit)
        os.replace(new, ref)
    return commit


def _told(progress: Progress, before: int, total: int, name: str, done: int) -> None:
    progress(before + done, total, name)


def _download_errors() -> tuple[type[Exception], ...]:
    """Give what huggingface_hub raises, and the HTTP library below it; which one that is depends on its version."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    below = tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    return (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, *below)
