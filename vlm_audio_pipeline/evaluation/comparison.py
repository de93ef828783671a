"""The comparison of two sides on the clips that both have.

Belongs here: one comparison and its numbers. Does not belong here: which comparisons a study makes (`contrasts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.references import expected_accuracy
from vlm_audio_pipeline.evaluation.significance import mcnemar, sign_flip
from vlm_audio_pipeline.measures.uncertainty import Interval, detectable_difference, difference_interval


@dataclass(frozen=True)
class Side:
    """The accuracy of one side, clip by clip.

    Attributes:
        clips: (n,) str, distinct, sorted.
        sources: (n,) str.
        folds: (n,) int.
        accuracy: (n,) float64, share of a clip's predictions (trials, annotations) that is correct; of a reference, the
            expected share.
        single: whether each clip has exactly one prediction.
    """

    clips: np.ndarray
    sources: np.ndarray
    folds: np.ndarray
    accuracy: np.ndarray
    single: bool

    @classmethod
    def of(cls, predictions: pa.Table) -> "Side":
        """Build a side from `predictions` rows of one scoring and control; several of one clip are averaged first."""
        names = np.array(predictions["clip"].to_pylist(), str)
        clips, first, clip_of = np.unique(names, return_index=True, return_inverse=True)
        correct = np.array(predictions["correct"].to_pylist(), float)
        times = np.bincount(clip_of, minlength=len(clips))
        return cls(
            clips=clips,
            sources=np.array(predictions["source"].to_pylist(), str)[first],
            folds=np.array(predictions["fold"].to_pylist(), int)[first],
            accuracy=np.bincount(clip_of, correct, len(clips)) / times,
            single=bool((times == 1).all()),
        )

    @classmethod
    def reference(cls, name: str, clips: Sequence[Clip], classes: int) -> "Side":
        """Build the side of chance or majority, without the clips for which it is undefined."""
        ordered = sorted(clips, key=lambda clip: clip.id)
        folds = np.array([clip.fold for clip in ordered], int)
        accuracy = expected_accuracy(name, np.array([clip.label for clip in ordered], str), folds, classes)
        defined = ~np.isnan(accuracy)
        return cls(
            clips=np.array([clip.id for clip in ordered], str)[defined],
            sources=np.array([clip.source for clip in ordered], str)[defined],
            folds=folds[defined],
            accuracy=accuracy[defined],
            single=False,
        )

    def where(self, mask: np.ndarray) -> "Side":
        """Keep the clips of a (n,) bool mask, or of (m,) int indices."""
        return Side(self.clips[mask], self.sources[mask], self.folds[mask], self.accuracy[mask], self.single)


@dataclass(frozen=True)
class Comparison:
    """The numbers of a comparison, over the clips that both sides have.

    Attributes:
        clips: number of these clips.
        sources: number of source recordings of these clips.
        accuracy: mean over clips of the accuracy of the first side.
        against_accuracy: the same of the second side.
        interval: 95 % interval of `difference`, clustered by source.
        p: of the sign-flip test by source.
        p_method: how it was computed.
        discordant: number of clips that only the first, and only the second, has correct; None where clips have several
            predictions.
        p_mcnemar: of McNemar's exact test on these.
        detectable_difference: smallest difference that as many clips would show with 80 % power; None where the
            differences do not vary.
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
    detectable_difference: float | None

    @property
    def difference(self) -> float:
        """Accuracy of the first side minus that of the second, a share of 1."""
        return self.accuracy - self.against_accuracy


def compare(first: Side, second: Side) -> Comparison | None:
    """Compare two sides on the clips that both have.

    Returns:
        None without such clips.
    """
    _, in_first, in_second = np.intersect1d(first.clips, second.clips, assume_unique=True, return_indices=True)
    if not len(in_first):
        return None
    a, b, sources = first.accuracy[in_first], second.accuracy[in_second], first.sources[in_first]
    p, method = sign_flip(a - b, sources)
    discordant = (int((a > b).sum()), int((a < b).sum())) if first.single and second.single else None
    return Comparison(
        clips=len(in_first),
        sources=len(np.unique(sources)),
        accuracy=float(a.mean()),
        against_accuracy=float(b.mean()),
        interval=difference_interval(a - b, sources),
        p=p,
        p_method=method,
        discordant=discordant,
        p_mcnemar=None if discordant is None else mcnemar(*discordant),
        detectable_difference=detectable_difference(a - b, sources),
    )
