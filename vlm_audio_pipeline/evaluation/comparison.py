"""Two ways to predict, compared on the clips both have.

What belongs here: one comparison and its numbers. What does not: which ones a study makes (`contrasts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.references import expected
from vlm_audio_pipeline.evaluation.significance import mcnemar, sign_flip
from vlm_audio_pipeline.evaluation.uncertainty import Interval, detectable, difference_interval


@dataclass(frozen=True)
class Side:
    """How often one way to predict is right, clip by clip.

    Attributes:
        clips: (n,) str, distinct, sorted.
        sources: (n,) str.
        folds: (n,) int.
        right: (n,) float64, share of a clip's predictions (trials, judgements) that is right, or to be expected so.
        single: whether each clip has exactly one prediction.
    """

    clips: np.ndarray
    sources: np.ndarray
    folds: np.ndarray
    right: np.ndarray
    single: bool

    @classmethod
    def of(cls, predictions: pa.Table) -> "Side":
        """Take `predictions` rows of one scoring and control; several of one clip are averaged first."""
        names = np.array(predictions["clip"].to_pylist(), str)
        clips, first, of = np.unique(names, return_index=True, return_inverse=True)
        correct = np.array(predictions["correct"].to_pylist(), float)
        times = np.bincount(of, minlength=len(clips))
        return cls(
            clips=clips,
            sources=np.array(predictions["source"].to_pylist(), str)[first],
            folds=np.array(predictions["fold"].to_pylist(), int)[first],
            right=np.bincount(of, correct, len(clips)) / times,
            single=bool((times == 1).all()),
        )

    @classmethod
    def reference(cls, name: str, clips: Sequence[Clip], classes: int) -> "Side":
        """Give what to expect of chance or majority on clips of the dataset; without those it has no answer to."""
        ordered = sorted(clips, key=lambda clip: clip.id)
        folds = np.array([clip.fold for clip in ordered], int)
        right = expected(name, np.array([clip.label for clip in ordered], str), folds, classes)
        known = ~np.isnan(right)
        return cls(
            clips=np.array([clip.id for clip in ordered], str)[known],
            sources=np.array([clip.source for clip in ordered], str)[known],
            folds=folds[known],
            right=right[known],
            single=False,
        )

    def where(self, mask: np.ndarray) -> "Side":
        """Keep the clips of a (n,) bool mask, or of (m,) int indices."""
        return Side(self.clips[mask], self.sources[mask], self.folds[mask], self.right[mask], self.single)


@dataclass(frozen=True)
class Comparison:
    """What the clips that two sides share say about them.

    Attributes:
        clips: how many both have.
        sources: of how many recordings.
        accuracy: mean over clips of the share the first has right.
        against_accuracy: the same of the second.
        interval: 95 % interval of `difference`, clustered by source.
        p: of the sign-flip test by source.
        p_method: how it was computed.
        discordant: clips the first alone, and the second alone, has right; None where clips have several predictions.
        p_mcnemar: of McNemar's exact test on these.
        detectable: smallest difference as many clips would show with 80 % power; None where nothing varies.
    """

    clips: int
    sources: int
    accuracy: float
    against_accuracy: float
    interval: Interval
    p: float
    p_method: str
    discordant: tuple[int, int] | None
    p_mcnemar: float | None
    detectable: float | None

    @property
    def difference(self) -> float:
        """How much more often the first is right, a share of 1."""
        return self.accuracy - self.against_accuracy


def compared(first: Side, second: Side) -> Comparison | None:
    """Compare two sides on the clips both have.

    Returns:
        None where there are none.
    """
    _, mine, theirs = np.intersect1d(first.clips, second.clips, assume_unique=True, return_indices=True)
    if not len(mine):
        return None
    a, b, sources = first.right[mine], second.right[theirs], first.sources[mine]
    p, method = sign_flip(a - b, sources)
    discordant = (int((a > b).sum()), int((a < b).sum())) if first.single and second.single else None
    return Comparison(
        clips=len(mine),
        sources=len(np.unique(sources)),
        accuracy=float(a.mean()),
        against_accuracy=float(b.mean()),
        interval=difference_interval(a - b, sources),
        p=p,
        p_method=method,
        discordant=discordant,
        p_mcnemar=None if discordant is None else mcnemar(*discordant),
        detectable=detectable(a - b, sources),
    )
