"""The sample of clips that measures of pairs of clips use in large datasets, because their time grows with the square of the clips.

Belongs here: which clips, and the words for it. Does not belong here: the clips that a classifier is fitted on or asked about
(`classifiers.base.ClipSample`), and those that the report page shows (`reports.page.media`).
"""

from collections.abc import Sequence

import numpy as np

from vlm_audio_pipeline.contracts.hashing import digest

MAX_COMPARED_CLIPS = 10_000
"""Largest number of clips whose distances are all ranked: embedding quality, comparisons of encoders, projections."""
MAX_SEARCHED_CLIPS = 50_000
"""Largest number of clips that are searched for near duplicates."""
SAMPLED = "; sample of "
"""Text between a description and the size of its sample."""


def sample_positions(clips: Sequence[str], sources: Sequence[str], max_clips: int) -> np.ndarray:
    """Choose whole source recordings at random until there are `max_clips` clips; of the last one, some clips.

    The choice depends only on the names, so that it is the same in every run, and that a new recording replaces few others.

    Args:
        clips: id of each clip.
        sources: its source recording.
        max_clips: number of clips to choose.

    Returns:
        (max_clips,) int, positions in ascending order; all positions if there are not more clips.
    """
    if len(clips) <= max_clips:
        return np.arange(len(clips))
    ranks = {source: digest(b"sample", source.encode()) for source in set(sources)}
    order = sorted(range(len(clips)), key=lambda i: (ranks[sources[i]], digest(clips[i].encode())))
    return np.sort(np.array(order[:max_clips]))


def sample_note(clips: int, all_clips: int) -> str:
    """Return the words that follow a description if not all clips were used; otherwise an empty text.

    >>> sample_note(10_000, 25_000)
    '; sample of 10,000 of 25,000 clips'
    """
    return f"{SAMPLED}{clips:,} of {all_clips:,} clips" if clips < all_clips else ""
