"""A temporary study of one encoder or classifier, with the recordings that a caller gives as its dataset.

It runs the same steps as a study of a study file, so its results equal those of a study with the same clips and settings.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from vlm_audio_pipeline.api.recordings import RecordingFile
from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.contracts.errors import BadClips, BadStudy, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.datasets.audio import BadAudio
from vlm_audio_pipeline.datasets.base import Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.inspection import inspect
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.engines import map_ordered
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.in_memory import compute_in_memory
from vlm_audio_pipeline.planning.opening import find_study
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.entries import read_spec
from vlm_audio_pipeline.studies.mistakes import Mistakes
from vlm_audio_pipeline.studies.study import Study, section_spec_classes

FOLD = 1
"""All recordings are in this fold."""
UNLABELLED = ("unlabelled",)
"""The classes of recordings that are not classified."""


class RecordingsSpec(DatasetSpec):
    """Recordings without labels, in one fold. A study file cannot name this dataset: it is not registered."""

    kind: ClassVar[str] = "recordings"
    card: ClassVar[DatasetCard] = DatasetCard("recordings given in Python")

    name: str | None = "recordings"
    files: tuple[Path, ...]
    """The recordings, in the caller's order."""

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the only fold."""
        return (FOLD,)

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """List the recordings; their ids sort in the caller's order. The label, the first class, is only a placeholder."""
        classes = self.classes or UNLABELLED
        files = [str(path.absolute()) for path in self.files]
        clips = [Clip(f"{i:09d}", classes[0], FOLD, f"{i:09d}", file) for i, file in enumerate(files)]
        return Dataset(Path("/"), classes, tuple(clips), self.card)


@dataclass(frozen=True)
class Parts:
    """The parts of a study that compute one result.

    Attributes:
        renderings: by name.
        encoders: by name.
        classifiers: by name.
        study: the study that they come from; None for parts that are described in Python.
    """

    renderings: Mapping[str, Recipe]
    encoders: Mapping[str, EncoderSpec]
    classifiers: Mapping[str, ClassifierSpec]
    study: Study | None = None

    def graph(
        self, files: Sequence[RecordingFile], data_folder: DataFolder, classes: Sequence[str] | None = None
    ) -> Graph:
        """Return the graph of a study with these parts and the recordings as its dataset.

        Args:
            files: the recordings.
            data_folder: the data folder with the result store.
            classes: the classes to choose among; None: the recordings are not classified.

        Raises:
            BadClips: if there are no recordings.
            BadStudy: for fewer than two classes, and for parts that do not fit together.
        """
        if not files:
            raise BadClips("there are no recordings; give at least one")
        mistakes = Mistakes(None)
        values = {
            "files": tuple(f.path for f in files),
            "classes": classes if classes is None else _class_list(classes),
        }
        dataset = mistakes.validate(RecordingsSpec, values, ())
        mistakes.raise_all()
        assert dataset is not None
        budget = None if self.study is None else self.study.budget  # the study's own ledger pays
        return Graph(
            Study(
                name="python" if self.study is None else self.study.name,
                dataset=dataset,
                renderings=self.renderings,
                encoders=self.encoders,
                classifiers=self.classifiers,
                budget=None if budget is None else drop_lower_priority(budget, self.classifiers),
            ),
            data_folder,
        )


def drop_lower_priority(budget: Budget, classifiers: Collection[str]) -> Budget:
    """Return a budget whose `first` has only the classifiers before these.

    So the ledger keeps the money that those may still need, and does not replace the stored needs of these classifiers, which are
    those of the study's clips, by the needs for a few recordings.
    """
    first = tuple(takewhile(lambda name: name not in classifiers, budget.first))
    return budget.model_copy(update={"first": first})


def _class_list(classes: Sequence[str]) -> Any:
    return classes if isinstance(classes, str) else list(classes)


def study_parts(study: str | Path, data_folder: DataFolder) -> Parts:
    """Return the parts of a study; see `planning.opening.find_study`."""
    source = find_study(study, data_folder)
    return Parts(source.renderings, source.encoders, source.classifiers, source)


def described_spec(section: str, name: str, values: Mapping[str, Any]) -> Any:
    """Return the spec of an entry that is described in Python, with the keys of a study file.

    Raises:
        BadStudy: for mistakes; lists all of them.
    """
    mistakes = Mistakes(None)
    spec = read_spec(section_spec_classes(section), values, (section, name), mistakes)
    mistakes.raise_all()
    return spec


def refuse_settings(study: str | Path, settings: Mapping[str, Any]) -> None:
    """Refuse settings if the caller names an entry of a study, which has its own.

    Raises:
        BadStudy: if there are settings.
    """
    if settings:
        raise BadStudy(
            f"{', '.join(settings)} must be set in the study, got both `study={str(study)!r}` and {', '.join(settings)}; "
            "change the study, or leave out `study`"
        )


def find_part(section: str, name: str, parts: Mapping[str, Any], study: Study) -> Any:
    """Return an entry of a study.

    Raises:
        VlmAudioError: if there is none.
    """
    if name not in parts:
        raise VlmAudioError(f"'{name}' must be one of the {section} of {study.name}; {suggestion(name, parts)}")
    return parts[name]


@contextmanager
def open_data(data: str | Path | None) -> Iterator[DataFolder]:
    """Create a data folder if it does not exist; during the block, VLM_AUDIO_DATA tells processes in isolated environments its path."""
    data_folder = DataFolder.locate(data).create()
    before = os.environ.get("VLM_AUDIO_DATA")
    os.environ["VLM_AUDIO_DATA"] = str(data_folder.root)
    try:
        yield data_folder
    finally:
        if before is None:
            del os.environ["VLM_AUDIO_DATA"]
        else:
            os.environ["VLM_AUDIO_DATA"] = before


def compute(graph: Graph, step: str, files: Sequence[RecordingFile]) -> pa.Table:
    """Compute the first table of a step for the recordings; its rows are in the caller's order. A terminal shows the progress."""
    with progress_bars(step) as display:
        return compute_in_memory(graph, step, FOLD, {"clips": clip_table(graph, files)}, display.progress)


def clip_table(graph: Graph, files: Sequence[RecordingFile]) -> pa.Table:
    """Decode and measure the recordings: rows of `clips`; see `measure_recordings`."""
    rows = [
        {"clip": c.id, "label": c.label, "source": c.source, "file": c.file, "extra": [], **json.loads(measured)}
        for c, measured in zip(graph.dataset().clips, measure_recordings(files), strict=True)
    ]
    schema = pa.schema([field for field in TABLES["clips"].arrow if field.name not in ("study", "fold")])
    return TABLES["clips"].conform(pa.Table.from_pylist(rows, schema), study=graph.study.name, fold=FOLD)


def measure_recordings(files: Sequence[RecordingFile]) -> list[bytes]:
    """Decode and measure the recordings; see `datasets.inspection.inspect`.

    Raises:
        BadClips: if some cannot be used; lists all of them, with the names that the caller gave.
    """

    def measure(file: RecordingFile) -> bytes | BadAudio:
        try:
            return inspect(file.path)
        except BadAudio as error:
            return BadAudio(error.reason, Path(file.name))

    results = map_ordered(measure, files, no_progress)
    errors = [result for result in results if isinstance(result, BadAudio)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BadClips(
            f"{len(errors)} of {len(files)} recordings cannot be used:" + "".join(f"\n  {error}" for error in errors)
        )
    return [result for result in results if isinstance(result, bytes)]
