"""Dataset cards: names, licence, class names, annotations and overlaps with training data, without opening the dataset.

Code in other folders reads these cards and contains no names of datasets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple


def readable_label(label: str) -> str:
    """Return a label with spaces instead of `_` and `-`.

    >>> readable_label("sea_waves")
    'sea waves'
    """
    return label.replace("_", " ").replace("-", " ")


@dataclass(frozen=True)
class ClassName:
    """The names and the description of a class.

    Attributes:
        name: canonical name, the label of its clips.
        readable_name: the name with spaces instead of `_` and `-`.
        synonyms: lower-case words and phrases that mean this class and no other class of the dataset.
        description: one sentence that describes its sound, for zero-shot classification by text.
    """

    name: str
    readable_name: str
    synonyms: tuple[str, ...]
    description: str


class AnnotationRow(NamedTuple):
    """One label that an annotator gave to a clip.

    Attributes:
        line: line of the file, from 1.
        clip: name of the clip in the file, see `AnnotationFile.clip_name`.
        annotator: number of the annotator, from 1.
        label: canonical class name.
    """

    line: int
    clip: str
    annotator: int
    label: str


@dataclass(frozen=True)
class AnnotationFile:
    """A file of annotations that is published with a dataset.

    Attributes:
        file: path relative to the dataset's folder.
        url: where the file is published.
        read: reads the file; raises BadDataset for a file of another format.
        clip_name: path of a clip's recording (`Clip.file`) -> name of the clip in the file.
        setting: listening (annotators heard the audio) or reading (they saw images).
    """

    file: str
    url: str
    read: Callable[[Path], list[AnnotationRow]]
    clip_name: Callable[[str], str]
    setting: Literal["listening", "reading"] = "listening"

    @property
    def input(self) -> str:
        """What the annotators received, in the words of publications."""
        return "audio" if self.setting == "listening" else "spectrogram image"


@dataclass(frozen=True)
class DatasetCard:
    """Facts about a dataset.

    Attributes:
        title: full name.
        licence: of the recordings.
        url: home page.
        citation: BibTeX, or empty.
        download_bytes: size of the download, 0 if nothing is downloaded.
        folder_variable: environment variable with the folder of a local copy, or empty.
        classes: returns the names of its classes; called when they are first needed.
        published_name: name in publications, as in the column `dataset` of `published_results.csv`.
        collections: collections that contain its recordings, as model cards name them in `overlaps`; None: not known.
        annotations: name in a study file -> file of annotations.
        is_demonstration: whether results on it say nothing about real recordings.
    """

    title: str
    licence: str = ""
    url: str = ""
    citation: str = ""
    download_bytes: int = 0
    folder_variable: str = ""
    classes: Callable[[], tuple[ClassName, ...]] = tuple
    published_name: str = ""
    collections: tuple[str, ...] | None = None
    annotations: Mapping[str, AnnotationFile] = field(default_factory=dict)
    is_demonstration: bool = False
