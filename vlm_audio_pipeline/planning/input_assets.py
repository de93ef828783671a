"""The input assets of a study: its dataset, annotation files and model weights, with their data versions."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.regular_files import file_stamp
from vlm_audio_pipeline.datasets.base import Dataset, DatasetSpec, annotation_files
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.planning.nodes import InputAsset
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore

_MIN_AGE_NS = 100_000_000  # longer than a clock tick of common file systems (1 to 10 ms)


def dataset_asset(
    spec: DatasetSpec, folds: tuple[int, ...], open_dataset: Callable[[], Dataset], data_folder: DataFolder
) -> InputAsset:
    """Return the input asset of a dataset, one version for each fold.

    Args:
        spec: the dataset in the study file.
        folds: its folds.
        open_dataset: opens the dataset.
        data_folder: the data folder.
    """

    def facts() -> dict[str, str | int]:
        card = {"title": spec.card.title, "licence": spec.card.licence, "link": spec.card.url}
        if not spec.is_local(data_folder):
            return {**card, "path": "not on this machine"}
        dataset = spec.open(data_folder)
        counts = {
            "clips": len(dataset.clips),
            "source recordings": len({clip.source for clip in dataset.clips}),
            "classes": len(dataset.classes),
            "folds": len(folds),
        }
        return {**card, "title": dataset.card.title, "path": str(dataset.root), **counts}

    return InputAsset(
        "dataset",
        ("datasets", spec.asset_name),
        folds,
        "Recordings and the files that list them. The data version of a fold is a digest of both.",
        _FoldVersions(open_dataset),
        facts,
    )


class _FoldVersions:
    """Returns the data versions of the folds of a dataset. A run asks for them many times.

    They are computed again if the stamp of a file has changed, or if the dataset was opened again.
    """

    def __init__(self, open_dataset: Callable[[], Dataset]):
        self._open_dataset = open_dataset
        self._last: tuple[Dataset, str, dict[int, str]] | None = None

    def __call__(self, result_store: ResultStore) -> dict[int, str]:
        dataset = self._open_dataset()
        stamp = _stamp_of_files(dataset)  # before the versions: a change in between gives another stamp next time
        last = self._last
        if last is not None and last[0] is dataset and stamp == last[1]:
            return last[2]
        versions = dataset.fold_versions(result_store)
        self._last = None if stamp is None else (dataset, stamp, versions)
        return versions


def _stamp_of_files(dataset: Dataset) -> str | None:
    """Return a text that differs after a recording was changed; None if a recording is missing or too new to be sure."""
    digest, newest = hashlib.sha256(), 0
    for file in dict.fromkeys(dataset.files):
        try:
            status = os.stat(file)
        except OSError:
            return None
        newest = max(newest, status.st_ctime_ns)
        digest.update(file_stamp(status).encode())
    return digest.hexdigest() if time.time_ns() - newest > _MIN_AGE_NS else None


def weights_asset(users: Sequence[Weights], card: ModelCard | None = None) -> InputAsset:
    """Return the input asset of one model.

    Args:
        users: the weights that each encoder and classifier uses of this model; the list may grow later. The asset is
            available if all files of at least one user are on this machine.
        card: facts about the model.
    """
    last_user = users[-1]
    input_asset = last_user.input_asset

    def versions(_: ResultStore) -> dict[int | None, str]:
        reasons = [weights.missing() for weights in users]
        if all(reasons):
            raise NotAvailable(str(reasons[0]))
        return {None: last_user.resolve() or "unknown"}

    name = re.sub(r"[^A-Za-z0-9_./-]", "_", input_asset.name or "")
    description = (
        f"Weights of {last_user.model}. The data version is the commit on the hub, or the digest of a local folder."
    )

    def facts() -> dict[str, str | int]:
        link = card.url if card else ""
        if not last_user.is_folder:
            link = f"https://huggingface.co/{last_user.model}"
        values: dict[str, str | int] = {"model": last_user.model, "licence": card.licence if card else "", "link": link}
        if last_user.missing() is not None:
            return {**values, "path": "not on this machine"}
        folder = last_user.snapshot()
        sizes = [path.stat().st_size for path in folder.iterdir() if path.is_file()]
        return {**values, "path": str(folder), "files": len(sizes), "bytes": sum(sizes)}

    return InputAsset(input_asset.key, ("models", *name.split("/")), None, description, versions, facts)


def annotations_asset(
    study: str,
    classifier: str,
    find_file: Callable[[Path], Path],
    open_dataset: Callable[[], Dataset],
    is_local: Callable[[], bool],
) -> InputAsset:
    """Return the input asset of an annotation file.

    Args:
        study: name of the study.
        classifier: name of the classifier that reads it.
        find_file: returns the path of the file, for the dataset's folder.
        open_dataset: opens the dataset.
        is_local: returns whether opening it needs no download.
    """

    def versions(result_store: ResultStore) -> dict[int | None, str]:
        path = find_file(open_dataset().root)
        digest = result_store.file_digests([path])[0]
        if digest is None:
            raise NotAvailable(f"The annotation file {path} cannot be read. Put it there or correct the path.")
        return {None: digest}

    def facts() -> dict[str, str | int]:
        if not is_local():
            return {"path": "not on this machine"}
        path = find_file(open_dataset().root)
        published = next((f for f in annotation_files().values() if path.name == Path(f.file).name), None)
        return {"path": str(path), "bytes": path.stat().st_size, "link": published.url if published else ""}

    return InputAsset(
        f"annotations/{classifier}",
        (study, f"{classifier}_annotations"),
        None,
        "File with the labels of annotators. The data version is its digest.",
        versions,
        facts,
    )
