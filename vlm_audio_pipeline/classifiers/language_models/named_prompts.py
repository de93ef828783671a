"""The named prompts and their texts. A change of a text needs a new version of its prompt.

- paper: the zero-shot prompt of Dixit, Heller and Donahue (2024), Figure 5, word for word, on images of ESC-10
  (https://arxiv.org/abs/2411.12058). Its few-shot form (examples as earlier turns of the conversation) and its form for
  audio are reconstructions: the original wording was not available.
- notebook: the zero-shot prompt of can-vlms-hear (https://github.com/harpreetsahota204/can-vlms-hear), character for
  character: the image, then the text, after the preamble of Janus' processor. It had no examples and no audio: those forms
  are by this project.
- one_word: the sentences of `notebook` in this project's form: the text, then the image; the classes joined by commas; no
  preamble.
- plain: short and neutral, with two paraphrases, by this project.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vlm_audio_pipeline.classifiers.language_models.prompts import Prompt, Wording

_PAPER_CLASSES = (
    *("dog", "chainsaw", "crackling_fire", "helicopter", "rain"),
    *("crying_baby", "clock_tick", "sneezing", "rooster", "sea_waves"),
)

_PAPER = (
    "Your task is to analyze a spectrogram, which is a visual representation of the frequency spectrum of sound over "
    "time, and determine the most likely sound class from a given list of possibilities. Analyze the spectrogram image, "
    "considering factors such as frequency patterns, intensity, and time variations. Focus solely on the patterns "
    "presented in the spectrogram. Do not let any assumptions about common sounds or environmental settings influence "
    "your decision. Here are the classes: {classes}. Your response must always contain the exact name of the class only. "
    "For example, if you believe the spectrogram matches best with {example}, your response would be {example}."
)
_PAPER_SOUND = (
    "Your task is to analyze an audio recording and determine the most likely sound class from a given list of "
    "possibilities. Analyze the recording, considering factors such as frequency patterns, intensity, and time "
    "variations. Focus solely on the patterns presented in the recording. Do not let any assumptions about common sounds "
    "or environmental settings influence your decision. Here are the classes: {classes}. Your response must always "
    "contain the exact name of the class only. For example, if you believe the recording matches best with {example}, "
    "your response would be {example}."
)
_ASSISTANT = "You are a helpful assistant with expertise in recognizing patterns and identifying classes based on "

PROMPTS: Mapping[str, Prompt] = MappingProxyType(
    {
        prompt.name: prompt
        for prompt in (
            Prompt(
                name="paper",
                version=1,
                image=(
                    Wording(
                        _PAPER,
                        _ASSISTANT + "visual representations of audio data.",
                        "First you are shown example spectrograms of each class, each with its class.",
                        "Here is the spectrogram:",
                    ),
                ),
                audio=(
                    Wording(
                        _PAPER_SOUND,
                        _ASSISTANT + "audio data.",
                        "First you are given example recordings of each class, each with its class.",
                        "Here is the recording:",
                    ),
                ),
                list_format="python",
                class_order=_PAPER_CLASSES,
                example="rain",
            ),
            Prompt(
                name="notebook",
                version=2,
                image=(
                    Wording(
                        "This is an image of a spectrogram. Which of the following classes does this spectrogram best "
                        "represent: {classes}\nYour response should be one word, the name of the class and nothing else.\n"
                    ),
                ),
                audio=(
                    Wording(
                        "This is an audio recording. Which of the following classes does this recording best represent: "
                        "{classes}\nYour response should be one word, the name of the class and nothing else.\n"
                    ),
                ),
                list_format="brackets",
                class_order=tuple(sorted(_PAPER_CLASSES)),
                media_first=True,
                preamble=True,
            ),
            Prompt(
                name="one_word",
                version=1,
                image=(
                    Wording(
                        "This is an image of a spectrogram. Which of the following classes does this spectrogram best "
                        "represent: {classes}. Your response should be one word, the name of the class and nothing else."
                    ),
                ),
                audio=(
                    Wording(
                        "This is an audio recording. Which of the following classes does this recording best represent: "
                        "{classes}. Your response should be one word, the name of the class and nothing else."
                    ),
                ),
                class_order=tuple(sorted(_PAPER_CLASSES)),
            ),
            Prompt(
                name="plain",
                version=1,
                image=(
                    Wording(
                        "Which sound does this spectrogram show? Choose one: {classes}. Answer with its name only."
                    ),
                    Wording("Name the sound in this spectrogram. It is one of: {classes}. Give only the name."),
                    Wording("Options: {classes}. Which of them made the sound in this spectrogram? One name, no more."),
                ),
                audio=(
                    Wording("Which sound is in this recording? Choose one: {classes}. Answer with its name only."),
                    Wording("Name the sound in this recording. It is one of: {classes}. Give only the name."),
                    Wording("Options: {classes}. Which of them made the sound in this recording? One name, no more."),
                ),
            ),
        )
    }
)
"""Prompts by name."""
