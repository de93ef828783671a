"""Looking at the hub: whether the models of a study have moved there, and getting those that have.

What belongs here: asking what a branch or tag stands for now, and moving the record on this machine when asked to. What does
not: reading that record, which every plan does (`state.observe`). The record is what counts: a newer commit is of no use
before its files are here, so the data version of `models/<org>/<repo>` moves when the weights have been fetched, and a hub
that cannot be reached changes nothing at all.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.encoders.weights import Weights, cache_folder, fetch_weights, wanted_files
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.disk_usage import words_of

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Observation:
    """What was seen of one model.

    Attributes:
        name: of its source, `models/<org>/<repo>`.
        weights: the model.
        recorded: revision on record on this machine: the commit, or the digest of a folder; None where there is none.
        newest: what its branch or tag stands for on the hub now; None where the hub was not asked or gave no answer.
        changed: whether a file that the model is loaded from is another one at `newest`.
        download: bytes to download for that.
        trouble: why the hub gave no answer, or why what is newer was not fetched; "" where all is well.
    """

    name: str
    weights: Weights
    recorded: str | None
    newest: str | None = None
    changed: bool = False
    download: int = 0
    trouble: str = ""

    @property
    def words(self) -> str:
        """Say it to a person."""
        here = self.recorded is not None and self.weights.missing() is None
        since = f"unchanged since {self._since}" if here else "not on this machine"
        if self.trouble:
            return f"{self.name}: {since}; {self.trouble}"
        if self.changed:
            get = f"{words_of(self.download)}; get it with `vlm-audio fetch STUDY`"
            return f"{self.name}: {since}; the hub has {(self.newest or '')[:12]} ({get})"
        return f"{self.name}: {(self.recorded or 'nothing')[:12]}, {since}"

    @property
    def _since(self) -> str:
        """Give the day on which the revision came on record."""
        place = _repository(self.weights) / "refs" / (self.weights.revision or "main")
        if self.weights.is_folder or not place.is_file():
            return _day(max(p.stat().st_mtime for p in self.weights.snapshot().iterdir() if p.is_file()))
        return _day(place.stat().st_mtime)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def models_of(graph: Graph) -> list[Weights]:
    """Give the models of a study, each once."""
    specs = [*graph.study.encoders.values(), *graph.study.classifiers.values()]
    found: dict[str, Weights] = {}
    for spec in specs:
        weights = getattr(spec, "weights", None)
        if isinstance(weights, Weights):
            found.setdefault(weights.observed.key, weights)
    return list(found.values())


def look_at_models(graph: Graph, timeout_s: float = TIMEOUT_S, only: str | None = None) -> Iterator[Observation]:
    """Ask the hub what the models of a study are now; folders and pinned commits are not asked for.

    A hub that cannot be reached is asked once, not once a model.

    Args:
        graph: the study.
        timeout_s: how long to wait for an answer, s.
        only: only the model of this name, if it is one.
    """
    unreachable = ""
    for weights in models_of(graph):
        if only not in (None, weights.observed.key):
            continue
        seen = Observation(weights.observed.key, weights, weights.resolve())
        if weights.is_folder or seen.recorded == weights.revision is not None:
            yield seen
        elif unreachable:
            yield replace(seen, trouble=unreachable)
        else:
            seen, reached = _ask(seen, timeout_s)
            if not reached:
                unreachable = seen.trouble
            yield seen


def refresh_models(
    graph: Graph, download_gb: float, progress: Progress = silent, timeout_s: float = TIMEOUT_S
) -> Iterator[Observation]:
    """Look at the models of a study, and fetch those that have changed, which moves their record.

    Args:
        graph: the study.
        download_gb: the most to download, GB, over all models; what is larger stays as it is.
        progress: told bytes.
        timeout_s: how long to wait for an answer, s.
    """
    left = round(download_gb * 1e9)
    for seen in look_at_models(graph, timeout_s):
        if seen.trouble or not seen.changed:
            yield seen
            continue
        free = shutil.disk_usage(_existing(cache_folder())).free
        commit = f"the hub has {(seen.newest or '')[:12]}, {words_of(seen.download)}"
        if seen.download > left:
            yield replace(
                seen, trouble=f"{commit}, more than `rerun.download_gb` allows; get it with `vlm-audio fetch`"
            )
        elif seen.download > 0.9 * free:
            yield replace(seen, trouble=f"{commit}, more than the disk has room for ({words_of(free)}); make room")
        else:
            try:
                fetched = fetch_weights(seen.weights, progress)
            except (NotAvailable, OSError) as error:
                yield replace(seen, trouble=f"{commit}, and could not be fetched: {error}")
                continue
            left -= seen.download
            yield replace(seen, recorded=fetched, changed=False)


def _ask(seen: Observation, timeout_s: float) -> tuple[Observation, bool]:
    """Ask the hub; gives what it said, and whether it could be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    weights, revision = seen.weights, seen.weights.revision or "main"
    below = tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    try:
        info = HfApi().model_info(weights.model, revision=revision, timeout=timeout_s, files_metadata=True)
    except (HfHubHTTPError, HFValidationError) as error:
        answered = getattr(getattr(error, "response", None), "status_code", 0) < 500
        return replace(seen, trouble=f"the hub does not give it: {_first_line(error)}"), answered
    except (OSError, *below) as error:
        why = f"{type(error).__name__}: {_first_line(error)}"
        return replace(seen, trouble=f"the hub could not be reached ({why}), so it is taken for unchanged"), False
    siblings = {s.rfilename: s for s in info.siblings or []}
    wanted = [siblings[n] for n in wanted_files(list(siblings), weights.tensors) if n in siblings]
    new = [s for s in wanted if not (_repository(weights) / "blobs" / _blob(s)).is_file()]
    changed = weights.missing() is not None or not _same_files(weights, wanted)
    return replace(seen, newest=info.sha, changed=changed, download=sum(s.size or 0 for s in new)), True


def _same_files(weights: Weights, wanted: list[Any]) -> bool:
    """Tell whether the files on record are just those of the hub: a new README is no new model."""
    here = {p.name: p.resolve().name for p in weights.snapshot().iterdir()}
    there = {s.rfilename: _blob(s) for s in wanted}
    return {name: here.get(name) for name in there} == there


def _blob(sibling: Any) -> str:
    """Give the name of a file's contents in the hub's cache: the digest of large files, git's id of small ones."""
    return (sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or "unknown"


def _repository(weights: Weights) -> Path:
    return cache_folder() / ("models--" + weights.model.replace("/", "--"))


def _existing(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if p.exists())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
