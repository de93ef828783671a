"""The comparison of two sides on their common clips.

Belongs here: one comparison and its numbers. Does not belong here: which comparisons a study makes (`contrasts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.chance_test import chance_test
from vlm_audio_pipeline.evaluation.equivalence import equivalence_p
from vlm_audio_pipeline.evaluation.power import detectable_standard_errors
from vlm_audio_pipeline.evaluation.references import expected_accuracy
from vlm_audio_pipeline.evaluation.significance import mcnemar, sign_flip
from vlm_audio_pipeline.evaluation.standard_error import standard_error
from vlm_audio_pipeline.measures.predictions import selection_strategy
from vlm_audio_pipeline.measures.uncertainty import THESE_EXAMPLES, Interval, difference_interval


@dataclass(frozen=True)
class Side:
    """The accuracy and the answers of one side on each clip.

    Attributes:
        clips: (n,) str, distinct, sorted.
        sources: (n,) str.
        folds: (n,) int.
        accuracy: (n,) float64, share of a clip's predictions (trials, annotations) that is correct; for a reference, the
            expected accuracy.
        has_one_prediction_per_clip: whether each clip has exactly one prediction.
        labels: (n,) int, index of the true class.
        answers: (n, classes) float64, share of a clip's predictions that names each class; None for a reference.
        is_uniform_guess: whether it is a reference that guesses among all classes on every clip.
        has_examples: whether the predictions depend on examples in the prompt.
    """

    clips: np.ndarray
    sources: np.ndarray
    folds: np.ndarray
    accuracy: np.ndarray
    has_one_prediction_per_clip: bool
    labels: np.ndarray
    answers: np.ndarray | None = None
    is_uniform_guess: bool = False
    has_examples: bool = False

    @classmethod
    def from_predictions(cls, predictions: pa.Table, classes: Sequence[str]) -> "Side":
        """Build a side from `predictions` rows of one scoring and control; the predictions of a clip are averaged.

        Args:
            predictions: the rows.
            classes: every label of the study.
        """
        names = np.array(predictions["clip"].to_pylist(), str)
        clips, first, clip_of = np.unique(names, return_index=True, return_inverse=True)
        correct = np.array(predictions["correct"].to_pylist(), float)
        prediction_counts = np.bincount(clip_of, minlength=len(clips))
        index = {label: i for i, label in enumerate(classes)}
        answers = np.zeros((len(clips), len(classes)))
        for clip, predicted in zip(clip_of, predictions["predicted"].to_pylist(), strict=True):
            if predicted is not None:
                answers[clip, index[predicted]] += 1
        return cls(
            clips=clips,
            sources=np.array(predictions["source"].to_pylist(), str)[first],
            folds=np.array(predictions["fold"].to_pylist(), int)[first],
            accuracy=np.bincount(clip_of, correct, len(clips)) / prediction_counts,
            has_one_prediction_per_clip=bool((prediction_counts == 1).all()),
            labels=np.array([index[label] for label in predictions["label"].to_pylist()], int)[first],
            answers=answers / prediction_counts[:, None],
            has_examples=selection_strategy(predictions) is not None,
        )

    @classmethod
    def from_reference(cls, name: str, clips: Sequence[Clip], classes: Sequence[str]) -> "Side":
        """Build the side of chance or majority, without the clips for which it is undefined."""
        ordered = sorted(clips, key=lambda clip: clip.id)
        folds = np.array([clip.fold for clip in ordered], int)
        labels = np.array([clip.label for clip in ordered], str)
        accuracy = expected_accuracy(name, labels, folds, len(classes))
        defined = ~np.isnan(accuracy)
        return cls(
            clips=np.array([clip.id for clip in ordered], str)[defined],
            sources=np.array([clip.source for clip in ordered], str)[defined],
            folds=folds[defined],
            accuracy=accuracy[defined],
            has_one_prediction_per_clip=False,
            labels=np.array([list(classes).index(label) for label in labels], int)[defined],
            is_uniform_guess=bool(np.allclose(accuracy[defined], 1 / len(classes))),
        )

    def select(self, mask: np.ndarray) -> "Side":
        """Select clips by a (n,) bool mask or (m,) int indices."""
        return replace(
            self,
            clips=self.clips[mask],
            sources=self.sources[mask],
            folds=self.folds[mask],
            accuracy=self.accuracy[mask],
            labels=self.labels[mask],
            answers=None if self.answers is None else self.answers[mask],
        )


@dataclass(frozen=True)
class Comparison:
    """The numbers of a comparison, on the common clips of both sides.

    Attributes:
        clips: number of common clips.
        sources: number of source recordings of the common clips.
        accuracy: mean over clips of the accuracy of the first side.
        against_accuracy: the same of the second side.
        interval: 95 % interval of `difference`, clustered by source; for these examples where a side has examples.
        p: p-value of the sign-flip test by source; against chance, of `chance_test`.
        p_method: the test, and how `p` was computed.
        discordant: number of clips that only the first side classifies correctly, and number that only the second side
            does; None if clips have several predictions.
        p_mcnemar: p-value of McNemar's exact test on `discordant`.
        standard_error: standard error of `difference`, clustered by source; None if the differences do not vary.
        p_equivalence: p-value of the equivalence test; None without a margin.
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
    standard_error: float | None
    p_equivalence: float | None = None

    @property
    def difference(self) -> float:
        """Accuracy of the first side minus that of the second, a share of 1."""
        return self.accuracy - self.against_accuracy

    def detectable_difference(self, tests: int) -> float | None:
        """Return the difference that about 8 of 10 studies with as many clips and this spread would find.

        Args:
            tests: number of tests that Holm corrects for.

        Returns:
            None if the differences do not vary, so that their spread is unknown.
        """
        return None if self.standard_error is None else detectable_standard_errors(tests) * self.standard_error


def compare(first: Side, second: Side, margin: float | None = None) -> Comparison | None:
    """Compare two sides on their common clips.

    Args:
        first: a classifier.
        second: a classifier or a reference.
        margin: margin of the equivalence test, share of 1; None: no such test.

    Returns:
        None without common clips.
    """
    _, in_first, in_second = np.intersect1d(first.clips, second.clips, assume_unique=True, return_indices=True)
    if not len(in_first):
        return None
    a, b, sources = first.accuracy[in_first], second.accuracy[in_second], first.sources[in_first]
    if second.is_uniform_guess and first.answers is not None:
        p, method = chance_test(first.answers[in_first], first.labels[in_first], sources)
    else:
        p, method = sign_flip(a - b, sources)
        method = f"sign flips by source recording, {method}"
    error = standard_error(a - b, sources)
    interval = difference_interval(a, b, sources)
    if first.has_examples or second.has_examples:
        interval = replace(interval, scope=THESE_EXAMPLES)
    discordant = (
        (int((a > b).sum()), int((a < b).sum()))
        if first.has_one_prediction_per_clip and second.has_one_prediction_per_clip
        else None
    )
    return Comparison(
        clips=len(in_first),
        sources=len(np.unique(sources)),
        accuracy=float(a.mean()),
        against_accuracy=float(b.mean()),
        interval=interval,
        p=p,
        p_method=method,
        discordant=discordant,
        p_mcnemar=None if discordant is None else mcnemar(*discordant),
        standard_error=None if error is None or error < 1e-12 else error,
        p_equivalence=None if margin is None else equivalence_p(a - b, sources, margin),
    )
