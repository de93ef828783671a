"""The `prompt` of a study: the name of a prompt, or the study's own text."""

from typing import Annotated, Literal

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

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: PromptText
    """The instructions. They must contain {classes}, which stands for the list of class names. The other texts may contain it,
    too."""
    system: str | None = Field(None, min_length=1)
    """The system turn; by default none."""
    examples: str = ""
    """Text after the instructions if there are examples."""
    lead: str = ""
    """Text before every image or audio."""
    wordings: tuple[PromptText, ...] = ()
    """Paraphrases of `text`."""
    list_format: Literal["commas", "brackets", "python"] = "commas"
    """How {classes} lists the names: commas (dog, rain), brackets ([dog, rain]), python (['dog', 'rain'])."""
    media_first: bool = False
    """Put each image or audio before the text of its turn, and repeat the instructions in every turn."""
    preamble: bool = False
    """Begin with the system text that the model's processor adds by default (Janus has one; other models ignore this)."""

    def prompt(self) -> Prompt:
        """Return the prompt; its wordings are the same for images and audio."""
        wordings = tuple(Wording(text, self.system, self.examples, self.lead) for text in (self.text, *self.wordings))
        return Prompt(
            "own",
            1,
            wordings,
            wordings,
            list_format=self.list_format,
            media_first=self.media_first,
            preamble=self.preamble,
        )


def _check_choice(choice: str | OwnPrompt) -> str | OwnPrompt:
    if isinstance(choice, str) and choice not in PROMPTS:
        raise ValueError(
            f"a prompt must be the name of a prompt or a text, got '{choice}'; {suggestion(choice, PROMPTS)}; or "
            'write `prompt: {text: "... {classes} ..."}`'
        )
    return choice


PromptChoice = Annotated[str | OwnPrompt, AfterValidator(_check_choice)]
"""Value of `prompt` in a study: a name, or the study's own text."""


def resolve_prompt(choice: str | OwnPrompt) -> Prompt:
    """Return the prompt that a study chose (see `PromptChoice`)."""
    return PROMPTS[choice] if isinstance(choice, str) else choice.prompt()
