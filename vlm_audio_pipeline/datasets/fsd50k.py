"""FSD50K: 51,197 clips of 0.3 to 30 s, 200 classes of the AudioSet ontology, several of them for each clip; from a local copy.

Reference: https://doi.org/10.5281/zenodo.4060432 (`FSD50K.ground_truth`, `FSD50K.dev_audio`, `FSD50K.eval_audio`).
"""

from collections.abc import Mapping
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.annotations.events import LabelledClip
from vlm_audio_pipeline.datasets.annotations.formats import read_annotations
from vlm_audio_pipeline.datasets.annotations.tables import text_lines
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, label_text, omit_single_labels
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.csv_reader import read_text
from vlm_audio_pipeline.datasets.folds import check_folds
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.storage.data_folder import DataFolder

GROUND_TRUTH = {"dev": "FSD50K.ground_truth/dev.csv", "eval": "FSD50K.ground_truth/eval.csv"}
AUDIO = {"dev": "FSD50K.dev_audio", "eval": "FSD50K.eval_audio"}
VOCABULARY = "FSD50K.ground_truth/vocabulary.csv"
FOLDS = {"dev": {"train": 1, "val": 2}, "eval": {"eval": 3}}
"""Part -> official split -> fold."""


@DATASETS.register("fsd50k")
class Fsd50k(DatasetSpec):
    """FSD50K from a local copy (30 GB; its card has the address). Folds are the official splits: 1 train, 2 validation, 3 evaluation.

    The published protocol evaluates on fold 3 only: write `folds: [3]` in the classifiers.
    """

    card = DatasetCard(
        title="FSD50K: an Open Dataset of Human-Labeled Sound Events",
        licence="CC BY 4.0 as a whole; each clip CC0, CC BY, CC BY-NC or CC Sampling+ (see its metadata)",
        url="https://doi.org/10.5281/zenodo.4060432",
        citation="""@article{fonseca2022fsd50k,
  title = {{FSD50K}: an Open Dataset of Human-Labeled Sound Events},
  author = {Fonseca, Eduardo and Favory, Xavier and Pons, Jordi and Font, Frederic and Serra, Xavier},
  journal = {IEEE/ACM Transactions on Audio, Speech, and Language Processing},
  volume = {30},
  pages = {829--852},
  year = {2022},
  doi = {10.1109/TASLP.2021.3133208}
}""",
        collections=("FSD50K", "FreeSound"),
    )

    path: StudyPath = excluded_from_fingerprint()
    """Folder with the folders `FSD50K.ground_truth`, `FSD50K.dev_audio` and `FSD50K.eval_audio`."""
    several_labels: bool = True
    """Keep clips with several of the classes; false leaves them out."""

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:
        """Recognise the folder of the dataset, and its ground truth."""
        root = next((p for p in (path, path.parent, path.parent.parent) if (p / GROUND_TRUTH["dev"]).is_file()), None)
        note = "only clips with one label; in `classes`, name classes that are no parts of each other"
        return (
            DatasetGuess({"path": root, "several_labels": False}, {"path": cls.card.title, "several_labels": note})
            if root
            else None
        )

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds of the listings."""
        return tuple(sorted({clip.fold for clip in self._clips()[0]}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the ground truth.

        Raises:
            BadDataset: for a folder without this layout, and for labels outside the vocabulary.
        """
        clips, classes = self._clips()
        rows = ((c.id, name, c.source, c.fold) for c in clips for name in c.class_names)
        check_folds(rows, str(self.path / GROUND_TRUTH["dev"]))
        return Dataset(self.path, classes, tuple(clips), self.card, self.on_bad_clip)

    def _clips(self) -> tuple[list[Clip], tuple[str, ...]]:
        """Return the clips that have one of the classes, and the classes."""
        vocabulary = self._vocabulary()
        clips = []
        for part, file in GROUND_TRUTH.items():
            if not (self.path / file).is_file():
                raise BadDataset(
                    f"{self.path} has no {file}, so it is not FSD50K; correct `path`, or unpack the ground truth"
                )
            for row in read_annotations(self.path / file, "fsd50k").clips:
                names = self._selected_labels(row, vocabulary)
                if not names or (len(names) > 1 and not self.several_labels):
                    continue
                clips.append(
                    Clip(
                        row.recording,
                        label_text(names),
                        _fold(row, part),
                        row.recording,
                        f"{AUDIO[part]}/{row.recording}.wav",
                        labels=names,
                    )
                )
        clips = omit_single_labels(clips)
        present = {name for clip in clips for name in clip.class_names}
        for name in self.classes or ():
            if name not in present:
                raise BadDataset(
                    f"`classes` must be classes of the dataset, got '{name}'; {suggestion(name, vocabulary or present)}"
                )
        classes = self.classes or tuple(name for name in vocabulary or sorted(present) if name in present)
        return sorted(clips, key=lambda clip: clip.id), classes

    def _selected_labels(self, row: LabelledClip, vocabulary: Mapping[str, int]) -> tuple[str, ...]:
        for name in row.labels:
            if vocabulary and name not in vocabulary:
                raise BadDataset(
                    f"{row.origin}, column 'labels': '{name}' is not in {VOCABULARY}; {suggestion(name, vocabulary)}"
                )
        return tuple(name for name in row.labels if self.classes is None or name in self.classes)

    def _vocabulary(self) -> dict[str, int]:
        """Return the classes and their positions; empty without the file."""
        path: Path = self.path / VOCABULARY
        if not path.is_file():
            return {}
        rows = [(number, line.split(",")) for number, line in text_lines(read_text(path))]
        for number, cells in rows:
            if len(cells) != 3:
                raise BadDataset(
                    f"{path}, line {number}: a line must have a number, a class and a machine id, got {len(cells)} cells; correct it"
                )
        return {cells[1].strip(): position for position, (_, cells) in enumerate(rows)}


def _fold(row: LabelledClip, part: str) -> int:
    """Return the fold of a clip; a split of the other part would mix the evaluation with the training clips, so it is refused."""
    if row.split not in FOLDS[part]:
        raise BadDataset(
            f"{row.origin}, column 'split': the split must be {' or '.join(FOLDS[part])}, got '{row.split}'; correct it"
        )
    return FOLDS[part][row.split]
