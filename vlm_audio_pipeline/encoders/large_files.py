"""Download large files of the hub so that an interrupted download resumes.

From version 1.0 on, huggingface_hub restarts a file in every process (`<blob>.<random>.incomplete`) and does not delete the
unfinished files of killed processes. `weights` decides which files a model needs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.datasets.download import download
from vlm_audio_pipeline.storage.locks import file_lock

MIN_LARGE_FILE_BYTES = 16_000_000  # bytes; the hub client downloads smaller files
MANUAL_DOWNLOAD = (
    "fetch the model on another machine and copy its folder of the hub's cache here, or name that folder as `model`"
)
"""Advice if the hub cannot be reached."""


def fetch_large_file(model: str, commit: str, sibling: Any, cache: Path, progress: Callable[[int], None]) -> None:
    """Download a large file into the cache, resuming an earlier attempt; do nothing for a small file.

    Args:
        model: id on the hub.
        commit: the revision.
        sibling: the hub's record of the file: `rfilename`, `size`, and `lfs.sha256` for a large file.
        cache: the hub's cache folder.
        progress: called with the bytes downloaded so far.

    Raises:
        NotAvailable: if the download fails.
        BadDataset: if the contents do not have the hash of the hub's record; the file is then deleted.
    """
    lfs, size = getattr(sibling, "lfs", None), sibling.size or 0
    if lfs is None or size < MIN_LARGE_FILE_BYTES:
        return
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # public, but not in `__all__`

    blob = cache / ("models--" + model.replace("/", "--")) / "blobs" / lfs.sha256
    with file_lock(cache / ".locks" / f"vlm-audio-{lfs.sha256}.lock"):
        if not blob.exists():
            url = hf_hub_url(model, sibling.rfilename, revision=commit)
            report = lambda done, total, description: progress(done)  # noqa: E731
            download(url, blob, lfs.sha256, size, report, headers=build_hf_headers(), advice=MANUAL_DOWNLOAD)
