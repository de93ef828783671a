"""ESC-10: 400 clips of about 5 s, 10 classes, 5 official folds; downloaded (40 MB) if there is no local copy.

Two layouts are read: that of its own repository (`001 - Dog bark/1-100032-A.ogg`) and that of ESC-50.
Reference: https://github.com/karolpiczak/ESC-10; file names contain the fold, the Freesound id and the take.
"""

import os
import re
import tempfile
from pathlib import Path

from pydantic import field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.paths import expand_home
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.specs import StudyPath, excluded_from_fingerprint
from vlm_audio_pipeline.datasets.base import DATASETS, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.card import AnnotationFile, AnnotationRow, DatasetCard
from vlm_audio_pipeline.datasets.download import contents_digest, download, extract_zip
from vlm_audio_pipeline.datasets.esc50 import CITATION, LISTING, read_listing, select_classes
from vlm_audio_pipeline.datasets.esc_classes import ESC10, ESC10_FOLDERS, esc10_classes
from vlm_audio_pipeline.datasets.zip_files import check_members
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock

COMMIT = "553c8f1743b9dba6b282e1323c3ca8fa76923448"
ARCHIVE = f"https://github.com/karolpiczak/ESC-10/archive/{COMMIT}.zip"
CONTENTS_SHA256 = "a2e4e84b7a1f08e61d38bdcca4b947cc9919d1b275b3fb5ce1ad198d3640a458"
"""`download.contents_digest` of the 400 .ogg files of that commit. GitHub repacks archives at times, so the
checksum of the zip is not stable; this digest was computed from a copy of the repository with
`contents_digest(root, [c.file for c in legacy_listing(root)])`."""
MAX_SPREADSHEET_BYTES = 100_000_000
"""Largest unpacked size of the spreadsheet of annotations; it has 2 MB."""
HOME_PAGE = "https://github.com/karolpiczak/ESC-10"
FOLDS = (1, 2, 3, 4, 5)

_NAME = re.compile(r"(?P<fold>[1-9])-(?P<source>\d+)-(?P<take>[A-Z])\.(ogg|wav|flac|mp3)")


def clip_name_in_spreadsheet(file: str) -> str:
    """Return the name of a clip in the spreadsheet of annotations, which file names of both layouts begin with.

    >>> clip_name_in_spreadsheet("audio/1-100032-A-0.wav")
    '1-100032-A'
    """
    return "-".join(Path(file).stem.split("-")[:3])


def read_annotations(path: Path) -> list[AnnotationRow]:
    """Read the annotations by crowd workers that are published with ESC-10: a spreadsheet, sheet "Raw data".

    4,687 annotations of 321 clips by 135 annotators; 4,487 are correct. Annotators are numbered in the order of their
    ids; the ids themselves, locations and trust scores are not read.

    K. J. Piczak, ESC: Dataset for Environmental Sound Classification, https://doi.org/10.1145/2733373.2806390.

    Raises:
        BadDataset: for a file that is not this spreadsheet.
    """
    from zipfile import BadZipFile, ZipFile

    from openpyxl import load_workbook

    label_of_name = {folder.split(" - ", 1)[1]: label for folder, label in ESC10_FOLDERS.items()}
    columns = ("Recording", "Worker ID (anonymized)", "Worker prediction")
    try:
        with ZipFile(path) as zipped:  # a spreadsheet is a zip file
            check_members(path, zipped.infolist(), max_bytes=MAX_SPREADSHEET_BYTES)
        book = load_workbook(path, read_only=True)
        try:
            lines = book["Raw data"].iter_rows(values_only=True)
            header = [str(cell).replace("\n", " ") for cell in next(lines)]
            positions = [header.index(name) for name in columns]
            cells = [
                (line, *(row[i] for i in positions))
                for line, row in enumerate(lines, 2)
                if row[positions[0]] is not None
            ]
            rows = [(line, str(clip), int(worker), label_of_name[name]) for line, clip, worker, name in cells]
        finally:
            book.close()
    except (BadZipFile, KeyError, StopIteration, TypeError, ValueError) as error:
        raise BadDataset(
            f"{path} is not the spreadsheet of ESC-10, which has a sheet 'Raw data' with the columns {list(columns)}: "
            f"{error!r}; fetch it again from {HOME_PAGE.removeprefix('https://')}"
        ) from error
    annotator_number = {worker: i for i, worker in enumerate(sorted({worker for _, _, worker, _ in rows}), 1)}
    return [AnnotationRow(line, clip, annotator_number[worker], label) for line, clip, worker, label in rows]


