"""The contract of a classifier: its common parameters, its needs, and the sample of clips that it classifies."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vlm_audio_pipeline.classifiers.perturbed import PerturbedInput
from vlm_audio_pipeline.classifiers.prediction_rows import align_vectors
from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec, check_distinct, excluded_from_fingerprint, refers_to
from vlm_audio_pipeline.contracts.stages import Cost, Input, Stage, StageContext
from vlm_audio_pipeline.datasets.perturbation import Perturbation
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.vectors import vector_matrix
from vlm_audio_pipeline.encoders.weights import Weights

Control = Literal["blank", "time_shuffled", "other_clip"]
"""What replaces the query image, to test whether the classifier uses it."""

NO_ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType({})
"""No encoders: the default of `ClassifierSpec.stages`."""


class ClipSample(BaseModel):
    """The sample of clips that a classifier classifies; it is the same in every run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clips: int = Field(ge=1)
    """Number of clips, over all folds of the classifier together."""
    stratify: bool = True
    """Take the same number of clips from every class, as far as possible."""
    seed: int = 0
    """Random seed of the sample."""

    def clips_in_fold(self, folds: tuple[int, ...], fold: int) -> int:
        """Return the number of clips to take from a fold: clips / folds; the first folds get the remainder.

        Args:
            folds: the folds of the classifier, ascending.
            fold: one of these folds.
        """
        quotient, remainder = divmod(self.clips, len(folds))
        return quotient + (folds.index(fold) < remainder)

    def take(self, clips: pa.Table, folds: tuple[int, ...], fold: int) -> pa.Table:
        """Select the clips of a fold that belong to the sample.

        Clips are ranked by a hash of (seed, id). So an added or removed clip does not change the order of the others.

        Args:
            clips: `clips` rows of the fold.
            folds: the folds of the classifier, ascending.
            fold: one of these folds.

        Returns:
            The selected rows, in the order of `clips`.
        """
        count = self.clips_in_fold(folds, fold)
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
        return clips.take(pa.array(sorted(ranked[:count]), pa.int64()))


@dataclass(frozen=True)
class Needs:
    """What a classifier uses from the rest of a study, and how many questions it sends.

    Attributes:
        encoder: name of the encoder whose vectors the classifier uses; None if it uses no vectors.
        rendering: name of the rendering whose images the classifier itself uses; None if it uses no images itself
            (its encoder may use images).
        controls: controls under which the clips are classified again. They replace the images of `rendering` if
            `asks_per_clip`, else the images of the encoder.
        perturbations: changes of the audio under which the clips are classified again.
        annotations: function that maps the dataset's folder to the annotations file, and raises NotAvailable if the file is
            missing; None for a classifier without annotations.
        weights: files of the classifier's own model; None if it has no model. Weights of the encoder are not included.
        card: model card of the classifier's own model; None if it has no model.
        shots: number of examples of each class in each question.
        trials: number of passes over the clips.
        random_draws: number of random draws of examples; 0 if examples are not drawn at random.
        asks_per_clip: whether the classifier sends questions about each clip to a language model.
        accepted_models: ids that may answer beside each other (see `Stage.accepted_models`); None without an endpoint.
    """

    encoder: str | None = None
    rendering: str | None = None
    controls: tuple[str, ...] = ()
    perturbations: tuple[Perturbation, ...] = ()
    annotations: Callable[[Path], Path] | None = None
    weights: Weights | None = None
    card: ModelCard | None = None
    shots: int = 0
    trials: int = 1
    random_draws: int = 0
    asks_per_clip: bool = False
    accepted_models: tuple[str, ...] | None = None

    @property
    def conditions(self) -> tuple[str, ...]:
        """Every value of the column `control` except "none": the controls, then the changes of the audio."""
        return (*self.controls, *(change.name for change in self.perturbations))


def _sort(folds: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(folds))


