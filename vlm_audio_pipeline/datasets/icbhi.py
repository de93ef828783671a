"""ICBHI 2017 respiratory sound database: 920 recordings of 126 patients, 6,898 respiratory cycles in 4 classes; from a local copy.

Each cycle is a clip. Reference: https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge. Its score is the mean of sensitivity and
specificity; docs/sql.md has a query for it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.annotations.events import Event
from vlm_audio_pipeline.datasets.annotations.formats import read_annotations
from vlm_audio_pipeline.datasets.annotations.icbhi import LABELS
from vlm_audio_pipeline.datasets.annotations.tables import text_lines
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec, slug
from vlm_audio_pipeline.datasets.card import ClassName, DatasetCard, readable_label
from vlm_audio_pipeline.datasets.csv_reader import read_text
from vlm_audio_pipeline.datasets.cut_recordings import segment_id
from vlm_audio_pipeline.datasets.esc50 import select_classes
from vlm_audio_pipeline.datasets.folds import check_folds, fold_file_name, persistent_folds
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.storage.data_folder import DataFolder

AUDIO = "ICBHI_final_database"
SPLIT = "ICBHI_challenge_train_test.txt"
FOLDS = {"train": 1, "test": 2}
"""Official split -> fold."""
_NAME = re.compile(r"(?P<patient>\d{3})_(?P<index>\w+?)_(?P<location>[A-Z][a-z])_(?P<mode>sc|mc)_(?P<equipment>\w+)")


def icbhi_classes() -> tuple[ClassName, ...]:
    """Return the four classes of the challenge."""
    words = {
        "normal_breathing": (
            ("normal", "normal breath", "normal breath sounds", "healthy breathing"),
            "Normal breathing: soft, smooth noise that swells and fades, without clicks or tones.",
        ),
        "crackle": (
            ("crackles", "crackling"),
            "Breathing with crackles: short, explosive clicks over the noise of the breath.",
        ),
        "wheeze": (
            ("wheezes", "wheezing"),
            "Breathing with wheezes: long, musical tones over the noise of the breath.",
        ),
        "crackle_and_wheeze": (
            ("both", "crackles and wheezes", "wheeze and crackle", "wheezes and crackles"),
            "Breathing with both: short clicks, and long musical tones.",
        ),
    }
    return tuple(ClassName(label, readable_label(label), *words[label]) for label in LABELS.values())


@DATASETS.register("icbhi")
class Icbhi(DatasetSpec):
    """The ICBHI 2017 respiratory sound database from a local copy (2 GB; its card has the address): each respiratory cycle is a clip.

    The published protocol trains on fold 1 and tests on fold 2 of the official split: write `folds: [2]` in the classifiers.
    """

    card = DatasetCard(
        title="ICBHI 2017 Challenge: Respiratory Sound Database",
        licence="free for research (see the page of the challenge)",
        url="https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge",
        citation="""@inproceedings{rocha2018respiratory,
  title = {A Respiratory Sound Database for the Development of Automated Classification},
  author = {Rocha, B. M. and Filos, D. and Mendes, L. and Vogiatzis, I. and Perantoni, E. and Kaimakamis, E. and Natsiavas, P. and
    Oliveira, A. and J{\\'a}come, C. and Marques, A. and Paiva, R. P. and Chouvarda, I. and Carvalho, P. and Maglaveras, N.},
  booktitle = {Precision Medicine Powered by {pHealth} and Connected Health},
  year = {2018},
  doi = {10.1007/978-981-10-7419-6_6},
  publisher = {Springer}
}""",
        classes=icbhi_classes,
        collections=("ICBHI",),
    )

    path: StudyPath = excluded_from_fingerprint()
    """Folder with the recordings and their annotation files, or with the folder `ICBHI_final_database`."""
    split: Literal["official", "patients"] = "official"
    """Folds: the official split, in a file `ICBHI_challenge_train_test.txt`; or assigned, so that a patient is in one fold."""
    n_folds: int = Field(5, ge=2)
    """Number of folds to assign with `split: patients`."""
    seed: int = 0
    """Seed for the choice between equally good folds."""

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:
        """Recognise the folder of the dataset by its name, its split or the names of its recordings."""
        folder = path if path.is_dir() else path.parent
        root = folder.parent if folder.name == AUDIO else folder
        audio = root / AUDIO if (root / AUDIO).is_dir() else root
        if not any(_NAME.fullmatch(p.stem) for p in islice(audio.glob("*.wav"), 3)):
            return None
        is_official = any((p / SPLIT).is_file() for p in (root, audio))
        notes = {
            "path": cls.card.title,
            "split": "official: fold 1 train, 2 test; patients: assigned, each patient in one fold",
        }
        return DatasetGuess({"path": root, "split": "official" if is_official else "patients"}, notes)

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds; reads annotation files and no recording."""
        return tuple(sorted({clip.fold for clip in self._listing(data_folder, save=False)[0]}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the annotation files. The source of a cycle is its patient.

        Two patients of the official split have recordings in both parts. Their recordings in each part count as another source.

        Raises:
            BadDataset: for a folder without this layout, and for annotation files that cannot be read.
        """
        clips, classes = self._listing(data_folder, save=True)
        events: dict[str, list[Event]] = defaultdict(list)
        for clip in clips:  # each is a respiratory cycle with its times
            if clip.start_s is not None and clip.end_s is not None:
                events[clip.file].append(Event(clip.file, clip.start_s, clip.end_s, clip.label))
        return Dataset(self.path, classes, clips, self.card, self.on_bad_clip, events=dict(events))

    def _listing(self, data_folder: DataFolder, *, save: bool) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        rows = list(self._cycles())
        if self.split == "official":
            placed = self._official_folds({name for name, _, _ in rows})
        else:
            inputs = [(segment_id(name, e.start_s, e.end_s), e.label, name[:3]) for name, _, e in rows]
            file_name = fold_file_name(
                f"icbhi_{slug(self.path.resolve().name)}", self.path, "patient", self.n_folds, self.seed
            )
            folds = persistent_folds(data_folder, file_name, inputs, self.n_folds, self.seed, save=save)
            placed = {name: (folds[name[:3]], name[:3]) for name, _, _ in rows}
        clips = []
        for name, file, event in rows:
            match = _NAME.fullmatch(name)
            assert match is not None
            extra = {"chest_location": match["location"], "equipment": match["equipment"]}
            clip_id = segment_id(name, event.start_s, event.end_s)
            clips.append(Clip(clip_id, event.label, *placed[name], file, event.start_s, event.end_s, extra))
        check_folds(((c.id, c.label, c.source, c.fold) for c in clips), str(self.path))
        present = {clip.label for clip in clips}
        classes = tuple(label for label in LABELS.values() if label in present)
        return select_classes(sorted(clips, key=lambda clip: clip.id), classes, self.classes)

    def _cycles(self) -> Iterator[tuple[str, str, Event]]:
        """Yield each respiratory cycle with the name of its recording and its file."""
        folder = self.path / AUDIO if (self.path / AUDIO).is_dir() else self.path
        recordings = sorted(folder.glob("*.wav"))
        if not recordings:
            raise BadDataset(f"{folder} contains no WAV files, so it is not the database of ICBHI 2017; correct `path`")
        for path in recordings:
            if not _NAME.fullmatch(path.stem):
                raise BadDataset(
                    f"{path} must be named <patient>_<index>_<location>_<mode>_<equipment>.wav, such as 101_1b1_Al_sc_Meditron.wav; "
                    "rename or remove it"
                )
            annotation = path.with_suffix(".txt")
            if not annotation.is_file():
                raise BadDataset(f"{annotation} does not exist; complete the copy, or remove the recording")
            for event in read_annotations(annotation, "icbhi").events:
                yield path.stem, path.relative_to(self.path).as_posix(), event

    def _official_folds(self, names: set[str]) -> dict[str, tuple[int, str]]:
        """Return fold and source of each recording."""
        path = next((p for p in (self.path / SPLIT, self.path / AUDIO / SPLIT) if p.is_file()), None)
        if path is None:
            raise BadDataset(
                f"{self.path} has no {SPLIT}, the official split; download it from {self.card.url}, or set `split: patients` to assign folds"
            )
        parts: dict[str, str] = {}
        for number, line in text_lines(read_text(path)):
            cells = line.split()
            if len(cells) != 2 or cells[1] not in FOLDS:
                raise BadDataset(
                    f"{path}, line {number}: a line must have a recording and train or test, got '{line[:80]}'; correct it"
                )
            parts[cells[0]] = cells[1]
        if missing := sorted(names - parts.keys()):
            raise BadDataset(
                f"{path} must name every recording, but {missing[0]} and {len(missing) - 1} others are missing; complete it"
            )
        parts_of_patient: dict[str, set[str]] = defaultdict(set)
        for name in names:
            parts_of_patient[name[:3]].add(parts[name])
        return {
            name: (FOLDS[parts[name]], f"{name[:3]} {parts[name]}" if len(parts_of_patient[name[:3]]) > 1 else name[:3])
            for name in names
        }