@DATASETS.register("esc10")
class Esc10(DatasetSpec):
    """ESC-10: the copy at `path`, else in the folder that the environment variable ESC10_DIR names, else a download in the data folder."""

    card = DatasetCard(
        title="ESC-10: Dataset for Environmental Sound Classification",
        licence="CC BY 3.0 (some clips CC0; the README lists the author of each)",
        url=HOME_PAGE,
        citation=CITATION,
        download_bytes=40_000_000,
        folder_variable="ESC10_DIR",
        classes=esc10_classes,
        published_name="ESC-10",
        collections=("ESC-10", "ESC-50", "FreeSound"),
        annotations={
            "esc10_annotators": AnnotationFile(
                "ESC-10-HumanClassification.xlsx", HOME_PAGE, read_annotations, clip_name_in_spreadsheet
            )
        },
    )

    path: StudyPath | None = excluded_from_fingerprint(None)
    """A folder with the dataset, in the layout of ESC-10's repository or of ESC-50."""
    mirror: str | None = excluded_from_fingerprint(None)
    """Download the archive from this address instead of GitHub; it must have the same contents."""

    @field_validator("mirror")
    @classmethod
    def _check_address(cls, mirror: str | None) -> str | None:
        if mirror is not None and not mirror.startswith(("http://", "https://", "file://")):
            raise ValueError(
                f"mirror must begin with http://, https:// or file://, got '{mirror}'; give the archive's full address"
            )
        return mirror

    def folds(self, data_folder: DataFolder) -> tuple[int, ...]:
        """Return the folds of the local copy, or the five official folds."""
        root = self.root(data_folder)
        return FOLDS if self.download_size(data_folder) else tuple(sorted({c.fold for c in self._listing(root)[0]}))

    def download_size(self, data_folder: DataFolder) -> int:
        """Return about 40 MB, or 0 if there is a local copy."""
        return 0 if self._local_copy() or self.root(data_folder).exists() else self.card.download_bytes

    def open(self, data_folder: DataFolder, progress: Progress = no_progress) -> Dataset:
        """Read the listing; the dataset is downloaded if there is no local copy.

        Raises:
            BadDataset: for a folder with neither layout, and for a download that is not ESC-10.
            NotAvailable: if it cannot be downloaded.
        """
        root = self.root(data_folder)
        if self.download_size(data_folder):
            with file_lock(data_folder.lock("datasets/esc10")):
                if not root.exists():  # another process may have downloaded it while this one waited
                    _download_to(self.mirror or ARCHIVE, root, progress)
        clips, classes = self._listing(root)
        return Dataset(root, classes, clips, self.card, self.on_bad_clip)

    def root(self, data_folder: DataFolder) -> Path:
        """Return the folder of the dataset, which may not be downloaded yet."""
        return self._local_copy() or data_folder.datasets / "esc10"

    def _local_copy(self) -> Path | None:
        folder = os.environ.get(self.card.folder_variable)
        return self.path or (expand_home(folder) if folder else None)

    def _listing(self, root: Path) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        if (root / LISTING).is_file():
            clips, listing_classes = read_listing(root, only_esc10=True)
            classes = tuple(c for c in ESC10 if c in listing_classes) + tuple(
                c for c in listing_classes if c not in ESC10
            )
            return select_classes(clips, classes, self.classes)
        if any((root / folder).is_dir() for folder in ESC10_FOLDERS):
            clips, classes = select_classes(legacy_listing(root), ESC10, self.classes)
            empty = [
                f for f, label in ESC10_FOLDERS.items() if label in classes and label not in {c.label for c in clips}
            ]
            if empty:
                raise BadDataset(
                    f"ESC-10 in {root} has no recordings in the folders {empty}; "
                    f"complete the copy, or list the classes to use in `classes`"
                )
            return clips, classes
        raise BadDataset(
            f"ESC-10 must be a folder with '001 - Dog bark' to '010 - Fire crackling', or with {LISTING} and audio/, "
            f"got neither in {root}{'' if root.exists() else ', which does not exist'}; correct `path` or ESC10_DIR, "
            f"or leave both out to download it"
        )


def legacy_listing(root: Path) -> tuple[Clip, ...]:
    """List the recordings in the layout of ESC-10's own repository, sorted by id.

    Raises:
        BadDataset: for recordings without fold, Freesound id and take in their name.
    """
    clips, misnamed = [], []
    for folder, label in ESC10_FOLDERS.items():
        for path in sorted((root / folder).glob("[!.]*.*")):
            file = f"{folder}/{path.name}"
            if name := _NAME.fullmatch(path.name):
                take = {"take": name["take"]}
                clips.append(Clip(path.stem, label, int(name["fold"]), name["source"], file, extra=take))
            elif path.suffix.lower() in (".ogg", ".wav", ".flac", ".mp3"):
                misnamed.append(file)
    if misnamed:
        raise BadDataset(
            f"recordings of ESC-10 must be named <fold>-<Freesound id>-<take>.ogg such as 1-100032-A.ogg, "
            f"got {', '.join(misnamed)}; rename or remove them"
        )
    return tuple(sorted(clips, key=lambda c: c.id))


def _download_to(url: str, root: Path, progress: Progress) -> None:
    """Download and unpack the archive, compare its contents with the pinned digest and move it to `root`."""
    root.parent.mkdir(parents=True, exist_ok=True)
    archive = download(url, root.with_name(f"{root.name}.zip"), None, Esc10.card.download_bytes, progress)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as temporary:
            unpacked = Path(temporary)
            folders = [p for p in extract_zip(archive, unpacked / "archive").iterdir() if p.is_dir()]
            top = folders[0] if len(folders) == 1 else unpacked / "archive"  # GitHub's archives have one folder
            actual_sha256 = contents_digest(top, [c.file for c in legacy_listing(top)])
            if actual_sha256 != CONTENTS_SHA256:
                raise BadDataset(
                    f"the contents of {url} hash to {actual_sha256}, not to {CONTENTS_SHA256} (ESC-10 at commit "
                    f"{COMMIT[:12]}); they were deleted. Use another mirror, or set `path` to a copy that you trust"
                )
            os.replace(top, root)
    finally:
        archive.unlink(missing_ok=True)
