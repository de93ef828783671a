"""What a classifier is: its common parameters, the sample of clips it is asked about, and the table it fills."""

from abc import abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, not_identity
from vlm_audio_pipeline.contracts.stages import Stage


class Sample(BaseModel):
    """Ask a classifier about some of the clips only, the same ones in every run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    clips: int = Field(ge=1)
    """How many clips, over all folds of the classifier together."""
    stratify: bool = True
    """Take the same number from every class, as far as it goes."""
    seed: int = 0
    """Another seed takes other clips."""

    def take(self, clips: pa.Table, folds: tuple[int, ...], fold: int) -> pa.Table:
        """Choose this fold's share of the sample.

        The choice ranks clips by a hash of (seed, id), so that adding or removing other clips moves none of them; the
        share of a fold is clips / folds, the remainder going to the first folds.

        Args:
            clips: `clips` rows of the fold.
            folds: the folds the classifier is asked about, ascending.
            fold: the fold in question.

        Returns:
            The chosen rows, in the order of `clips`.
        """
        each, rest = divmod(self.clips, len(folds))
        share = each + (folds.index(fold) < rest)
        rows = clips.select(["clip", "label"]).to_pylist()
        ranked = sorted(range(len(rows)), key=lambda i: fingerprint(self.seed, rows[i]["clip"]))
        if self.stratify:
            turn: dict[str, int] = {}
            order = {}
            for i in ranked:
                label = rows[i]["label"]
                turn[label] = turn.get(label, 0) + 1
                order[i] = (turn[label], fingerprint(self.seed, fold, label))
            ranked.sort(key=lambda i: order[i])
        return clips.take(pa.array(sorted(ranked[:share]), pa.int64()))


class ClassifierSpec(Spec):
    """What every classifier can be told; a family adds its own parameters and gives its stages."""

    folds: tuple[int, ...] | None = not_identity(None, min_length=1)
    """Ask only about the clips of these folds; by default of all."""
    sample: Sample | None = None
    """Ask only about some of the clips."""
    reproduces: str | None = not_identity(None)
    """The published result this repeats, as `source/system`."""

    @abstractmethod
    def stages(self, name: str, folds: tuple[int, ...]) -> list[Stage]:
        """Give the stages of this classifier.

        Args:
            name: its name in the study.
            folds: the dataset's folds, of which `self.folds` may be a part.
        """

    def queries(self, clips: pa.Table, fold: int, folds: tuple[int, ...]) -> pa.Table:
        """Give the clips of a fold that the classifier is asked about.

        Args:
            clips: `clips` rows, of this fold or of more.
            fold: the fold in question.
            folds: the dataset's folds.
        """
        here = clips.filter(pc.equal(clips["fold"], fold))
        asked = tuple(sorted(self.folds or folds))
        return here if self.sample is None else self.sample.take(here, asked, fold)


def scored_predictions(queries: pa.Table, classes: tuple[str, ...], scores: np.ndarray, **constants: Any) -> pa.Table:
    """Turn scores into rows of `predictions`: the class with the highest score is predicted.

    A tie goes to the class that comes first in `classes`.

    Args:
        queries: `clips` rows, n of them.
        classes: labels of the columns of `scores`.
        scores: (n, classes) float, finite, each row summing to 1.
        constants: columns with one value for all rows: `kind`, `encoder`, `model`, `training_clips`, ...

    Returns:
        n rows with scoring "score", control "none" and trial 0 unless the constants say otherwise.

    Raises:
        ValueError: when the scores' shape does not fit, or a score is not finite.
    """
    n = queries.num_rows
    if scores.shape != (n, len(classes)):
        raise ValueError(f"scores must be (clips, classes) = ({n}, {len(classes)}), got {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    best = scores.argmax(axis=1) if n else np.zeros(0, int)
    labels = queries["label"].to_pylist()
    predicted = [classes[i] for i in best]
    columns = {
        "clip": queries["clip"],
        "source": queries["source"],
        "label": queries["label"],
        "predicted": pa.array(predicted, pa.string()),
        "outcome": pa.array(["answered"] * n, pa.string()),
        "correct": pa.array([p == t for p, t in zip(predicted, labels, strict=True)], pa.bool_()),
        "scores": pa.array(
            [list(zip(classes, row.tolist(), strict=True)) for row in scores], pa.map_(pa.string(), pa.float64())
        ),
        "confidence": pa.array(scores.max(axis=1) if n else [], pa.float64()),
    }
    for name, value in {"scoring": "score", "control": "none", "trial": 0, **constants}.items():
        columns[name] = pa.array([value] * n)
    return pa.table(columns)


CLASSIFIERS: Registry[ClassifierSpec] = Registry("classifier", "vlm_audio_pipeline.classifiers")
