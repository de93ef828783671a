"""Build questions from tables: the image or audio of each clip, under each control, after its examples, in each trial.

Belongs here: looking up images and audio, and the order of questions. Does not belong here: prompt texts (`prompts`), the
choice of examples (`examples`), sending (`asking`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.language_models.asking import Question
from vlm_audio_pipeline.classifiers.language_models.messages import (
    AudioPart,
    ImagePart,
    MediaType,
    MessagePart,
    Request,
    Sampling,
    Scoring,
)
from vlm_audio_pipeline.classifiers.language_models.prompts import Prompt, build_messages
from vlm_audio_pipeline.classifiers.language_models.trials import Trial
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset
from vlm_audio_pipeline.datasets.perturbation import Perturbation
from vlm_audio_pipeline.renderings.controls import choose_other_clip

NO_IMAGE = "no_image"
"""The control with the same text, but without the image or audio."""

Row = dict[str, Any]
Lookup = Callable[[str, str], MessagePart | None]
"""(control, clip id) -> the image or audio of the clip; None under the control `no_image`."""


def image_lookup(tables: Mapping[str, pa.Table], clips_of_control: Mapping[str, set[str]]) -> Lookup:
    """Return a lookup of images.

    Args:
        tables: control ("none" for the original images) -> `spectrograms` rows.
        clips_of_control: control -> ids of the clips to look up; only their images are kept in memory.

    Raises:
        VlmAudioError: raised by the lookup, if a clip has no image.
    """
    parts: dict[tuple[str, str], ImagePart] = {}
    for control, table in tables.items():
        rows = table.filter(pc.is_in(table["clip"], value_set=pa.array(sorted(clips_of_control[control]), pa.string())))
        columns = (rows[c].to_pylist() for c in ("clip", "image", "media_type", "image_sha256"))
        for clip, data, media_type, sha256 in zip(*columns, strict=True):
            parts[control, clip] = ImagePart(data, media_type, sha256)

    def lookup(control: str, clip: str) -> ImagePart | None:
        if control == NO_IMAGE:
            return None
        if (control, clip) not in parts:
            raise VlmAudioError(f"clip {clip} has no image under control {control}; run the rendering again")
        return parts[control, clip]

    return lookup


def audio_lookup(
    dataset: Dataset, clips: Sequence[Row], fold: int, perturbations: Sequence[Perturbation] = ()
) -> Lookup:
    """Return a lookup of audio. `blank` is digital silence of the clip's duration; `other_clip` is the same clip as for images.

    Args:
        dataset: loads the samples.
        clips: `clips` rows of every clip to look up.
        fold: the fold from which `other_clip` takes the other clip.
        perturbations: changes of the audio, by whose names changed audio is looked up.

    Raises:
        VlmAudioError: raised by the lookup, if the fold has no clip of another class and source recording.
    """
    rows = {clip["clip"]: clip for clip in clips}
    clips_of_fold = [clip for clip in clips if clip["fold"] == fold]

    changes = {change.name: change for change in perturbations}

    def audio(clip: Row, control: str) -> AudioPart:
        row = ClipRow.from_row(clip)
        recordings = (dataset.perturb(changes[control]) if control in changes else dataset).recordings
        sha256, files = recordings.content_sha256(row), recordings.files(row)
        return AudioPart(partial(recordings.samples, row), sha256, row.duration_s, files)

    def lookup(control: str, clip: str) -> AudioPart | None:
        if control == NO_IMAGE:
            return None
        row = rows[clip]
        if control == "blank":
            seconds = row["duration_s"]
            silence = fingerprint("silence", round(seconds, 6), length=64)
            return AudioPart(partial(_silence, seconds), silence, seconds)
        if control == "other_clip":
            other = choose_other_clip(row, clips_of_fold)
            if other is None:
                raise VlmAudioError(
                    f"control other_clip needs a clip of another class and source recording in fold {fold} for {clip}, but "
                    "the fold has none; remove the control or add clips"
                )
            row = other
        return audio(row, control)

    return lookup


def _silence(seconds: float, sample_rate_hz: int) -> np.ndarray:
    return np.zeros(max(1, round(seconds * sample_rate_hz)), np.float32)


@dataclass(frozen=True)
class QuestionBuilder:
    """Builds the questions of a classifier.

    Attributes:
        prompt: the prompt.
        input: whether the model gets images or audio.
        names: class -> its name in the prompt, in the order of the study.
        scorings: scorings to compute.
        controls: controls, in addition to the original image or audio.
        trials: passes over the clips.
        sampling: how text is generated; its seed is that of the first repeat.
        seed: seed of the class orders.
        repeats_differ: whether each repeat is a separate request (the response is sampled, or comes from an endpoint).
        answers: key -> the response whose likelihood is scored; None: the names of the classes.
    """

    prompt: Prompt
    input: MediaType
    names: Mapping[str, str]
    scorings: frozenset[Scoring]
    controls: tuple[str, ...]
    trials: tuple[Trial, ...]
    sampling: Sampling
    seed: int
    repeats_differ: bool
    answers: Mapping[str, str] | None = None

    def example_answer(self, example_label: str) -> str:
        """Return the response that an example shows, from the column `example_label`."""
        return self.names[example_label]

    def class_order(self, trial: Trial) -> tuple[str, ...]:
        """Return the classes in the order in which the prompt of a trial lists them."""
        return trial.order_classes(self.prompt.order_classes(tuple(self.names)), self.seed)

    def build(self, queries: Sequence[str], examples: Sequence[Row], lookup: Lookup) -> list[Question]:
        """Return every question, trial by trial, so that neighbouring requests share their examples.

        Args:
            queries: ids of the clips to classify.
            examples: `examples` rows, sorted by trial, query and position; none for zero-shot.
            lookup: returns the image or audio of a clip.

        Raises:
            VlmAudioError: if only some of the queries have examples.
        """
        by_query: dict[tuple[int, str], list[tuple[MessagePart, str]]] = {}  # (trial, query, or "" for all queries)
        for row in examples:
            part = lookup("none", row["clip"])
            assert part is not None, "only a control has no part"
            by_query.setdefault((row["trial"], row["query"]), []).append(
                (part, self.example_answer(row["example_label"]))
            )
        questions = []
        for trial in self.trials:
            for control in ("none", *self.controls):
                for clip in queries:
                    key = (trial.trial, "") if (trial.trial, "") in by_query else (trial.trial, clip)
                    if by_query and key not in by_query:
                        raise VlmAudioError(
                            f"clip {clip} has no examples in trial {trial.trial}; choose examples again"
                        )
                    questions.append(self.build_one(trial, control, clip, by_query.get(key, []), lookup))
        return questions

    def build_one(
        self, trial: Trial, control: str, clip: str, examples: Sequence[tuple[MessagePart, str]], lookup: Lookup
    ) -> Question:
        """Return the question about one clip.

        Args:
            trial: the pass over the clips.
            control: "none", or one of the controls.
            clip: id of the clip.
            examples: the image or audio of each example, and its response, such as the name of its class.
            lookup: returns the image or audio of the clip.
        """
        conversation = build_messages(
            self.prompt,
            [self.names[c] for c in self.class_order(trial)],
            examples,
            lookup(control, clip),
            wording=trial.wording,
            media=self.input,
        )
        seed = self.sampling.seed + trial.repeat if self.repeats_differ else 0
        if self.sampling.temperature > 0:
            # Each question has its own seed, because samples with the same seed would be correlated.
            content = [message.content() for message in conversation]
            seed = int(fingerprint("answer seed", seed, content, length=8), 16) >> 1  # 31 bits
        row_columns = {"clip": clip, "control": control, **vars(trial)}
        sampling = replace(self.sampling, seed=seed)
        answers = self.names if self.answers is None else self.answers
        request = Request(conversation, tuple(answers.values()), self.scorings, sampling, preamble=self.prompt.preamble)
        return Question(row_columns, request, tuple(answers))
