"""The input assets of a study: its dataset, annotation files and model weights, with their data versions."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.planning.nodes import InputAsset
from vlm_audio_pipeline.storage.result_store import ResultStore


def dataset_asset(name: str, folds: tuple[int, ...], open_dataset: Callable[[], Dataset]) -> InputAsset:
    """Return the input asset of a dataset, one version for each fold."""
    return InputAsset(
        "dataset",
        ("datasets", name),
        folds,
        "Recordings and their listing, as files; the data version of a fold is a digest of both.",
        lambda result_store: open_dataset().fold_versions(result_store),
    )


def weights_asset(users: Sequence[Weights]) -> InputAsset:
    """Return the input asset of one model.

    Args:
        users: the files that each encoder and classifier needs of the model; the list may grow later. The asset is
            available when the files of one user are.
    """
    latest = users[-1]
    observed = latest.observed

    def versions(_: ResultStore) -> dict[int | None, str]:
        reasons = [weights.missing() for weights in users]
        if all(reasons):
            raise NotAvailable(str(reasons[0]))
        return {None: latest.resolve() or "unknown"}

    name = re.sub(r"[^A-Za-z0-9_./-]", "_", observed.name or "")
    description = f"Weights of {latest.model}; versioned by the hub's commit, or the digest of a folder."
    return InputAsset(observed.key, ("models", *name.split("/")), None, description, versions)


def annotations_asset(
    study: str, classifier: str, find_file: Callable[[Path], Path], open_dataset: Callable[[], Dataset]
) -> InputAsset:
    """Return the input asset of an annotation file.

    Args:
        study: name of the study.
        classifier: name of the classifier that reads it.
        find_file: returns the file, from the dataset's folder.
        open_dataset: opens the dataset.
    """

    def versions(result_store: ResultStore) -> dict[int | None, str]:
        path = find_file(open_dataset().root)
        digest = result_store.file_digests([path])[0]
        if digest is None:
            raise NotAvailable(f"The annotation file {path} cannot be read. Put it there or correct the path.")
        return {None: digest}

    return InputAsset(
        f"annotations/{classifier}",
        (study, "annotations", classifier),
        None,
        "Labels given by annotators, as a file; versioned by its digest.",
        versions,
    )
