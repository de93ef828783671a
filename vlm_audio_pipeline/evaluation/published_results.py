"""Published results and their publications, read from `published_results.csv` and `publications.yaml`.

A published number is not changed. If it is taken from a secondary publication, its note says so. An empty cell of a
protocol column means that the publication does not state it; "-" means that it does not apply.

Belongs here: reading the two files. Does not belong here: the comparison with measured results (`published`).
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from vlm_audio_pipeline.contracts.errors import BadStudy, suggestion
from vlm_audio_pipeline.contracts.hashing import digest

NOT_STATED = ""
NOT_APPLICABLE = "-"


@dataclass(frozen=True)
class Publication:
    """A paper or repository.

    Attributes:
        title: its title.
        url: its address.
        date: day of its first public version.
        bibtex: its BibTeX entry; the key is the name in the column `publication`.
    """

    title: str
    url: str
    date: date
    bibtex: str


@dataclass(frozen=True)
class PublishedResult:
    """One published number with its protocol; the columns of `published_results.csv`.

    Attributes:
        publication: key of the publication.
        system: the system as the publication names it.
        family: vlm, human, audio-lm, clap, classical or embedding.
        input: audio, or spectrogram image.
        setting: zero-shot, few-shot, supervised, linear probe, listening or reading.
        variant: the variant of an ablation; empty without one.
        dataset: name of the dataset.
        split: clips that the number covers: 5-fold, fold 1, all clips, ...
        metric: accuracy.
        value: share of 1.
        decimals: decimals of the share as it was printed: 3 for 72.7 %.
        clips: number of distinct clips.
        total: denominator of the share: clips, or annotations; None if it is not stated.
        model: exact model id; for annotators, the file with their annotations.
        prompt: name of the prompt of this project with the same text, or the text.
        label_form: raw or human.
        shots: number of examples of each class.
        examples: how they were selected.
        scoring: score, likelihood, generation or annotation.
        decoding: how text was generated.
        trials: number of passes over the clips.
        number_format: number format of a language model on the machine of the publication.
        audio: how the audio was changed before an audio model received it.
        files: format of the audio files: wav or ogg. The copies of ESC-10 differ: ESC-50 has WAV files, ESC-10's own repository OGG.
        preset: preset of this project that reconstructs the image.
        preset_fields: fields of the preset that the publication states, separated by spaces; or "all".
        note: remark on the number.
    """

    publication: str
    system: str
    family: str
    input: str
    setting: str
    variant: str
    dataset: str
    split: str
    metric: str
    value: float
    decimals: int
    clips: int
    total: int | None
    model: str
    prompt: str
    label_form: str
    shots: str
    examples: str
    scoring: str
    decoding: str
    trials: str
    number_format: str
    audio: str
    files: str
    preset: str
    preset_fields: str
    note: str

    @property
    def name(self) -> str:
        """Its name in `reproduces`: `publication/system`."""
        return f"{self.publication}/{self.system}"

    def integer_counts(self) -> list[int]:
        """Return every number of correct predictions k for which k / total has the printed value; empty without a total.

        The half unit of the last printed decimal is included, because publications round a half up, down or to even.
        """
        if self.total is None:
            return []
        nearest = round(self.value * self.total)
        half_unit = 0.5 * 10**-self.decimals + 1e-9
        return [k for k in range(nearest - 2, nearest + 3) if abs(k / self.total - self.value) <= half_unit]


def _read_text(name: str) -> str:
    return files("vlm_audio_pipeline.evaluation").joinpath(name).read_text(encoding="utf-8")


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Read every published result."""
    rows = csv.DictReader(_read_text("published_results.csv").splitlines())
    return tuple(
        PublishedResult(**{f.name: _cell_value(f.name, row[f.name]) for f in fields(PublishedResult)}) for row in rows
    )


def _cell_value(name: str, text: str) -> Any:
    if name == "value":
        return float(text)
    if name in ("decimals", "clips", "total"):
        return int(text) if text else None
    return text


@cache
def publications() -> Mapping[str, Publication]:
    """Read every publication, by its key."""
    import yaml

    values = yaml.safe_load(_read_text("publications.yaml"))
    return MappingProxyType({key: Publication(**value) for key, value in values.items()})


def results_version() -> str:
    """Return a hash of the published results, which makes the table stale when they change."""
    return digest(_read_text("published_results.csv").encode(), _read_text("publications.yaml").encode())


def check_reproduces(classifier: str, reproduces: str) -> None:
    """Refuse a `reproduces` that names no published result.

    Raises:
        BadStudy: with the most similar name and all names.
    """
    names = {r.name for r in published_results()}
    if reproduces not in names:
        raise BadStudy(
            f"classifiers.{classifier}.reproduces: must name a published result as publication/system, got "
            f"'{reproduces}'; {suggestion(reproduces, names)}"
        )
