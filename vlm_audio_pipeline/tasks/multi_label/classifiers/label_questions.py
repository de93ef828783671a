"""What a language model is asked in this task: to list the classes, or to say yes or no for each class.

The question with yes and no is one request for each clip. Its prompt is the same for all classes, and the two answers about each
class, `dog: yes` and `dog: no`, are scored as responses to it: locally in one pass, as branches of one tree that do not see each
other. The probability of yes among the two is the score of the class. The name of the class is part of both answers, so its
own probability cancels.

Belongs here: prompts, answers and scores. Does not belong here: sending requests (`classifiers.language_models`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlm_audio_pipeline.classifiers.language_models.prompt_choice import OwnPrompt
from vlm_audio_pipeline.classifiers.language_models.questions import QuestionBuilder
from vlm_audio_pipeline.tasks.multi_label.classifiers.list_parsing import EMPTY_LIST

Question = Literal["list", "yes_no"]
YES, NO = "yes", "no"
SEPARATOR = ";"
"""Between the classes in `examples.example_label`."""

LIST_PROMPT = OwnPrompt(
    text="Which of these sounds does this contain: {classes}? It may contain several of them, or none. Answer only with the names of the "
    f"sounds that it contains, separated by commas, or with the word {EMPTY_LIST}."
)
"""The default prompt of the question `list`."""
YES_NO_PROMPT = OwnPrompt(
    text="This may contain several of these sounds, or none: {classes}. Choose one of the sounds, and say whether this contains it. Answer "
    f"only with the name of the sound, a colon, and {YES} or {NO}."
)
"""The default prompt of the question `yes_no`."""


def yes_no_answers(names: Mapping[str, str]) -> dict[str, str]:
    """Return the two answers about each class: key in `responses.log_probabilities` -> text of the response.

    >>> yes_no_answers({"sea_waves": "sea waves"})
    {'sea_waves: yes': 'sea waves: yes', 'sea_waves: no': 'sea waves: no'}
    """
    return {f"{label}: {word}": f"{name}: {word}" for label, name in names.items() for word in (YES, NO)}


def yes_probabilities(log_probabilities: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    """Return the probability of yes among yes and no for each class, (classes,) float64.

    P(yes) / (P(yes) + P(no)) = 1 / (1 + exp(log P(no) - log P(yes))) of the whole answers.

    Args:
        log_probabilities: key of `yes_no_answers` -> log-probability of the answer, natural logarithm.
        classes: labels.

    Raises:
        KeyError: if an answer has no log-probability.
    """
    yes = np.array([log_probabilities[f"{label}: {YES}"] for label in classes], float)
    no = np.array([log_probabilities[f"{label}: {NO}"] for label in classes], float)
    odds = np.exp(-np.abs(yes - no))  # at most 1, so that nothing overflows
    probabilities: np.ndarray = np.where(yes >= no, 1.0, odds) / (1.0 + odds)
    return probabilities


@dataclass(frozen=True)
class ListQuestions(QuestionBuilder):
    """Questions that ask for a list of classes."""

    def example_answer(self, example_label: str) -> str:
        """Return the list of an example: the names of its classes, or `none`."""
        return ", ".join(self.names[label] for label in example_label.split(SEPARATOR) if label) or EMPTY_LIST


@dataclass(frozen=True)
class YesNoQuestions(QuestionBuilder):
    """Questions that ask for yes or no; an example shows the answer about one class."""

    def example_answer(self, example_label: str) -> str:
        """Return the answer of an example: the name of a class, and yes or no."""
        return yes_no_answers(self.names)[example_label]
