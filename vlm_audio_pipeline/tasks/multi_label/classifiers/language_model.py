"""A language model that lists the classes of a clip, or says yes or no for each class.

Requests, stored responses, backends and budgets are those of `classifiers.language_models`. A list has no scores, so measures of an
order (average precision, ROC area, lwlrap) are undefined, with this reason. Yes and no have scores (`label_questions`).
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from vlm_audio_pipeline.classifiers.base import NO_ENCODERS
from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Scoring
from vlm_audio_pipeline.classifiers.language_models.prompt_choice import PromptChoice, resolve_prompt
from vlm_audio_pipeline.classifiers.language_models.questions import QuestionBuilder
from vlm_audio_pipeline.classifiers.language_models.sentence_answers import ParsedResponse
from vlm_audio_pipeline.classifiers.language_models.stages import responses_stage
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.stages import Stage
from vlm_audio_pipeline.datasets.base import label_text
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import MULTI_LABEL_CLASSIFIERS
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_questions import (
    LIST_PROMPT,
    YES_NO_PROMPT,
    ListQuestions,
    Question,
    YesNoQuestions,
    yes_no_answers,
)
from vlm_audio_pipeline.tasks.multi_label.classifiers.list_parsing import EMPTY_LIST, parse_list
from vlm_audio_pipeline.tasks.multi_label.classifiers.response_stages import examples_stage, predictions_stage

_SCORING_OF: Mapping[Question, Scoring] = {"list": "generation", "yes_no": "likelihood"}


@MULTI_LABEL_CLASSIFIERS.register("language_model")
class LabelLanguageModel(LanguageModel):
    """A vision-language or audio-language model that lists the classes of each clip, or says yes or no for each class."""

    supported_scorings: ClassVar[tuple[Scoring, ...]] = ("likelihood", "generation")
    selects_by_vectors: ClassVar[bool] = False

    question: Question = "list"
    """list: generate the names of the classes; decisions without scores. yes_no: the likelihood of yes and no for each class in one
    pass over the clip; a score for each class. It needs the likelihoods of labels, which most paid endpoints do not return."""
    prompt: PromptChoice = LIST_PROMPT
    """The prompt: `{text: "... {classes} ..."}`; by default one for each `question`. For `list`, the answer must be names of classes
    separated by commas, or `none`; for `yes_no`, it must be the name of a class, a colon, and yes or no: `dog: yes`."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """For `yes_no`: the probability of yes from which on a class is predicted; by default chosen on the other folds."""
    shots: int = Field(0, ge=0, le=20)
    """Number of examples with each class, and number of examples without it, from other folds."""
    select: Literal["random"] = "random"
    """How examples are selected: random."""
    max_tokens: int = 128
    """Maximum length of generated text, tokens. A list that is cut off has no answer."""

    @classmethod
    def spec_class(cls, values: Mapping[str, Any]) -> type[LanguageModel]:
        """Return the class of the backend that an entry names, with the questions of this task.

        Raises:
            VlmAudioError: if the backend is unknown, or a key belongs to another backend.
        """
        return _with_labels(LanguageModel.spec_class(values))

    @classmethod
    def spec_classes(cls) -> Mapping[str, type[LanguageModel]]:
        """Map the name of every backend to its class; the default backend has the name ""."""
        return {name: _with_labels(spec) for name, spec in LanguageModel.spec_classes().items()}

    @model_validator(mode="after")
    def _check_keys_of_the_task(self) -> Self:
        names = ("examples", "encoder", "permuted_labels", "calibrate", "synonyms", "normalise")
        defaults = type(self).model_fields
        if used := [name for name in names if getattr(self, name) != defaults[name].default]:
            raise ValueError(f"{used[0]} is not available in the task multi_label; remove it")
        if isinstance(self.prompt, str):
            raise ValueError(
                f"prompt must ask for several classes in the task multi_label, got '{self.prompt}', which asks for one class; remove it, "
                'or write `prompt: {text: "... {classes} ..."}`'
            )
        scoring = _SCORING_OF[self.question]
        if self.scoring not in ((), (scoring,)):
            raise ValueError(
                f"scoring must be {scoring} for `question: {self.question}`, got {' and '.join(self.scoring)}; remove it"
            )
        if scoring not in super().default_scorings:
            raise ValueError(
                f"question {self.question} needs {scoring}, which this endpoint does not return; use `question: list`, or declare "
                "how the server returns log-probabilities with `likelihood`"
            )
        if self.threshold is not None and self.question != "yes_no":
            raise ValueError(f"threshold needs `question: yes_no`, got {self.threshold} without it; remove it")
        return self

    @property
    def default_scorings(self) -> tuple[Scoring, ...]:
        """The scoring of the question."""
        return (_SCORING_OF[self.question],)

    @property
    def label_prompt(self) -> PromptChoice:
        """The prompt of the study, or the default one of the question."""
        return YES_NO_PROMPT if self.question == "yes_no" and self.prompt == LIST_PROMPT else self.prompt

    def parse_text(self, text: str, classes: tuple[str, ...]) -> ParsedResponse:
        """Read a generated list; the label is the list of its classes, or `none`."""
        parsed = parse_list(text, self.class_names(classes))
        if parsed.outcome != "answered":
            return ParsedResponse("unparseable", None, "none")
        return ParsedResponse("answered", label_text(sorted(parsed.labels)) or EMPTY_LIST, "whole")

    def question_builder(self, classes: tuple[str, ...]) -> QuestionBuilder:
        """Return the builder of all questions about these classes."""
        values = dict(vars(super().question_builder(classes)), prompt=resolve_prompt(self.label_prompt))
        if self.question == "list":
            return ListQuestions(**values)
        return YesNoQuestions(**values | {"answers": yes_no_answers(values["names"])})

    def stages(
        self, name: str, folds: tuple[int, ...], encoders: Mapping[str, EncoderSpec] = NO_ENCODERS
    ) -> list[Stage]:
        """Return the stages: examples (with `shots`), responses, predictions.

        Raises:
            BadStudy: if there are too few folds for examples or for a threshold.
        """
        if self.shots and len(folds) < 2:
            raise BadStudy(
                f"classifiers.{name}.shots: must be 0 for a dataset of one fold, got {self.shots}: examples come from other folds; "
                "give the dataset two or more"
            )
        if self.chooses_threshold and len(self.folds or folds) < 2:
            raise BadStudy(
                f"classifiers.{name}.threshold: is chosen on other folds and needs two or more folds, got "
                f"{list(self.folds or folds)}; write `threshold: 0.5`, or name more folds"
            )
        examples = [examples_stage(self)] if self.shots else []
        return [*examples, responses_stage(self, name, folds), predictions_stage(self, name)]

    @property
    def chooses_threshold(self) -> bool:
        """Whether the threshold is chosen on other folds."""
        return self.question == "yes_no" and self.threshold is None


@cache
def _with_labels(backend: type[LanguageModel]) -> type[LanguageModel]:
    """Return the class of a backend with the questions of this task."""
    name = f"Label{backend.__name__}"
    combined: type[LanguageModel] = type(
        name, (LabelLanguageModel, backend), {"__module__": __name__, "__doc__": LabelLanguageModel.__doc__}
    )
    globals()[name] = combined  # so that it can be pickled
    return combined
