"""Write a report to disk, as a folder or as one HTML file.

A page that is opened from disk may not fetch files. The data are therefore scripts: separate files in a folder, loaded
on demand, or elements of a single file that the browser does not execute (https://html.spec.whatwg.org/#data-block).
"""

import base64
import glob
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import escape_json_values
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.storage.atomic import atomic_path, delete

META_NAME = "vlm-audio-report"
"""Name of the `meta` element by which an earlier report is recognised."""
DATA_PLACEHOLDER = "<!-- embedded data -->"
"""Position of the data in a single file. Text on the page is escaped, so it never equals this comment."""
ABANDONED_S = 86400
"""Age in s after which the temporary files of a killed process are deleted."""


@dataclass(frozen=True)
class ReportFormat:
    """The content and limits of one form of the report.

    Attributes:
        name: name of the form; the page's scripts read it.
        max_clips: largest number of clips that have images and audio.
        max_side: longest side of an image, pixels; None: images are copied unchanged.
        max_sample_rate_hz: highest sample rate of audio, Hz.
        mp3_compression: libsndfile's compression level for MP3, 0 to 1.
        copies_audio: whether recordings that a browser can play are copied unchanged.
        max_scores: number of highest scores of a prediction; the score of the true class is always included.
        max_reasoning_chars: reasoning of a language model is cut after this many characters; None: it is complete.
    """

    name: str
    max_clips: int
    max_side: int | None
    max_sample_rate_hz: int
    mp3_compression: float
    copies_audio: bool
    max_scores: int
    max_reasoning_chars: int | None


FOLDER = ReportFormat(
    name="folder",
    max_clips=2000,
    max_side=None,
    max_sample_rate_hz=48000,
    mp3_compression=0.5,
    copies_audio=True,
    max_scores=12,
    max_reasoning_chars=None,
)
"""All predictions, and images exactly as the models received them, of at most 2,000 clips, balanced over the classes. The page says so."""
SINGLE_FILE = ReportFormat(
    name="single file",
    max_clips=200,
    max_side=224,
    max_sample_rate_hz=16000,
    mp3_compression=0.8,
    copies_audio=False,
    max_scores=5,
    max_reasoning_chars=2000,
)
"""At most 200 clips, balanced over the classes, with thumbnails and compressed audio. The page states the size."""


