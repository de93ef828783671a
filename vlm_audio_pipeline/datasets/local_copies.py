"""Check the environment variables that name local copies of datasets, for `vlm-audio doctor`."""

import os

from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.engines.machine_check import MachineCheck


def check_local_copies() -> list[MachineCheck]:
    """Return a check for each dataset whose local copy an environment variable can name; without a copy, the dataset is downloaded."""
    return [_check(dataset.card) for dataset in DATASETS.all().values() if dataset.card.folder_variable]


def _check(card: DatasetCard) -> MachineCheck:
    folder = os.path.expanduser(os.environ.get(card.folder_variable, ""))
    name = card.published_name or card.title
    if folder and not os.path.isdir(folder):
        return MachineCheck("bad", f"{card.folder_variable} is not a folder: {folder}; correct it or unset it")
    size = f"{card.download_bytes / 1e6:.0f} MB"
    return MachineCheck("ok", f"{name} from {folder}" if folder else f"{name}: will be downloaded when needed ({size})")
