"""UrbanSound8K: 8,732 clips of at most 4 s, 10 classes, 10 official folds; from a local copy.

Reference: https://urbansounddataset.weebly.com/urbansound8k.html (`metadata/UrbanSound8K.csv` and `audio/fold1` to `audio/fold10`).
"""

from functools import cache
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.annotations.formats import read_annotations
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.card import ClassName, DatasetCard, readable_label
from vlm_audio_pipeline.datasets.esc50 import select_classes
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.storage.data_folder import DataFolder

LISTING = "metadata/UrbanSound8K.csv"

_DESCRIPTIONS = {
    "air_conditioner": "An air conditioner hums and hisses steadily, as broadband noise with low harmonics.",
    "children_playing": "Children shout, laugh and talk at play, in many short high voices.",
    "dog_bark": "A dog barks in short, sharp, harmonic bursts with abrupt onsets.",
    "drilling": "A drill whines with a steady, rough, harmonic tone that changes under load.",
    "engine_idling": "An engine idles with a low, regular, pulsating rumble.",
    "gun_shot": "A gun fires: a loud impulse with an abrupt onset and a short decay.",
    "jackhammer": "A jackhammer strikes rapidly and regularly, as a train of broadband impulses.",
    "street_music": "Music is played in a street, with melody, rhythm and voices over noise.",
}
LABELS = (
    "air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling", "engine_idling", "gun_shot", "jackhammer", "siren",
    "street_music",
)  # fmt: skip
"""The classes, in the order of their ids 0 to 9."""


@cache
def urbansound8k_classes() -> tuple[ClassName, ...]:
    """Return the classes that only this dataset has. `car_horn` and `siren` are on the card of ESC-50.

    They have no synonyms, and no card has all ten classes, so that no synonym counts in a study of this dataset: a response such as
    "children" or "honking" names a sound, but no class.
    """
    return tuple(ClassName(label, readable_label(label), (), text) for label, text in _DESCRIPTIONS.items())


@DATASETS.register("urbansound8k")
class UrbanSound8K(DatasetSpec):
    """UrbanSound8K from a local copy: a folder with `metadata/UrbanSound8K.csv` and `audio/` (6 GB; its card has the address)."""

    card = DatasetCard(
        title="UrbanSound8K",
        licence="CC BY-NC 3.0",
        url="https://urbansounddataset.weebly.com/urbansound8k.html",
        citation="""@inproceedings{salamon2014dataset,
  title = {A Dataset and Taxonomy for Urban Sound Research},
  author = {Salamon, Justin and Jacoby, Christopher and Bello, Juan Pablo},
  booktitle = {Proceedings of the 22nd {ACM} International Conference on Multimedia},
  year = {2014},
  doi = {10.1145/2647868.2655045},
  pages = {1041--1044}
}""",
        classes=urbansound8k_classes,
        collections=("UrbanSound8K", "FreeSound"),
    )

    path: StudyPath = excluded_from_fingerprint()
    """Folder of the dataset."""

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:
        """Recognise the folder of the dataset, and its listing."""
        root = path.parent.parent if path.name == Path(LISTING).name else path
        return DatasetGuess({"path": root}, {"path": cls.card.title}) if (root / LISTING).is_file() else None

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the official folds."""
        return tuple(sorted({clip.fold for clip in self._listing()[0]}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the listing. The source of a clip is its recording on Freesound, so that its slices count as one.

        Raises:
            BadDataset: for a folder without this layout, and for a listing that cannot be used.
        """
        clips, classes = self._listing()
        return Dataset(self.path, classes, clips, self.card, self.on_bad_clip)

    def _listing(self) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        if not (self.path / LISTING).is_file():
            raise BadDataset(f"{self.path} has no {LISTING}, so it is not UrbanSound8K; correct `path`")
        clips = []
        for row in read_annotations(self.path / LISTING, "urbansound8k").clips:
            [label] = row.labels
            if label not in LABELS:
                raise BadDataset(
                    f"{row.origin}: the class must be one of {', '.join(LABELS)}, got '{label}'; correct it"
                )
            assert row.fold is not None
            clips.append(Clip(Path(row.recording).stem, label, row.fold, row.source, f"audio/{row.recording}"))
        present = {clip.label for clip in clips}
        return select_classes(
            sorted(clips, key=lambda clip: clip.id), tuple(label for label in LABELS if label in present), self.classes
        )
