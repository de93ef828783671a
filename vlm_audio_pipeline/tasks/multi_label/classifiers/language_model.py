"""A language model that lists the classes of a clip.

Requests, stored responses, backends and budgets are those of `classifiers.language_models`; a response is parsed as a list. A list has
no scores, so measures of an order (average precision, ROC area, lwlrap) are undefined, with this reason.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from pydantic import model_validator

from vlm_audio_pipeline.classifiers.base import NO_ENCODERS
from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Scoring
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt, PromptChoice
from vlm_audio_pipeline.classifiers.language_models.stages import responses_stage
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import CLIP_LABELS, MULTI_LABEL_CLASSIFIERS, truth_matrix
from vlm_audio_pipeline.tasks.multi_label.classifiers.list_parsing import EMPTY_LIST, parse_list

LIST_PROMPT = OwnPrompt(
    text="Which of these sounds does this contain: {classes}? It may contain several of them, or none. Answer only with the names of the "
    f"sounds that it contains, separated by commas, or with the word {EMPTY_LIST}."
)
"""The default prompt."""

_COPIED_COLUMNS = ("scoring", "control", "trial", "clip", "model", "revision")


@MULTI_LABEL_CLASSIFIERS.register("language_model")
class ListingLanguageModel(LanguageModel):
    """A vision-language or audio-language model that is asked to list the classes of each clip."""

    supported_scorings: ClassVar[tuple[Scoring, ...]] = ("generation",)
    prompt: PromptChoice = LIST_PROMPT
    """The question: `{text: "... {classes} ..."}`. The answer must be names of classes separated by commas, or `none`."""
    max_tokens: int = 128
    """Maximum length of generated text, tokens. A list that is cut off has no answer."""

    @classmethod
    def spec_class(cls, values: Mapping[str, Any]) -> type[LanguageModel]:
        """Return the class of the backend that an entry names, with lists as answers.

        Raises:
            VlmAudioError: if the backend is unknown, or a key belongs to another backend.
        """
        return _with_lists(LanguageModel.spec_class(values))

    @classmethod
    def spec_classes(cls) -> Mapping[str, type[LanguageModel]]:
        """Map the name of every backend to its class; the default backend has the name ""."""
        return {name: _with_lists(spec) for name, spec in LanguageModel.spec_classes().items()}

    @model_validator(mode="after")
    def _refuse_keys_of_one_class(self) -> Self:
        names = ("shots", "examples", "encoder", "permuted_labels", "calibrate", "synonyms")
        defaults = type(self).model_fields
        if used := [name for name in names if getattr(self, name) != defaults[name].default]:
            raise ValueError(f"{used[0]} is not available in the task multi_label; remove it")
        if isinstance(self.prompt, str):
            raise ValueError(
                f"prompt must ask for a list in the task multi_label, got '{self.prompt}', which asks for one class; remove it, or "
                'write `prompt: {text: "... {classes} ..."}`'
            )
        return self

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return the stages: responses, predictions."""

        def run(context: StageContext) -> dict[str, pa.Table]:
            clips = context.inputs["clips"]
            constants = {"kind": self.kind, "training_clips": 0}
            rows = predict_from_lists(
                context.inputs[f"responses/{name}"],
                clips,
                truth_matrix(clips, context.inputs[CLIP_LABELS], context.classes),
                self.class_names(context.classes),
            )
            for column, value in constants.items():
                rows = rows.append_column(column, pa.array([value] * rows.num_rows))
            return {"multi_label_predictions": rows}

        predictions = Stage(
            asset="predictions",
            tables=("multi_label_predictions",),
            version=2,  # increase it also when the parser changes
            parameters={"label_form": self.label_form},
            inputs=(Input("clips"), Input("responses", name)),
            run=run,
            description="The classes that each response lists; a response that is no list of classes has no answer.",
            folds=self.folds,
        )
        return [responses_stage(self, name, folds), predictions]


def predict_from_lists(responses: pa.Table, clips: pa.Table, truth: np.ndarray, names: Mapping[str, str]) -> pa.Table:
    """Turn responses into rows of `multi_label_predictions`, without scores.

    A list that was cut off is `truncated`. A response with the outcome "refused" or "error" keeps it.

    Args:
        responses: `responses` rows of a fold.
        clips: `clips` rows of the fold.
        truth: (clips, classes) bool, columns in the order of `names`.
        names: class -> its name in the prompt.
    """
    row_of_clip = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
    sources = clips["source"].to_pylist()
    lines = []
    for row in responses.to_pylist():
        outcome = row["outcome"]
        labels: frozenset[str] = frozenset()
        if outcome == "answered":
            parsed = parse_list(row["text"], names)
            outcome, labels = parsed.outcome, parsed.labels
        clip = row_of_clip[row["clip"]]
        lines += [
            {
                **{name: row[name] for name in _COPIED_COLUMNS},
                "source": sources[clip],
                "label": label,
                "truth": bool(truth[clip, k]),
                "predicted": label in labels if outcome == "answered" else None,
                "outcome": outcome,
            }
            for k, label in enumerate(names)
        ]
    columns = (*_COPIED_COLUMNS, "source", "label", "truth", "predicted", "outcome")
    return pa.Table.from_pylist(lines, pa.schema([TABLES["multi_label_predictions"].arrow.field(c) for c in columns]))


@cache
def _with_lists(backend: type[LanguageModel]) -> type[LanguageModel]:
    """Return the class of a backend whose answers are lists."""
    name = f"Listing{backend.__name__}"
    listing: type[LanguageModel] = type(
        name, (ListingLanguageModel, backend), {"__module__": __name__, "__doc__": ListingLanguageModel.__doc__}
    )
    globals()[name] = listing  # so that it can be pickled
    return listing
