"""The protocol of a classifier: how it is run, in the terms in which publications describe an experiment.

Belongs here: the values that a classifier's settings determine. Does not belong here: published protocols, and the
comparison with them (`evaluation`).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """How a classifier is run. A value that does not apply to its kind is None.

    Attributes:
        setting: zero-shot, few-shot, linear probe, k-NN, listening (annotators of audio), reading (annotators of images), ...
        input: audio or spectrogram image; None: not recorded.
        model: model id; for annotators, the name of the file with their annotations.
        prompt: name of the prompt, or its text; for a zero-shot classifier its templates.
        label_form: raw, human or description.
        shots: number of examples of each class.
        examples: how the examples are selected.
        decoding: how text is generated; it does not apply to likelihoods.
        trials: number of passes over the clips.
        number_format: of a language model on this machine: bfloat16, float32, or auto.
        audio: how the audio is prepared before an audio model.
        rendering: name of the rendering in the study.
    """

    setting: str
    input: str | None = None
    model: str | None = None
    prompt: str | None = None
    label_form: str | None = None
    shots: int | None = None
    examples: str | None = None
    decoding: str | None = None
    trials: int | None = None
    number_format: str | None = None
    audio: str | None = None
    rendering: str | None = None
