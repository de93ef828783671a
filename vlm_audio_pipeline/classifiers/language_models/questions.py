"""From tables to questions: what each clip is shown as, under which control, after which examples, in which trial.

What belongs here: looking up pictures and sounds, and putting prompt, examples and query together in an order in which
neighbours share long beginnings. What does not: wording (`prompts`), choosing examples (`examples`), asking (`asking`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.language_models.asking import Question
from vlm_audio_pipeline.classifiers.language_models.messages import Part, Picture, Request, Sampling, Scoring, Sound
from vlm_audio_pipeline.classifiers.language_models.prompts import Prompt, Shown, messages
from vlm_audio_pipeline.classifiers.language_models.trials import Trial
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.renderings.controls import other_clip

NO_IMAGE = "no_image"
"""The control that shows nothing: the same words without the picture, or without the sound."""

Row = dict[str, Any]
Lookup = Callable[[str, str], Part | None]
"""(control, clip id) -> what is shown of the clip; None where nothing is."""


def pictures(tables: Mapping[str, pa.Table], needed: Mapping[str, set[str]]) -> Lookup:
    """Look up clips as pictures.

    Args:
        tables: control ("none" for the real ones) -> `spectrograms` rows.
        needed: control -> ids of clips that will be shown; only these are held.

    Raises:
        VlmAudioError: when a picture is not there.
    """
    held: dict[tuple[str, str], Picture] = {}
    for control, table in tables.items():
        wanted = table.filter(pc.is_in(table["clip"], value_set=pa.array(sorted(needed[control]), pa.string())))
        columns = (wanted[c].to_pylist() for c in ("clip", "picture", "media_type", "picture_sha256"))
        for clip, data, media_type, sha256 in zip(*columns, strict=True):
            held[control, clip] = Picture(data, media_type, sha256)

    def look(control: str, clip: str) -> Picture | None:
        if control == NO_IMAGE:
            return None
        if (control, clip) not in held:
            raise VlmAudioError(f"clip {clip} must have a picture under control {control}; run the rendering again")
        return held[control, clip]

    return look


def sounds(dataset: Dataset, clips: Sequence[Row], fold: int) -> Lookup:
    """Look up clips as sounds. `blank` is digital silence of the clip's length, `other_clip` as for pictures.

    Args:
        dataset: gives the samples.
        clips: `clips` rows of every clip that may be shown.
        fold: whose clips `other_clip` chooses among.

    Raises:
        VlmAudioError: when a fold has no clip of another class and source.
    """
    rows = {clip["clip"]: clip for clip in clips}
    here = [clip for clip in clips if clip["fold"] == fold]

    def sound(clip: Row) -> Sound:
        def load(rate_hz: int) -> np.ndarray:
            return dataset.load(clip["file"], rate_hz, clip["start_s"], clip["end_s"], clip["samples_sha256"])

        return Sound(load, clip["samples_sha256"], clip["duration_s"])

    def look(control: str, clip: str) -> Sound | None:
        if control == NO_IMAGE:
            return None
        row = rows[clip]
        if control == "blank":
            seconds = row["duration_s"]
            silence = fingerprint("silence", round(seconds, 6), length=64)
            return Sound(lambda rate_hz: np.zeros(max(1, round(seconds * rate_hz)), np.float32), silence, seconds)
        if control == "other_clip":
            other = other_clip(row, here)
            if other is None:
                raise VlmAudioError(
                    f"control other_clip must have a clip of another class and source in fold {fold} for {clip}, got "
                    "none; leave the control out or add clips"
                )
            row = other
        return sound(row)

    return look


@dataclass(frozen=True)
class Form:
    """What all questions of a classifier have in common.

    Attributes:
        prompt: how it asks.
        shown: whether it shows pictures or sounds.
        names: what each class is called, by class, in the study's order.
        wants: scorings.
        controls: beside the real thing.
        trials: passes.
        sampling: how answers are generated; its seed is that of the first repetition.
        seed: of class orders.
        repeats_differ: whether a repetition of the same request is another request (sampled, or an endpoint's).
    """

    prompt: Prompt
    shown: Shown
    names: Mapping[str, str]
    wants: frozenset[Scoring]
    controls: tuple[str, ...]
    trials: tuple[Trial, ...]
    sampling: Sampling
    seed: int
    repeats_differ: bool

    def order(self, trial: Trial) -> tuple[str, ...]:
        """Give the classes in the order in which a trial's prompt lists them."""
        return trial.ordered(self.prompt.ordered(tuple(self.names)), self.seed)

    def questions(self, queries: Sequence[str], examples: Sequence[Row], look: Lookup) -> list[Question]:
        """Put every question: trial by trial, so that neighbours share their examples.

        Args:
            queries: ids of the clips asked about.
            examples: `examples` rows, sorted by trial, query and position; none for zero-shot.
            look: gives what is shown.

        Raises:
            VlmAudioError: for a query without examples, where others have some.
        """
        shown: dict[tuple[int, str], list[tuple[Part, str]]] = {}
        for row in examples:
            part = look("none", row["clip"])
            assert part is not None, "only a control shows nothing"
            shown.setdefault((row["trial"], row["query"]), []).append((part, self.names[row["shown_label"]]))
        made = []
        for trial in self.trials:
            for control in ("none", *self.controls):
                for clip in queries:
                    which = (trial.trial, "") if (trial.trial, "") in shown else (trial.trial, clip)
                    if shown and which not in shown:
                        raise VlmAudioError(f"clip {clip} must have examples in trial {trial.trial}; choose them again")
                    made.append(self._question(trial, control, clip, shown.get(which, []), look))
        return made

    def _question(
        self, trial: Trial, control: str, clip: str, examples: Sequence[tuple[Part, str]], look: Lookup
    ) -> Question:
        said = messages(
            self.prompt,
            [self.names[c] for c in self.order(trial)],
            examples,
            look(control, clip),
            wording=trial.wording,
            shown=self.shown,
        )
        seed = self.sampling.seed + trial.repeat if self.repeats_differ else 0
        if self.sampling.temperature > 0:  # each question its own draws: with one seed all would be lucky together
            seed = int(fingerprint("answer seed", seed, [m.content() for m in said], length=8), 16) >> 1  # 31 bits
        place = {"clip": clip, "control": control, **vars(trial)}
        request = Request(said, tuple(self.names.values()), self.wants, replace(self.sampling, seed=seed))
        return Question(place, request, tuple(self.names))
