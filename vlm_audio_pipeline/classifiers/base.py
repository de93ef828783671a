"""The contract of a classifier: its common parameters, what it needs, and the sample of clips it classifies."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, excluded_from_fingerprint, refers_to
from vlm_audio_pipeline.contracts.stages import Cost, Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.vectors import vector_matrix
from vlm_audio_pipeline.encoders.weights import Weights

Control = Literal["blank", "time_shuffled", "other_clip"]
"""What replaces the query image, to test whether the classifier uses it."""

NO_ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType({})
"""For classifiers without an encoder."""


class ClipSample(BaseModel):
    """A sample of the clips, the same in every run; the classifier classifies no other clips."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    clips: int = Field(ge=1)
    """Number of clips, over all folds of the classifier together."""
    stratify: bool = True
    """Take the same number of clips from every class, as far as possible."""
    seed: int = 0
    """Seed of the choice."""

    def share(self, folds: tuple[int, ...], fold: int) -> int:
        """Return the number of clips to take from a fold: clips / folds; the first folds get the remainder.

        Args:
            folds: the folds of the classifier, ascending.
            fold: one of them.
        """
        each, rest = divmod(self.clips, len(folds))
        return each + (folds.index(fold) < rest)

    def take(self, clips: pa.Table, folds: tuple[int, ...], fold: int) -> pa.Table:
        """Choose the fold's part of the sample.

        Clips are ranked by a hash of (seed, id), so that a clip that is added or removed does not change the order of the
        others.

        Args:
            clips: `clips` rows of the fold.
            folds: the folds of the classifier, ascending.
            fold: one of them.

        Returns:
            The chosen rows, in the order of `clips`.
        """
        share = self.share(folds, fold)
        rows = clips.select(["clip", "label"]).to_pylist()
        ranked = sorted(range(len(rows)), key=lambda i: fingerprint(self.seed, rows[i]["clip"]))
        if self.stratify:
            counts: dict[str, int] = {}
            order = {}
            for i in ranked:
                label = rows[i]["label"]
                counts[label] = counts.get(label, 0) + 1
                order[i] = (counts[label], fingerprint(self.seed, fold, label))
            ranked.sort(key=lambda i: order[i])
        return clips.take(pa.array(sorted(ranked[:share]), pa.int64()))


@dataclass(frozen=True)
class Needs:
    """What a classifier uses from the rest of a study, and how it asks.

    Attributes:
        encoder: name of the encoder whose vectors it uses; None for no vectors.
        rendering: name of the rendering whose images it takes itself; None for none, and where its encoder takes them.
        controls: controls it is also asked under. They replace the images of `rendering` where it asks per clip, and
            otherwise those of its encoder.
        annotations: finds the annotations file from the dataset's folder and raises NotAvailable where there is none;
            None for a classifier that reads no annotations.
        weights: model files it loads itself; None for none. Those of its encoder are the encoder's.
        card: what is known of its own model; None where it has none.
        shots: examples of each class that each question contains; 0 for none.
        trials: passes over the clips.
        asks_per_clip: whether it puts questions about each clip to a language model.
    """

    encoder: str | None = None
    rendering: str | None = None
    controls: tuple[str, ...] = ()
    annotations: Callable[[Path], Path] | None = None
    weights: Weights | None = None
    card: ModelCard | None = None
    shots: int = 0
    trials: int = 1
    asks_per_clip: bool = False


