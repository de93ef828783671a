"""Check whether the models of a study changed on the Hugging Face hub, and fetch the changed models.

The data version of `models/<org>/<repo>` is the revision on this machine, as `staleness.current_input_versions` returns it.
A newer commit on the hub has no effect until its files are fetched. If the hub cannot be reached, results stay fresh.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.encoders.weights import Weights, cache_folder, fetch_weights, required_files
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.disk_usage import format_bytes

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ModelStatus:
    """The state of a model on this machine and on the hub.

    Attributes:
        name: name of its input asset, `models/<org>/<repo>`.
        weights: the model.
        local_revision: revision on this machine: the commit, or the digest of a folder; None if it has none.
        hub_revision: the commit of its branch or tag on the hub; None if the hub was not queried or could not be reached.
        changed: whether a file that the model is loaded from is different at `hub_revision`.
        download_bytes: size of the files to download.
        problem: why the hub could not be queried, or why the newer files were not fetched; "" if there is no problem.
    """

    name: str
    weights: Weights
    local_revision: str | None
    hub_revision: str | None = None
    changed: bool = False
    download_bytes: int = 0
    problem: str = ""

    @property
    def message(self) -> str:
        """The status in one line."""
        is_local = self.local_revision is not None and self.weights.missing() is None
        since = f"unchanged since {self._local_revision_day}" if is_local else "not on this machine"
        if self.problem:
            return f"{self.name}: {since}; {self.problem}"
        if self.changed:
            size = f"{format_bytes(self.download_bytes)}; get it with `vlm-audio fetch STUDY`"
            return f"{self.name}: {since}; the hub has {(self.hub_revision or '')[:12]} ({size})"
        return f"{self.name}: {(self.local_revision or 'no revision')[:12]}, {since}"

    @property
    def _local_revision_day(self) -> str:
        """The day on which the revision was fetched, or the newest file of a folder was changed."""
        reference = _cached_repository(self.weights) / "refs" / (self.weights.revision or "main")
        if self.weights.is_folder or not reference.is_file():
            return _day(max(p.stat().st_mtime for p in self.weights.snapshot().iterdir() if p.is_file()))
        return _day(reference.stat().st_mtime)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def study_models(graph: Graph) -> list[Weights]:
    """Return the models of a study, each once."""
    study = graph.study
    all_weights = [encoder.weights for encoder in study.encoders.values()]
    all_weights += [classifier.needs().weights for classifier in study.classifiers.values()]
    models: dict[str, Weights] = {}
    for weights in all_weights:
        if weights is not None:
            models.setdefault(weights.input_asset.key, weights)
    return list(models.values())


def check_hub_revisions(graph: Graph, timeout_s: float = TIMEOUT_S, only: str | None = None) -> Iterator[ModelStatus]:
    """Yield the status of each model of a study. Folders and pinned commits are not checked.

    After a failed connection, the other models are not checked.

    Args:
        graph: the study.
        timeout_s: how long to wait for a response of the hub, s.
        only: name of an input asset; yield only this model, and nothing if it is not a model.
    """
    unreachable = ""
    for weights in study_models(graph):
        if only not in (None, weights.input_asset.key):
            continue
        status = ModelStatus(weights.input_asset.key, weights, weights.resolve())
        if weights.is_folder or status.local_revision == weights.revision is not None:
            yield status
        elif unreachable:
            yield replace(status, problem=unreachable)
        else:
            status, is_reachable = _query_hub(status, timeout_s)
            if not is_reachable:
                unreachable = status.problem
            yield status


def fetch_changed_models(
    graph: Graph, download_gb: float, progress: Progress = no_progress, timeout_s: float = TIMEOUT_S
) -> Iterator[ModelStatus]:
    """Fetch the models of a study that changed on the hub; yield the status of each model.

    Args:
        graph: the study.
        download_gb: maximum download, GB, of all models together; models that exceed it are not fetched.
        progress: called with the downloaded bytes.
        timeout_s: how long to wait for a response of the hub, s.
    """
    remaining_bytes = round(download_gb * 1e9)
    for status in check_hub_revisions(graph, timeout_s):
        if status.problem or not status.changed:
            yield status
            continue
        free = shutil.disk_usage(_nearest_existing_folder(cache_folder())).free
        commit = f"the hub has {(status.hub_revision or '')[:12]}, {format_bytes(status.download_bytes)}"
        if status.download_bytes > remaining_bytes:
            yield replace(
                status, problem=f"{commit}, more than `rerun.download_gb` allows; get it with `vlm-audio fetch`"
            )
        elif status.download_bytes > 0.9 * free:
            yield replace(
                status, problem=f"{commit}, more than the free disk space ({format_bytes(free)}); free some space"
            )
        else:
            try:
                revision = fetch_weights(status.weights, progress)
            except (NotAvailable, OSError) as error:
                yield replace(status, problem=f"{commit}, and could not be fetched: {error}")
                continue
            remaining_bytes -= status.download_bytes
            yield replace(status, local_revision=revision, changed=False)


def _query_hub(status: ModelStatus, timeout_s: float) -> tuple[ModelStatus, bool]:
    """Query the hub for one model; return its status, and whether the hub could be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    weights, revision = status.weights, status.weights.revision or "main"
    http_errors = tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    try:
        info = HfApi().model_info(weights.model, revision=revision, timeout=timeout_s, files_metadata=True)
    except (HfHubHTTPError, HFValidationError) as error:
        is_reachable = getattr(getattr(error, "response", None), "status_code", 0) < 500
        return replace(status, problem=f"the hub rejected the request: {_first_line(error)}"), is_reachable
    except (OSError, *http_errors) as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        return replace(
            status, problem=f"the hub could not be reached ({reason}), so the model counts as unchanged"
        ), False
    siblings = {s.rfilename: s for s in info.siblings or []}
    files = [siblings[n] for n in required_files(list(siblings), weights.tensors) if n in siblings]
    new_files = [s for s in files if not (_cached_repository(weights) / "blobs" / _blob(s)).is_file()]
    changed = weights.missing() is not None or not _same_files(weights, files)
    return replace(
        status, hub_revision=info.sha, changed=changed, download_bytes=sum(s.size or 0 for s in new_files)
    ), True


def _same_files(weights: Weights, files: list[Any]) -> bool:
    """Return whether the model files on this machine equal those on the hub; other files (README) do not matter."""
    local = {p.name: p.resolve().name for p in weights.snapshot().iterdir()}
    remote = {s.rfilename: _blob(s) for s in files}
    return {name: local.get(name) for name in remote} == remote


def _blob(sibling: Any) -> str:
    """Return the name of a file in the hub's cache: the SHA-256 of large files, the git id of small ones."""
    return (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or "unknown"


def _cached_repository(weights: Weights) -> Path:
    return cache_folder() / ("models--" + weights.model.replace("/", "--"))


def _nearest_existing_folder(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