class ClassifierSpec(Spec):
    """The parameters of all classifiers. Each kind adds its own parameters, declares its needs and returns its stages."""

    folds: Annotated[tuple[int, ...], AfterValidator(check_distinct), AfterValidator(_sort)] | None = (
        excluded_from_fingerprint(None, min_length=1)
    )
    """Classify only the clips of these folds; by default, of all folds."""
    sample: ClipSample | None = None
    """Classify only a sample of the clips."""
    reproduces: str | None = excluded_from_fingerprint(None)
    """The published result that this classifier reproduces, as `publication/system`."""
    margin: float | None = excluded_from_fingerprint(None, gt=0, lt=1)
    """The result counts as reproduced if the accuracy differs from the published one by less than this; a share of 1."""

    @field_validator("folds")
    @classmethod
    def _are_unique(cls, folds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if folds is not None and len(set(folds)) < len(folds):
            raise ValueError(f"each fold must occur only once, got {list(folds)}")
        return None if folds is None else tuple(sorted(folds))

    @model_validator(mode="after")
    def _margin_has_result(self) -> Self:
        if self.margin is not None and self.reproduces is None:
            raise ValueError(
                f"margin needs `reproduces`, got {self.margin} without it; name the published result, or write `margin: null`"
            )
        return self

    @abstractmethod
    def needs(self) -> Needs:
        """Return what the classifier uses from the rest of the study."""

    def protocol(self, encoders: Mapping[str, EncoderSpec] = NO_ENCODERS) -> Protocol:
        """Return how the classifier is run, for the comparison with publications.

        Args:
            encoders: the encoders of the study, by name.
        """
        return Protocol(setting=self.kind)

    def cost(self, clips: int, size: tuple[int, int] = (0, 0), classes: int = 0) -> Cost:
        """Return an upper bound of the cost of classifying the clips; zero unless the kind overrides it.

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
            name: name of the classifier in the study.
            folds: all folds of the dataset; `self.folds` may be a subset.
            encoders: the encoders of the study, by name.

        Raises:
            BadStudy: if the parameters do not fit the encoder or the folds.
        """

    def queries(self, clips: pa.Table, fold: int, folds: tuple[int, ...]) -> pa.Table:
        """Return the clips of a fold that the classifier classifies.

        Args:
            clips: `clips` rows of this fold; rows of other folds are ignored.
            fold: the fold.
            folds: the dataset's folds.
        """
        in_fold = clips.filter(pc.equal(clips["fold"], fold))
        return in_fold if self.sample is None else self.sample.take(in_fold, tuple(sorted(self.folds or folds)), fold)

    def sampled_folds(self, folds: tuple[int, ...]) -> dict[str, Any]:
        """Return the folds over which the sample is distributed, as a stage parameter; empty without a sample."""
        return {"asked": sorted(self.folds or folds)} if self.sample else {}


class EncoderClassifier(PerturbedInput, ClassifierSpec):
    """A classifier that uses the vectors of one encoder, with and without controls and changes of the audio.

    A control replaces the query's image (with a blank image, the time-shuffled image, or the image of another clip) and
    nothing else: training clips and class texts stay the same. The vectors of controlled images, and those of changed audio, are the
    step `embeddings/<encoder>__<control>`.
    """

    encoder: str = refers_to("encoders")
    """Name of the encoder in the study."""
    controls: Annotated[tuple[Control, ...], AfterValidator(check_distinct)] = ()
    """Classify again with another query image: blank, time_shuffled or other_clip; only for encoders of images."""

    setting: ClassVar[str] = ""
    """The setting in the protocol, in the words of publications."""

    def needs(self) -> Needs:
        """Return the encoder, the controls of its images and the changes of its audio."""
        return Needs(encoder=self.encoder, controls=self.controls, perturbations=self.perturbations)

    def protocol(self, encoders: Mapping[str, EncoderSpec] = NO_ENCODERS) -> Protocol:
        """Return the setting, the input and the model of the encoder."""
        encoder = encoders[self.encoder]
        return Protocol(
            setting=self.setting or self.kind,
            input="spectrogram image" if encoder.takes_images else "audio",
            model=encoder.model_id,
            trials=1,
            audio=None if encoder.takes_images else _audio_preparation(encoder),
            rendering=encoder.image_rendering,
        )

    def controlled_inputs(self, name: str, encoders: Mapping[str, EncoderSpec]) -> tuple[Input, ...]:
        """Return the inputs of the predictions stage with the vectors of controlled images and of changed audio, for this fold only.

        Args:
            name: name of this classifier in the study.
            encoders: the encoders of the study, by name.

        Raises:
            BadStudy: if there are controls and the encoder does not take images.
        """
        if self.controls and not (spec := self.encoder_spec(name, encoders)).takes_images:
            raise BadStudy(
                f"classifiers.{name}.controls: need an encoder of images, got {list(self.controls)} with encoder "
                f"'{self.encoder}' of kind {spec.kind}, which takes audio; remove `controls`"
            )
        return tuple(Input("embeddings", controlled_name(self.encoder, name)) for name in self.needs().conditions)

    def encoder_spec(self, name: str, encoders: Mapping[str, EncoderSpec]) -> EncoderSpec:
        """Return the spec of the encoder.

        Raises:
            BadStudy: if the study has no encoder of that name.
        """
        if self.encoder not in encoders:
            raise BadStudy(
                f"classifiers.{name}.encoder: must name one of the encoders, got '{self.encoder}'; "
                f"{suggestion(self.encoder, encoders)}"
            )
        return encoders[self.encoder]

    def query_vectors(self, context: StageContext, queries: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the vectors of the clips to classify, first without a control, then under each control and change of the audio.

        Args:
            context: context of the predictions stage.
            queries: `clips` rows.

        Yields:
            "none" or the condition, and (queries, dimensions) float32, rows in the order of `queries`.
        """
        for control in ("none", *self.needs().conditions):
            name = self.encoder if control == "none" else controlled_name(self.encoder, control)
            embeddings = context.inputs[f"embeddings/{name}"]
            is_query = pc.is_in(embeddings["clip"], value_set=queries["clip"].combine_chunks())
            vectors = align_vectors(queries, embeddings.filter(is_query), name)
            if not queries.num_rows:
                vectors = vector_matrix(embeddings)[:0]  # empty, but with the right number of dimensions
            yield control, vectors


def _audio_preparation(encoder: EncoderSpec) -> str:
    return "peak-normalised" if encoder.normalises_peak else "as recorded"


CLASSIFIERS: Registry[ClassifierSpec] = Registry("classifier", "vlm_audio_pipeline.classifiers")
