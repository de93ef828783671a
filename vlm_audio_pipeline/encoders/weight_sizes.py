"""The size of the weights of a model: that of its files on this machine, and that of its tensor files on its page."""

from pathlib import Path

from vlm_audio_pipeline.encoders.weights import Weights

PUBLISHED_GB = {
    "openai/whisper-base": 0.29,
    "apple/aimv2-large-patch14-224": 1.24,
    "apple/aimv2-large-patch14-224-lit": 1.75,
    "apple/aimv2-large-patch14-336": 1.24,
    "apple/aimv2-large-patch14-448": 1.24,
    "apple/aimv2-huge-patch14-224": 2.72,
    "lukewys/laion_clap/630k-audioset-best.pt": 1.86,
    # From the pages of the originals by deepseek-ai, whose weights have the same number format.
    "deepseek-community/Janus-Pro-1B": 4.18,
    "deepseek-community/Janus-Pro-7B": 14.8,
}
"""Total size of the tensor files that are downloaded, GB, from the list of files on the model's page
(https://huggingface.co/<model>/tree/main, read in November 2026). A model without a size on its page is not in this table."""


def published_size(weights: Weights) -> int | None:
    """Return the total size of the tensor files on the page of a model, bytes; None if it is unknown, and for a local folder."""
    gigabytes = PUBLISHED_GB.get("/".join((weights.model, *weights.tensors)), PUBLISHED_GB.get(weights.model))
    return None if gigabytes is None or weights.is_folder else round(gigabytes * 1e9)


def local_size(weights: Weights) -> int | None:
    """Return the total size of all files of a model on this machine, bytes; None if some are missing."""
    if weights.missing() is not None:
        return None
    files = {Path(path.resolve()) for path in weights.snapshot().rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in files)
