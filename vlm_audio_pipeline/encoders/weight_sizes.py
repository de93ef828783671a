"""Sizes of the weights of models: of the files on this machine, and of the tensor files as the model's page states them."""

from vlm_audio_pipeline.encoders.weights import Weights

PUBLISHED_GB = {
    "openai/whisper-base": 0.29,
    "apple/aimv2-large-patch14-224": 1.24,
    "apple/aimv2-large-patch14-224-lit": 1.75,
    "apple/aimv2-large-patch14-336": 1.24,
    "apple/aimv2-large-patch14-448": 1.24,
    "apple/aimv2-huge-patch14-224": 2.72,
    "lukewys/laion_clap/630k-audioset-best.pt": 1.86,
    # Sizes from the pages of the original models by deepseek-ai, whose weights have the same number format.
    "deepseek-community/Janus-Pro-1B": 4.18,
    "deepseek-community/Janus-Pro-7B": 14.8,
}
"""Total size of the tensor files that are downloaded, GB, from the list of files on the model's page
(https://huggingface.co/<model>/tree/main, read in November 2026). A model without a size on its page is not in this table."""


def published_size(weights: Weights) -> int | None:
    """Return the total size of the tensor files, bytes, as the model's page states it; None if it is not recorded, and for a local folder."""
    gigabytes = PUBLISHED_GB.get("/".join((weights.model, *weights.tensors)), PUBLISHED_GB.get(weights.model))
    return None if gigabytes is None or weights.is_folder else round(gigabytes * 1e9)


def local_size(weights: Weights) -> int | None:
    """Return the total size of all files of a model on this machine, bytes; None if some are missing."""
    if weights.missing() is not None:
        return None
    files = {path.resolve() for path in weights.snapshot().rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in files)
