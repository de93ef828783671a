"""ESC-50: 2,000 clips of 5 s, 50 classes, 5 official folds; also the reader of its layout, which a copy of ESC-10 can have too.

Reference: https://github.com/karolpiczak/ESC-50 (`meta/esc50.csv` and `audio/*.wav`, 44.1 kHz mono).
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.esc_classes import esc50_classes
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.storage.data_folder import DataFolder

LISTING = "meta/esc50.csv"
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")

CITATION = """@inproceedings{piczak2015dataset,
  title = {{ESC}: {Dataset} for {Environmental Sound Classification}},
  author = {Piczak, Karol J.},
  booktitle = {Proceedings of the 23rd {Annual ACM Conference} on {Multimedia}},
  date = {2015-10-13},
  url = {http://dl.acm.org/citation.cfm?doid=2733373.2806390},
  doi = {10.1145/2733373.2806390},
  location = {{Brisbane, Australia}},
  isbn = {978-1-4503-3459-4},
  publisher = {{ACM Press}},
  pages = {1015--1018}
}"""


@DATASETS.register("esc50")
class Esc50(DatasetSpec):
    """ESC-50 from a local copy: a folder with `meta/esc50.csv` and `audio/` (650 MB; its card has the address)."""

    card = DatasetCard(
        title="ESC-50: Dataset for Environmental Sound Classification",
        licence="CC BY-NC 3.0 (single clips differ: see LICENSE in the repository)",
        url="https://github.com/karolpiczak/ESC-50",
        citation=CITATION,
        classes=esc50_classes,
        published_name="ESC-50",
        collections=("ESC-50", "FreeSound"),
    )

    path: StudyPath = excluded_from_fingerprint()
    """Folder of the dataset."""
    only_esc10: bool = False
    """Use only the 400 clips of the 10 classes that ESC-10 has."""

    @classmethod
    def recognise(cls, path: Path) -> DatasetGuess | None:
        """Recognise the folder of the dataset."""
        return DatasetGuess({"path": path}, {"path": cls.card.title}) if (path / LISTING).is_file() else None

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds of the listing."""
        return tuple(sorted({c.fold for c in self._listing()[0]}))

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the listing.

        Raises:
            BadDataset: for a folder without this layout, and for a listing that cannot be used.
        """
        clips, classes = self._listing()
        return Dataset(self.path, classes, clips, self.card, self.on_bad_clip)

    def _listing(self) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        if not (self.path / LISTING).is_file():
            raise BadDataset(f"{self.path} has no {LISTING}, so it is not ESC-50; correct `path`")
        clips, classes = read_listing(self.path, self.only_esc10)
        return select_classes(clips, classes, self.classes)


def read_listing(root: Path, only_esc10: bool) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    """Read `meta/esc50.csv`.

    Args:
        root: the dataset's folder.
        only_esc10: list only the clips of ESC-10.

    Returns:
        The clips sorted by id, and the classes in the order of their targets.

    Raises:
        BadDataset: for missing columns, invalid rows and a file that is not text.
    """
    path = root / LISTING
    clips: list[Clip] = []
    targets: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            header = list(rows.fieldnames or ())
            missing = [c for c in COLUMNS if c not in header]
            if missing:
                raise BadDataset(
                    f"{path} must have the columns {', '.join(COLUMNS)}, got {', '.join(header) or 'none'}; "
                    f"add {', '.join(missing)}"
                )
            for row in rows:
                location = f"{path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise BadDataset(f"{location}: a row must have {len(header)} values; correct it")
                label, fold = row["category"], _whole_number(row, "fold", location)
                if targets.setdefault(label, _whole_number(row, "target", location)) != _whole_number(
                    row, "target", location
                ):
                    raise BadDataset(
                        f"{location}: 'target' of {label} must be {targets[label]} as above, got {row['target']}"
                    )
                if row["esc10"].strip().lower() not in ("true", "false"):
                    raise BadDataset(f"{location}: 'esc10' must be True or False, got {row['esc10']!r}; correct it")
                if only_esc10 and row["esc10"].strip().lower() != "true":
                    continue
                file_name = f"audio/{row['filename']}"
                stem = Path(row["filename"]).stem
                clips.append(Clip(stem, label, fold, row["src_file"], file_name, extra={"take": row["take"]}))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataset(f"{path} is not a CSV file in UTF-8: {error}; download it again") from error
    labels = {c.label for c in clips}
    classes = tuple(sorted(labels, key=lambda label: (targets[label], label)))
    return tuple(sorted(clips, key=lambda c: c.id)), classes


def _whole_number(row: dict[str, str], column: str, location: str) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise BadDataset(f"{location}: '{column}' must be a whole number, got {row[column]!r}; correct it") from None


def select_classes(
    clips: Sequence[Clip], classes: tuple[str, ...], names: tuple[str, ...] | None
) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    """Select the clips of the named classes, and refuse clips of a single fold.

    Args:
        clips: all clips.
        classes: classes of the dataset, in its order.
        names: classes to select, in the order to return; None for all.

    Returns:
        The clips of these classes, in their order, and the classes.

    Raises:
        BadDataset: for a class that the dataset does not have, and for clips of one fold only.
    """
    names = classes if names is None else names
    for label in names:
        if label not in classes:
            raise BadDataset(f"`classes` must be classes of the dataset, got {label!r}; {suggestion(label, classes)}")
    selected = tuple(c for c in clips if c.label in names)
    if len(folds := {c.fold for c in selected}) == 1:
        raise BadDataset(
            f"folds must be at least two, got only {sorted(folds)}: there would be no training clips; "
            "complete the copy, or name other classes in `classes`"
        )
    return selected, names
