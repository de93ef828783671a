"""Zero-shot: the class whose name, put into a sentence, lies nearest to the clip in a space shared by texts and clips.

What belongs here: sentences, and scores from cosines. What does not: how texts become vectors (`encoders`).
A. Radford et al., Learning transferable visual models from natural language supervision, https://arxiv.org/abs/2103.00020
(templates averaged in vector space: section 3.1.4); for sound: Y. Wu et al., https://arxiv.org/abs/2211.06687.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, model_validator

from vlm_audio_pipeline.classifiers.base import (
    CLASSIFIERS,
    NO_ENCODERS,
    OnEncoder,
    model_of,
    scored_predictions,
    softmax,
)
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.esc_classes import class_name
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.texts import embed_texts, logit_scale
from vlm_audio_pipeline.storage.result_store import RowStore

LabelForm = Literal["raw", "human", "description"]

_PLACE = re.compile(r"\{(?:label)?\}")


def _with_place(template: str) -> str:
    if not _PLACE.search(template):
        raise ValueError(
            f"a template must have a place for the label, got '{template}'; write {{label}} where the label goes"
        )
    return template


Template = Annotated[str, AfterValidator(_with_place)]

DEFAULT_TEMPLATE = "This is a sound of {label}."
"""What transformers' zero-shot audio classification asks."""


@CLASSIFIERS.register("zero_shot")
class ZeroShot(OnEncoder):
    """The class whose text is most similar to the clip, by an encoder that reads too (CLAP, CLIP, SigLIP)."""

    template: Template = DEFAULT_TEMPLATE
    """The sentence a class is put into, in the place of {label} (or {})."""
    templates: tuple[Template, ...] = ()
    """Several sentences instead of one: the vectors of a class are averaged and brought to length 1."""
    label_form: LabelForm = "raw"
    """raw: `sea_waves`; human: `sea waves`; description: a sentence on how it sounds, read as it is by default."""
    temperature: float | None = Field(None, gt=0)
    """Scores are softmax(cosine / temperature); by default with the model's own."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if self.templates and self.template != DEFAULT_TEMPLATE:
            raise ValueError("only one of template and templates must be given, got both; put all into `templates`")
        return self

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Give the one stage: cosines of clips and class texts.

        Raises:
            BadStudy: when the encoder does not read, or a control is asked for of one that does not see.
        """
        encoder = self.encoder_spec(name, encoders)
        if not encoder.has_text_side:
            readers = [n for n, spec in encoders.items() if spec.has_text_side]
            instead = f"; of this study's, {', '.join(readers)} can" if readers else "; use kind `clap`"
            raise BadStudy(
                f"classifiers.{name}.encoder: must be an encoder that reads texts too, got '{self.encoder}' of kind "
                f"{encoder.kind} ({encoder.model_id}), which does not{instead}"
            )
        asked = {"asked": sorted(self.folds or folds)} if self.sample else {}
        return [
            Stage(
                asset="predictions",
                tables=("predictions",),
                version=1,
                parameters={
                    **self.identity(),
                    **asked,
                    "reads": [encoder.step_version, encoder.computes_by(), encoder.number_format],
                },
                inputs=(
                    Input("clips"),
                    Input("embeddings", self.encoder),
                    *((encoder.weights.observed,) if encoder.weights else ()),  # they read the texts
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
        """Give what is read for each class: one sentence a template.

        >>> ZeroShot(encoder="clap", label_form="human").texts(("sea_waves", "dog"))
        [['This is a sound of sea waves.'], ['This is a sound of dog.']]
        """
        sentences = self.templates or (self.template,)
        if self.label_form == "description" and sentences == (DEFAULT_TEMPLATE,):
            sentences = ("{label}",)
        return [[filled(sentence, self._called(label)) for sentence in sentences] for label in classes]

    def _called(self, label: str) -> str:
        known = class_name(label)
        return {"raw": label, "human": known.human, "description": known.description}[self.label_form]

    def class_vectors(self, encoder: EncoderSpec, classes: tuple[str, ...], rows: RowStore) -> np.ndarray:
        """Give one vector a class, (classes, dimensions) float64 of length 1: the mean of those of its texts."""
        texts = self.texts(classes)
        read = embed_texts(encoder, [t for some in texts for t in some], rows).astype(np.float64)
        return directions(directions(read).reshape(len(classes), len(texts[0]), -1).mean(axis=1))

    def _predict(self, context: StageContext, encoder: EncoderSpec, folds: tuple[int, ...]) -> dict[str, pa.Table]:
        queries = self.queries(context.inputs["clips"], int(context.fold or 0), folds)
        classes = self.class_vectors(encoder, context.classes, context.rows)
        scale = logit_scale(encoder, context.rows) if self.temperature is None else 1 / self.temperature
        constants = {"kind": self.kind, "encoder": self.encoder, "training_clips": 0}
        made = []
        for control, x in self.queried(context, queries):
            scores = softmax(scale * directions(x.astype(np.float64)) @ classes.T)
            model = model_of(context.inputs[f"embeddings/{self.encoder}"])
            made.append(scored_predictions(queries, context.classes, scores, control=control, **constants, **model))
        return {"predictions": pa.concat_tables(made)}


def filled(template: str, label: str) -> str:
    """Put a label into a template.

    >>> filled("This is a sound of {}.", "rain")
    'This is a sound of rain.'
    """
    return _PLACE.sub(lambda _: label, template)


def directions(x: np.ndarray) -> np.ndarray:
    """Bring the rows of (n, dimensions) to length 1; a row of zeros has no direction and stays."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths > 0, lengths, 1.0)
