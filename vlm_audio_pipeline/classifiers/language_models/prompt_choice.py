"""The `prompt` of a study: the name of a prompt, or a text of its own."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vlm_audio_pipeline.classifiers.language_models.named_prompts import PROMPTS
from vlm_audio_pipeline.classifiers.language_models.prompts import Prompt, Wording
from vlm_audio_pipeline.contracts.errors import suggestion


def _check_text(text: str) -> str:
    if "{classes}" not in text:
        raise ValueError(
            f"a prompt must contain {{classes}}, which stands for the list of classes, got '{text}'; add it"
        )
    return text


PromptText = Annotated[str, AfterValidator(_check_text)]


class OwnPrompt(BaseModel):
    """A study's own prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    text: PromptText
    """The instructions. They must contain {classes}, the names joined by commas; the other texts may contain it."""
    system: str | None = Field(None, min_length=1)
    """The system turn; by default none."""
    examples: str = ""
    """Follows the instructions if there are examples."""
    lead: str = ""
    """Precedes every image or audio."""
    wordings: tuple[PromptText, ...] = ()
    """Paraphrases of `text`."""

    def prompt(self) -> Prompt:
        """Return the prompt; its wordings are the same for images and audio."""
        wordings = tuple(Wording(text, self.system, self.examples, self.lead) for text in (self.text, *self.wordings))
        return Prompt("own", 1, wordings, wordings, about="The study's own text.")


def _check_choice(choice: str | OwnPrompt) -> str | OwnPrompt:
    if isinstance(choice, str) and choice not in PROMPTS:
        raise ValueError(
            f"a prompt must be the name of a prompt or a text of its own, got '{choice}'; {suggestion(choice, PROMPTS)}; or "
            'write `prompt: {text: "... {classes} ..."}`'
        )
    return choice


PromptChoice = Annotated[str | OwnPrompt, AfterValidator(_check_choice)]
"""Value of `prompt` in a study: a name, or a text of its own."""


def resolve_prompt(choice: str | OwnPrompt) -> Prompt:
    """Return the prompt that a study chose (see `PromptChoice`)."""
    return PROMPTS[choice] if isinstance(choice, str) else choice.prompt()