def as_script(value: Any) -> str:
    r"""Return a value as JSON that is safe inside a `script` element: without `<`, which could end the element.

    >>> print(as_script({"response": "</script>"}))
    {"response":"\u003c/script>"}
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if "\\" in text or "\x7f" in text or not text.isascii():  # JSON escapes every ASCII control code but DEL
        text = json.dumps(escape_json_values(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class ReportWriter(ABC):
    """Write the data, media and page of a report. Use it as a context manager; an unfinished report is deleted.

    Attributes:
        format: the content and limits of this form of the report.
        out: the folder or file to write.
        media_bytes: bytes of images and audio written so far, as they are stored.
    """

    format: ClassVar[ReportFormat]

    def __init__(self, out: Path):
        self.out = out
        self.media_bytes = 0
        self._media: set[str] = set()
        self._temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")

    def __enter__(self) -> "ReportWriter":
        delete(self._temporary)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        for path in self.out.parent.glob(f".{glob.escape(self.out.name)}.*.tmp"):  # of processes that were killed
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                delete(path)
        try:
            self._open()
        except BaseException:
            delete(self._temporary)
            raise
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            error.filename = str(self.out)  # an error of `write`, which knows no name
        try:
            self._close()
        finally:
            delete(self._temporary)

    def write_data(self, key: str, rows: Iterable[Any]) -> None:
        """Write rows that the page loads on demand.

        Args:
            key: letters, digits and `-`, unique within the report.
            rows: plain values; they are written one by one and never all in memory.
        """
        with self._data_file(key) as file:
            file.write("[")
            for i, row in enumerate(rows):
                file.write((",\n" if i else "") + as_script(row))
            file.write("]")

    def write_media(self, stem: str, media_type: str, content: bytes) -> str:
        """Write an image or audio file, unless a file of this name was written before.

        Args:
            stem: name without suffix; the same for the same content.
            media_type: a key of `SUFFIX`.
            content: the file.

        Returns:
            Its name on the page.
        """
        name = f"{stem}{SUFFIX[media_type]}"
        if name not in self._media:
            self._media.add(name)
            self.media_bytes += self._store(name, media_type, content)
        return name

    @abstractmethod
    def finish(self, page: str) -> Path:
        """Write the page, move the report into place, and return the file to open."""

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _data_file(self, key: str) -> AbstractContextManager[TextIO]: ...

    @abstractmethod
    def _store(self, name: str, media_type: str, content: bytes) -> int: ...


class FolderWriter(ReportWriter):
    """Write a folder with `index.html`, `data/*.js` and `media/*`. It replaces an earlier report, and nothing else."""

    format = FOLDER

    def _open(self) -> None:
        if self.out.exists() and not self._is_replaceable():
            raise VlmAudioError(
                f"a report's folder must be new, empty or hold an earlier report, but {self.out} has other content; "
                "choose another folder"
            )
        for name in ("data", "media"):
            (self._temporary / name).mkdir(parents=True)

    def _is_replaceable(self) -> bool:
        if not self.out.is_dir():
            return False
        index = self.out / "index.html"
        return not any(self.out.iterdir()) or (index.is_file() and _is_report(index))

    def _close(self) -> None:
        pass

    @contextmanager
    def _data_file(self, key: str) -> Iterator[TextIO]:
        with (self._temporary / "data" / f"{key}.js").open("w", encoding="utf-8") as file:
            file.write(f"vlmAudio.receive({as_script(key)},")
            yield file
            file.write(");\n")

    def _store(self, name: str, media_type: str, content: bytes) -> int:
        (self._temporary / "media" / name).write_bytes(content)
        return len(content)

    def finish(self, page: str) -> Path:
        """Write `index.html` and replace the folder."""
        (self._temporary / "index.html").write_text(page.replace(DATA_PLACEHOLDER, ""), encoding="utf-8")
        earlier = self._temporary.with_suffix(".earlier.tmp")
        if self.out.exists():
            os.replace(self.out, earlier)
        os.replace(self._temporary, self.out)
        delete(earlier)
        return self.out / "index.html"


class SingleFileWriter(ReportWriter):
    """Write one HTML file that embeds data, images and audio, the media as base64."""

    format = SINGLE_FILE

    def _open(self) -> None:
        if self.out.is_dir():
            raise VlmAudioError(f"a single-file report needs a file name, but {self.out} is a folder; add a file name")
        if self.out.exists() and self.out.stat().st_size and not _is_report(self.out):
            raise VlmAudioError(
                f"a report's file must be new or an earlier report, but {self.out} is another file; choose another name"
            )
        self._file = self._temporary.open("w+", encoding="utf-8")

    def _close(self) -> None:
        with suppress(OSError):  # on a full disk the buffer cannot be written; its error was raised before
            self._file.close()

    @contextmanager
    def _data_file(self, key: str) -> Iterator[TextIO]:
        self._file.write(f'<script type="application/json" id="data-{key}">')
        yield self._file
        self._file.write("</script>\n")

    def _store(self, name: str, media_type: str, content: bytes) -> int:
        text = base64.b64encode(content).decode()
        return self._file.write(
            f'<script type="text/plain" id="media-{name}">data:{media_type};base64,{text}</script>\n'
        )

    def finish(self, page: str) -> Path:
        """Write the page with its data, and replace the file."""
        head, _, tail = page.partition(DATA_PLACEHOLDER)
        self._file.seek(0)
        with atomic_path(self.out) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(head)
            shutil.copyfileobj(self._file, file)
            file.write(tail)
        return self.out


def _is_report(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as text:
        return META_NAME in text.read(2000)
