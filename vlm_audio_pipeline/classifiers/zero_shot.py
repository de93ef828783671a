"""Zero-shot: predict the class whose text embedding is most similar to the clip's embedding, in their common space.

A. Radford et al., Learning transferable visual models from natural language supervision, https://arxiv.org/abs/2103.00020
(templates averaged in vector space: section 3.1.4); for sound: Y. Wu et al., https://arxiv.org/abs/2211.06687.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, NO_ENCODERS, EncoderClassifier
from vlm_audio_pipeline.classifiers.prediction_rows import model_columns, scored_predictions, softmax
from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.classifiers.shown_labels import add_shown_labels
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.contracts.work import Engine
from vlm_audio_pipeline.datasets.class_names import class_name
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.texts import embed_texts
from vlm_audio_pipeline.encoders.vectors import unit_vectors
from vlm_audio_pipeline.storage.result_store import ResultStore

LabelForm = Literal["raw", "human", "description"]

_PLACEHOLDER = re.compile(r"\{(?:label)?\}")


def _check_placeholder(template: str) -> str:
    if not _PLACEHOLDER.search(template):
        raise ValueError(
            f"a template must contain a placeholder for the label, got '{template}'; write {{label}} where the label goes"
        )
    return template


Template = Annotated[str, AfterValidator(_check_placeholder)]

DEFAULT_TEMPLATE = "This is a sound of {label}."
"""The default template of zero-shot audio classification in transformers."""


@CLASSIFIERS.register("zero_shot")
class ZeroShot(EncoderClassifier):
    """Predicts the class whose text is most similar to the clip; for encoders with a text encoder (CLAP, CLIP, SigLIP)."""

    setting: ClassVar[str] = "zero-shot"
    template: Template = DEFAULT_TEMPLATE
    """Sentence in which {label} (or {}) is replaced by the name of a class."""
    templates: tuple[Template, ...] = ()
    """Several sentences instead of one: the text vectors of a class are averaged and scaled to length 1."""
    label_form: LabelForm = "raw"
    """raw: `sea_waves`; human: `sea waves`; description: a sentence about its sound, used without a template by default."""
    temperature: float | None = Field(None, gt=0)
    """Scores are softmax(cosine / temperature); by default with the temperature of the model."""

    @model_validator(mode="after")
    def _check_template_or_templates(self) -> Self:
        if self.templates and self.template != DEFAULT_TEMPLATE:
            raise ValueError(
                "only one of template and templates is allowed, got both; put all sentences into `templates`"
            )
        return self

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return one stage: cosines of clip and text vectors.

        Raises:
            BadStudy: if the encoder has no text encoder, or if there are controls but it does not take images.
        """
        encoder = self.encoder_spec(name, encoders)
        if not encoder.has_text_encoder:
            suitable = [n for n, spec in encoders.items() if spec.has_text_encoder]
            advice = f"; this study has {', '.join(suitable)}" if suitable else "; use kind `clap`"
            raise BadStudy(
                f"classifiers.{name}.encoder: must have a text encoder, got '{self.encoder}' of kind "
                f"{encoder.kind} ({encoder.model_id}), which has none{advice}"
            )
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=3,
                parameters={
                    **self.fingerprint_fields(),
                    **self.sampled_folds(folds),
                    "reads": [encoder.step_version, encoder.vector_parameters(), encoder.number_format],
                },
                inputs=(
                    Input("clips"),
                    Input("embeddings", self.encoder),
                    *((encoder.weights.input_asset,) if encoder.weights else ()),  # the weights also encode the texts
                    *self.controlled_inputs(name, encoders),
                ),
                run=partial(self._predict, encoder=encoder, folds=folds),
                description=f"Cosines of vectors of '{self.encoder}' with those of the classes' texts; scores are their "
                f"softmax at {'the temperature of the model' if self.temperature is None else self.temperature}.",
                folds=self.folds,
                accelerator=encoder.accelerator,
                unavailable=encoder.unavailable,
            )
        ]

    def texts(self, classes: tuple[str, ...]) -> list[list[str]]:
        """Return the sentences of each class, one per template.

        >>> ZeroShot(encoder="clap", label_form="human").texts(("sea_waves", "dog"))
        [['This is a sound of sea waves.'], ['This is a sound of dog.']]
        """
        return [[fill_template(sentence, self._class_text(label)) for sentence in self._sentences] for label in classes]

    @property
    def _sentences(self) -> tuple[str, ...]:
        sentences = self.templates or (self.template,)
        uses_description = self.label_form == "description" and sentences == (DEFAULT_TEMPLATE,)
        return ("{label}",) if uses_description else sentences

    @property
    def template_text(self) -> str:
        """The templates as one text, each with `{label}` as its placeholder.

        >>> ZeroShot(encoder="clap", templates=("a {label}", "the {label}")).template_text
        'a {label} | the {label}'
        """
        return " | ".join(fill_template(sentence, "{label}") for sentence in self._sentences)

    def protocol(self, encoders: Mapping[str, EncoderSpec] = NO_ENCODERS) -> Protocol:
        """Return the protocol with the templates, each with `{label}` as its placeholder, and the form of the labels."""
        return replace(super().protocol(encoders), prompt=self.template_text, label_form=self.label_form)

    def _class_text(self, label: str) -> str:
        name = class_name(label)
        return {"raw": label, "human": name.readable_name, "description": name.description}[self.label_form]

    def class_vectors_and_scale(
        self, encoder: EncoderSpec, classes: tuple[str, ...], result_store: ResultStore, engine: Engine
    ) -> tuple[np.ndarray, float]:
        """Return the vectors of the classes, and the model's inverse temperature.

        Returns:
            (classes, dimensions) float64 of length 1: for each class the mean of the vectors of its texts; the inverse temperature.
        """
        texts = self.texts(classes)
        vectors, scale = embed_texts(encoder, [t for sentences in texts for t in sentences], result_store, engine)
        means = unit_vectors(vectors.astype(np.float64)).reshape(len(classes), len(texts[0]), -1).mean(axis=1)
        return unit_vectors(means), scale

    def _predict(self, context: StageContext, encoder: EncoderSpec, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        queries = self.queries(context.inputs["clips"], int(context.fold or 0), folds)
        classes, model_scale = self.class_vectors_and_scale(
            encoder, context.classes, context.result_store, context.engine
        )
        scale = model_scale if self.temperature is None else 1 / self.temperature
        constants = {"kind": self.kind, "encoder": self.encoder, "training_clips": 0}
        model = model_columns(context.inputs[f"embeddings/{self.encoder}"])
        predictions = []
        for control, x in self.query_vectors(context, queries):
            scores = softmax(scale * unit_vectors(x.astype(np.float64)) @ classes.T)
            predictions.append(
                scored_predictions(queries, context.classes, scores, control=control, **constants, **model)
            )
        return {"predictions": add_shown_labels(pa.concat_tables(predictions), context.inputs["clips"])}


def fill_template(template: str, label: str) -> str:
    """Replace the placeholder of a template with a label.

    >>> fill_template("This is a sound of {}.", "rain")
    'This is a sound of rain.'
    """
    return _PLACEHOLDER.sub(lambda _: label, template)
