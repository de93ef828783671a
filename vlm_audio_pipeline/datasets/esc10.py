"""ESC-10: 400 clips of about 5 s, 10 classes, 5 official folds; downloaded (40 MB) unless a copy is pointed to.

Two layouts are read: that of its own repository (`001 - Dog bark/1-100032-A.ogg`) and that of ESC-50.
Reference: https://github.com/karolpiczak/ESC-10; the file names say fold, Freesound id and take.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock
from pydantic import field_validator

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.paths import expanded
from vlm_audio_pipeline.contracts.specs import StudyPath, not_identity
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.base import DATASETS, Card, Clip, Dataset, DatasetSpec
from vlm_audio_pipeline.datasets.download import contents_digest, download, extract_zip
from vlm_audio_pipeline.datasets.esc50 import CITATION, LISTING, only_classes, read_listing
from vlm_audio_pipeline.datasets.esc_classes import ESC10, LEGACY_FOLDERS
from vlm_audio_pipeline.storage.layout import Layout

COMMIT = "553c8f1743b9dba6b282e1323c3ca8fa76923448"
ARCHIVE = f"https://github.com/karolpiczak/ESC-10/archive/{COMMIT}.zip"
CONTENTS_SHA256 = "a2e4e84b7a1f08e61d38bdcca4b947cc9919d1b275b3fb5ce1ad198d3640a458"
"""`download.contents_digest` of the 400 .ogg files of that commit. GitHub packs archives anew at times, so the zip has
no checksum to rely on; this one was computed from a copy of the repository with
`contents_digest(root, [c.file for c in legacy_listing(root)])`."""
FOLDS = (1, 2, 3, 4, 5)

CARD = Card(
    title="ESC-10: Dataset for Environmental Sound Classification",
    licence="CC BY 3.0 (some clips CC0; the README lists the author of each)",
    url="https://github.com/karolpiczak/ESC-10",
    citation=CITATION,
    download_bytes=40_000_000,
)

_NAME = re.compile(r"(?P<fold>[1-9])-(?P<source>\d+)-(?P<take>[A-Z])\.(ogg|wav|flac|mp3)")


@DATASETS.register("esc10")
class Esc10(DatasetSpec):
    """ESC-10: the copy at `path`, else at the environment variable ESC10_DIR, else a download in the data folder."""

    path: StudyPath | None = not_identity(None)
    """A folder with the dataset, in the layout of ESC-10's repository or of ESC-50."""
    mirror: str | None = not_identity(None)
    """Download the archive from this address instead of GitHub; its contents must be the same."""

    @field_validator("mirror")
    @classmethod
    def _an_address(cls, mirror: str | None) -> str | None:
        if mirror is not None and not mirror.startswith(("http://", "https://", "file://")):
            raise ValueError(
                f"mirror must begin with http://, https:// or file://, got '{mirror}'; give the archive's full address"
            )
        return mirror

    def folds(self, layout: Layout) -> tuple[int, ...]:
        """Give the folds: those of the copy that is here, or the five that are published."""
        root = self.root(layout)
        return FOLDS if self.to_download(layout) else tuple(sorted({c.fold for c in self._listing(root)[0]}))

    def to_download(self, layout: Layout) -> int:
        """About 40 MB, or 0 where a copy is here or pointed to."""
        return 0 if self._pointed_to() or self.root(layout).exists() else CARD.download_bytes

    def open(self, layout: Layout, progress: Progress = silent) -> Dataset:
        """Give the listing, downloading the dataset where there is no copy.

        Raises:
            BadDataset: when the folder has neither layout, or what was downloaded is not ESC-10.
            NotAvailable: when it cannot be downloaded.
        """
        root = self.root(layout)
        if self.to_download(layout):
            lock = layout.lock("datasets/esc10")
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if not root.exists():  # else another process was faster
                    _fetch(self.mirror or ARCHIVE, root, progress)
        clips, classes = self._listing(root)
        return Dataset(root, classes, clips, CARD, self.on_bad_clip)

    def root(self, layout: Layout) -> Path:
        """Give the folder the dataset lies in, or will lie in once downloaded."""
        return self._pointed_to() or layout.datasets / "esc10"

    def _pointed_to(self) -> Path | None:
        given = os.environ.get("ESC10_DIR")
        return self.path or (expanded(given) if given else None)

    def _listing(self, root: Path) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
        wanted = self.classes
        if (root / LISTING).is_file():
            clips, found = read_listing(root, only_esc10=True)
            classes = tuple(c for c in ESC10 if c in found) + tuple(c for c in found if c not in ESC10)
            return only_classes(clips, classes, wanted)
        if any((root / folder).is_dir() for folder in LEGACY_FOLDERS):
            clips, classes = only_classes(legacy_listing(root), ESC10, wanted)
            empty = [
                f for f, label in LEGACY_FOLDERS.items() if label in classes and label not in {c.label for c in clips}
            ]
            if empty:
                raise BadDataset(
                    f"ESC-10 in {root} must have recordings in each of its folders, got none in {empty}; "
                    f"complete the copy, or name the classes to use in `classes`"
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
        BadDataset: for recordings whose name does not say fold, Freesound id and take.
    """
    clips, strange = [], []
    for folder, label in LEGACY_FOLDERS.items():
        for path in sorted((root / folder).glob("[!.]*.*")):
            file = f"{folder}/{path.name}"
            if name := _NAME.fullmatch(path.name):
                take = {"take": name["take"]}
                clips.append(Clip(path.stem, label, int(name["fold"]), name["source"], file, kept=take))
            elif path.suffix.lower() in (".ogg", ".wav", ".flac", ".mp3"):
                strange.append(file)
    if strange:
        raise BadDataset(
            f"recordings of ESC-10 must be named <fold>-<Freesound id>-<take>.ogg such as 1-100032-A.ogg, "
            f"got {', '.join(strange)}; rename or remove them"
        )
    return tuple(sorted(clips, key=lambda c: c.id))


def _fetch(url: str, root: Path, progress: Progress) -> None:
    """Download, unpack, compare with the pinned contents, move into place."""
    root.parent.mkdir(parents=True, exist_ok=True)
    archive = download(url, root.with_name(f"{root.name}.zip"), None, CARD.download_bytes, progress)
    unpacked = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        inside = [p for p in extract_zip(archive, unpacked / "archive").iterdir() if p.is_dir()]
        top = inside[0] if len(inside) == 1 else unpacked / "archive"  # GitHub's archives have one folder
        got = contents_digest(top, [c.file for c in legacy_listing(top)])
        if got != CONTENTS_SHA256:
            raise BadDataset(
                f"what {url} holds must hash to {CONTENTS_SHA256} (ESC-10 at commit {COMMIT[:12]}), got {got}; it was "
                f"deleted: use another mirror, or point `path` to a copy that you trust"
            )
        os.replace(top, root)
    finally:
        archive.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)
