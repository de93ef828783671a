"""Large files of the hub, fetched so that a kill loses a moment and not hours.

What belongs here: putting a file's bytes where the hub's cache keeps them. What does not: which files a model needs (`weights`).
huggingface_hub from 1.0 on begins a file anew in every process (`<blob>.<random>.incomplete`), and leaves what a killed one had.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from vlm_audio_pipeline.datasets.download import download

LARGE = 16_000_000  # bytes; smaller files are the hub client's own business
BY_HAND = (
    "fetch the model on another machine and copy its folder of the hub's cache here, or name that folder as `model`"
)
"""What to do where the hub cannot be reached."""


def fetch_large_file(model: str, commit: str, sibling: Any, cache: Path, progress: Callable[[int], None]) -> None:
    """Download a file's contents into the cache, going on where an earlier attempt stopped; small ones are left alone.

    Args:
        model: id on the hub.
        commit: the revision.
        sibling: what the hub says of the file: `rfilename`, `size`, and `lfs.sha256` where it is kept as a large file.
        cache: the hub's cache folder.
        progress: told the bytes that are there.

    Raises:
        NotAvailable: when it cannot be had whole.
        BadDataset: for contents that do not hash to what the hub says; they are deleted.
    """
    lfs, size = getattr(sibling, "lfs", None), sibling.size or 0
    if lfs is None or size < LARGE:
        return
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    blob = cache / ("models--" + model.replace("/", "--")) / "blobs" / lfs.sha256
    lock = cache / ".locks" / f"vlm-audio-{lfs.sha256}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if not blob.exists():
            url = hf_hub_url(model, sibling.rfilename, revision=commit)
            told = lambda done, total, what: progress(done)  # noqa: E731
            download(url, blob, lfs.sha256, size, told, headers=build_hf_headers(), instead=BY_HAND)
