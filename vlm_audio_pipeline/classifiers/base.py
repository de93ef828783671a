"""What a classifier is: its common parameters, the sample of clips it is asked about, and the table it fills."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, not_identity, refers_to
from vlm_audio_pipeline.contracts.stages import Cost, Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec, matrix
from vlm_audio_pipeline.encoders.weights import Weights

Control = Literal["blank", "time_shuffled", "other_clip"]
"""What is done to the query picture alone, to see whether it is looked at."""

NO_ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType({})
"""For classifiers that stand on none."""


class Sample(BaseModel):
    """Ask a classifier about some of the clips only, the same ones in every run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    clips: int = Field(ge=1)
    """How many clips, over all folds of the classifier together."""
    stratify: bool = True
    """Take the same number from every class, as far as it goes."""
    seed: int = 0
    """Another seed takes other clips."""

    def share(self, folds: tuple[int, ...], fold: int) -> int:
        """Give how many clips are taken of a fold that has them: clips / folds, the remainder going to the first folds.

        Args:
            folds: the folds the classifier is asked about, ascending.
            fold: the fold in question.
        """
        each, rest = divmod(self.clips, len(folds))
        return each + (folds.index(fold) < rest)

    def take(self, clips: pa.Table, folds: tuple[int, ...], fold: int) -> pa.Table:
        """Choose this fold's share of the sample.

        The choice ranks clips by a hash of (seed, id), so that adding or removing other clips moves none of them.

        Args:
            clips: `clips` rows of the fold.
            folds: the folds the classifier is asked about, ascending.
            fold: the fold in question.

        Returns:
            The chosen rows, in the order of `clips`.
        """
        share = self.share(folds, fold)
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
    """What every classifier can be told; a family adds its own parameters and gives its stages.

    One that looks at pictures itself, rather than through an encoder, sets `sees` and has a field `rendering`.
    """

    sees: ClassVar[bool] = False
    folds: tuple[int, ...] | None = not_identity(None, min_length=1)
    """Ask only about the clips of these folds; by default of all."""
    sample: Sample | None = None
    """Ask only about some of the clips."""
    reproduces: str | None = not_identity(None)
    """The published result this repeats, as `source/system`."""

    @field_validator("folds")
    @classmethod
    def _each_once(cls, folds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if folds is not None and len(set(folds)) < len(folds):
            raise ValueError(f"folds must be named once each, got {list(folds)}")
        return None if folds is None else tuple(sorted(folds))

    @property
    def weights(self) -> Weights | None:
        """The files it is loaded from by itself; None where there are none."""
        return None

    def cost(self, clips: int, size: tuple[int, int] = (0, 0), classes: int = 0) -> Cost:
        """Give what asking about so many clips takes at most; nothing unless the family says otherwise.

        Args:
            clips: how many.
            size: width and height of a picture, pixels.
            classes: how many.
        """
        return Cost()

    @abstractmethod
    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Give the stages of this classifier.

        Args:
            name: its name in the study.
            folds: the dataset's folds, of which `self.folds` may be a part.
            encoders: those of the study, by name.

        Raises:
            BadStudy: when what it was told does not go with the encoder it stands on.
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


class OnEncoder(ClassifierSpec):
    """A classifier that stands on the vectors of one encoder, and may be asked about controlled pictures too.

    Under a control the query's picture is replaced (by a blank one, by one with its time shuffled, by another clip's)
    and nothing else: what is learnt or compared with stays as it is. The graph makes the controlled vectors as
    `embeddings/<encoder>__<control>`.
    """

    encoder: str = refers_to("encoders")
    """Name of the encoder in the study."""
    controls: tuple[Control, ...] = ()
    """Ask again with the query's picture blank, time_shuffled, or of other_clip; for encoders that look at pictures."""

    def controlled_inputs(self, name: str, encoders: Mapping[str, EncoderSpec]) -> tuple[Input, ...]:
        """Give the controlled vectors that predictions read, of this fold only.

        Args:
            name: name of this classifier in the study.
            encoders: those of the study, by name.

        Raises:
            BadStudy: for controls on an encoder that does not look at pictures, or one named twice.
        """
        if len(set(self.controls)) < len(self.controls):
            raise BadStudy(f"classifiers.{name}.controls: must be named once each, got {list(self.controls)}")
        if self.controls and not (spec := self.encoder_spec(name, encoders)).sees:
            raise BadStudy(
                f"classifiers.{name}.controls: must be of an encoder that looks at pictures, got {list(self.controls)} "
                f"on '{self.encoder}' of kind {spec.kind}, which hears; drop `controls`"
            )
        return tuple(Input("embeddings", self._vectors_of(control)) for control in self.controls)

    def encoder_spec(self, name: str, encoders: Mapping[str, EncoderSpec]) -> EncoderSpec:
        """Give what the study says of the encoder.

        Raises:
            BadStudy: when there is no encoder of that name.
        """
        if self.encoder not in encoders:
            raise BadStudy(
                f"classifiers.{name}.encoder: must name one of the encoders, got '{self.encoder}'; "
                f"{suggestion(self.encoder, encoders)}"
            )
        return encoders[self.encoder]

    def queried(self, context: StageContext, queries: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
        """Give the vectors of the clips asked about: as they are, and under each control.

        Args:
            context: of the predictions stage.
            queries: `clips` rows.

        Yields:
            "none" or the control, and (queries, dimensions) float32, rows in the order of `queries`.
        """
        for control in ("none", *self.controls):
            name = self.encoder if control == "none" else self._vectors_of(control)
            embeddings = context.inputs[f"embeddings/{name}"]
            asked = pc.is_in(embeddings["clip"], value_set=queries["clip"].combine_chunks())
            here = aligned(queries, embeddings.filter(asked), name)
            yield control, here if queries.num_rows else matrix(embeddings)[:0]  # no clips, and yet dimensions

    def _vectors_of(self, control: str) -> str:
        return f"{self.encoder}__{control}"


def aligned(clips: pa.Table, embeddings: pa.Table, encoder: str) -> np.ndarray:
    """Give the vectors of clips, row by row.

    Args:
        clips: `clips` rows.
        embeddings: `embeddings` rows of the same clips in the same order (both come sorted by clip).
        encoder: its name, for the message.

    Returns:
        (clips, dimensions) float32.

    Raises:
        VlmAudioError: when the two tables are not about the same clips.
    """
    a, b = clips["clip"].to_pylist(), embeddings["clip"].to_pylist()
    if a != b:
        without, strange = sorted(set(a) - set(b)), sorted(set(b) - set(a))
        raise VlmAudioError(
            f"embeddings of '{encoder}' must hold the same clips as the clips table, got {len(without)} clips without "
            f"a vector {without[:5]} and {len(strange)} vectors without a clip {strange[:5]}; make the embeddings again"
        )
    return matrix(embeddings)


def model_of(embeddings: pa.Table) -> dict[str, str | None]:
    """Give the model and revision that made the vectors, as columns of `predictions`; nulls where there are no rows."""
    return {name: embeddings[name][0].as_py() if embeddings.num_rows else None for name in ("model", "revision")}


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (n, classes) logits into probabilities, float64; rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)) if logits.size else logits
    return powers / powers.sum(axis=1, keepdims=True)


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