class ClassifierSpec(Spec):
    """The parameters that all classifiers have. A kind adds its own, declares its needs and returns its stages."""

    folds: tuple[int, ...] | None = excluded_from_fingerprint(None, min_length=1)
    """Classify only the clips of these folds; by default of all."""
    sample: ClipSample | None = None
    """Classify only a sample of the clips."""
    reproduces: str | None = excluded_from_fingerprint(None)
    """The published result that this classifier reproduces, as `publication/system`."""

    @field_validator("folds")
    @classmethod
    def _are_unique(cls, folds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if folds is not None and len(set(folds)) < len(folds):
            raise ValueError(f"folds must be named once each, got {list(folds)}")
        return None if folds is None else tuple(sorted(folds))

    @abstractmethod
    def needs(self) -> Needs:
        """Return what the classifier uses from the rest of the study."""

    def cost(self, clips: int, size: tuple[int, int] = (0, 0), classes: int = 0) -> Cost:
        """Return an upper bound of what classifying the clips costs; nothing unless the kind overrides it.

        Args:
            clips: number of clips.
            size: width and height of an image, pixels.
            classes: number of classes.
        """
        return Cost()

    @abstractmethod
    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return the stages of this classifier.

        Args:
            name: its name in the study.
            folds: the dataset's folds; `self.folds` may be some of them.
            encoders: the encoders of the study, by name.

        Raises:
            BadStudy: when the parameters do not fit the encoder or the folds.
        """

    def queries(self, clips: pa.Table, fold: int, folds: tuple[int, ...]) -> pa.Table:
        """Return the clips of a fold that the classifier classifies.

        Args:
            clips: `clips` rows, of this fold or of more.
            fold: the fold.
            folds: the dataset's folds.
        """
        in_fold = clips.filter(pc.equal(clips["fold"], fold))
        return in_fold if self.sample is None else self.sample.take(in_fold, tuple(sorted(self.folds or folds)), fold)

    def sampled_folds(self, folds: tuple[int, ...]) -> dict[str, Any]:
        """Return the folds that share the sample, as a stage parameter; nothing without a sample."""
        return {"asked": sorted(self.folds or folds)} if self.sample else {}


class EncoderClassifier(ClassifierSpec):
    """A classifier of the vectors of one encoder, also of controlled images.

    A control replaces the query's image (by a blank image, by the image with its time shuffled, by the image of another
    clip) and nothing else: training clips and class texts stay. The vectors of controlled images are the step
    `embeddings/<encoder>__<control>`.
    """

    encoder: str = refers_to("encoders")
    """Name of the encoder in the study."""
    controls: tuple[Control, ...] = ()
    """Classify again with the query's image blank, time_shuffled, or of other_clip; for encoders of images."""

    def needs(self) -> Needs:
        """Return the encoder and the controls of its images."""
        return Needs(encoder=self.encoder, controls=self.controls)

    def controlled_inputs(self, name: str, encoders: Mapping[str, EncoderSpec]) -> tuple[Input, ...]:
        """Return the vectors of controlled images that predictions read, of this fold only.

        Args:
            name: name of this classifier in the study.
            encoders: the encoders of the study, by name.

        Raises:
            BadStudy: for controls of an encoder that does not take images, or a control that is named twice.
        """
        if len(set(self.controls)) < len(self.controls):
            raise BadStudy(f"classifiers.{name}.controls: must be named once each, got {list(self.controls)}")
        if self.controls and not (spec := self.encoder_spec(name, encoders)).takes_images:
            raise BadStudy(
                f"classifiers.{name}.controls: must be of an encoder of images, got {list(self.controls)} with "
                f"'{self.encoder}' of kind {spec.kind}, which takes audio; drop `controls`"
            )
        return tuple(Input("embeddings", controlled_name(self.encoder, control)) for control in self.controls)

    def encoder_spec(self, name: str, encoders: Mapping[str, EncoderSpec]) -> EncoderSpec:
        """Return the spec of the encoder.

        Raises:
            BadStudy: when there is no encoder of that name.
        """
        if self.encoder not in encoders:
            raise BadStudy(
                f"classifiers.{name}.encoder: must name one of the encoders, got '{self.encoder}'; "
                f"{suggestion(self.encoder, encoders)}"
            )
        return encoders[self.encoder]

    def query_vectors(self, context: StageContext, queries: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the vectors of the clips to classify: without a control, and under each control.

        Args:
            context: of the predictions stage.
            queries: `clips` rows.

        Yields:
            "none" or the control, and (queries, dimensions) float32, rows in the order of `queries`.
        """
        for control in ("none", *self.controls):
            name = self.encoder if control == "none" else controlled_name(self.encoder, control)
            embeddings = context.inputs[f"embeddings/{name}"]
            is_query = pc.is_in(embeddings["clip"], value_set=queries["clip"].combine_chunks())
            vectors = align_vectors(queries, embeddings.filter(is_query), name)
            yield control, vectors if queries.num_rows else vector_matrix(embeddings)[:0]  # keep the dimensions


CLASSIFIERS: Registry[ClassifierSpec] = Registry("classifier", "vlm_audio_pipeline.classifiers")
