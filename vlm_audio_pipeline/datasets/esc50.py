"""ESC-50: 2,000 clips of 5 s, 50 classes, 5 official folds; also the reader of its layout, which ESC-10 can have too.

Reference: https://github.com/karolpiczak/ESC-50 (`meta/esc50.csv` and `audio/*.wav`, 44.1 kHz mono).
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.specs import StudyPath, not_identity
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.storage.layout import Layout

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

CARD = Card(
    title="ESC-50: Dataset for Environmental Sound Classification",
    licence="CC BY-NC 3.0 (single clips differ: see LICENSE in the repository)",
    url="https://github.com/karolpiczak/ESC-50",
    citation=CITATION,
)


@DATASETS.register("esc50")
class Esc50(DatasetSpec):
    """ESC-50 from a local copy: a folder with `meta/esc50.csv` and `audio/` (650 MB; its card says where from)."""

    path: StudyPath = not_identity()
    """The folder."""
    only_esc10: bool = False
    """Use only the 400 clips of the 10 classes that ESC-10 has."""

    def folds(self, layout: Layout) -> tuple[int, ...]:
        """Give the folds that the listing has."""
        return tuple(sorted({c.fold for c in self._listing()[0]}))

    def to_download(self, layout: Layout) -> int:
        """Nothing is downloaded."""
        return 0

    def open(self, layout: Layout, progress: Progress = silent) -> Dataset:
        """Give the listing.

        Raises:
            BadDataset: when the folder does not have the layout, or the listing cannot be used.
        """
        clips, classes = self._listing()
        return Dataset(self.path, classes, clips, CARD, self.on_bad_clip)

    def _listing(self) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        if not (self.path / LISTING).is_file():
            raise BadDataset(f"ESC-50 must have {LISTING} and audio/, got neither in {self.path}; correct `path`")
        clips, classes = read_listing(self.path, self.only_esc10)
        return only_classes(clips, classes, self.classes)


def read_listing(root: Path, only_esc10: bool) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    """Read `meta/esc50.csv`.

    Args:
        root: folder that has it.
        only_esc10: leave out what is not of ESC-10.

    Returns:
        The clips sorted by id, and the classes in the order of their targets.

    Raises:
        BadDataset: for missing columns, rows that cannot be read and a file that is not text.
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
                where = f"{path}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise BadDataset(f"{where}: a row must have {len(header)} values; correct it")
                label, fold = row["category"], _whole(row, "fold", where)
                if targets.setdefault(label, _whole(row, "target", where)) != _whole(row, "target", where):
                    raise BadDataset(
                        f"{where}: 'target' of {label} must be {targets[label]} as above, got {row['target']}"
                    )
                if row["esc10"].strip().lower() not in ("true", "false"):
                    raise BadDataset(f"{where}: 'esc10' must be True or False, got {row['esc10']!r}; correct it")
                if only_esc10 and row["esc10"].strip().lower() != "true":
                    continue
                file_name = f"audio/{row['filename']}"
                stem = Path(row["filename"]).stem
                clips.append(Clip(stem, label, fold, row["src_file"], file_name, kept={"take": row["take"]}))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataset(f"{path} must be a csv file in UTF-8, got: {error}; get it anew") from error
    labels = {c.label for c in clips}
    classes = tuple(sorted(labels, key=lambda label: (targets[label], label)))
    return tuple(sorted(clips, key=lambda c: c.id)), classes


def _whole(row: dict[str, str], column: str, where: str) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise BadDataset(f"{where}: '{column}' must be a whole number, got {row[column]!r}; correct it") from None


def only_classes(
    clips: Sequence[Clip], classes: tuple[str, ...], wanted: tuple[str, ...] | None
) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    """Keep the clips of some classes, and refuse a single fold.

    Args:
        clips: all of them.
        classes: of the dataset, in its order.
        wanted: those to keep, in the order wanted; None for all.

    Returns:
        The clips kept, in their order, and their classes.

    Raises:
        BadDataset: for a class that the dataset does not have, or clips of one fold only.
    """
    wanted = classes if wanted is None else wanted
    for label in wanted:
        if label not in classes:
            raise BadDataset(f"`classes` must be of the dataset, got {label!r}; {suggestion(label, classes)}")
    kept = tuple(c for c in clips if c.label in wanted)
    if len(folds := {c.fold for c in kept}) == 1:
        raise BadDataset(
            f"folds must be at least two, got only {sorted(folds)}: nothing would be left to learn from; "
            "complete the copy, or name other classes in `classes`"
        )
    return kept, wanted
