"""Where a report is written: a folder, or one file that carries everything.

What belongs here: how texts, pictures and sounds reach the page from disk. What does not: what they are.
A page opened from disk may not fetch, so data come as scripts: in files of their own in a folder, loaded when wanted,
or as elements of the page that the browser does not run (https://html.spec.whatwg.org/#data-block).
Both are written beside their place under a hidden name and moved there whole.
"""

import base64
import glob
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.media_types import SUFFIX

MARK = "vlm-audio-report"
"""Name of the `meta` element by which a report is known as one of ours."""
EMBEDDED = "<!-- embedded data -->"
"""Where in the page a single file carries its data. Text on the page is escaped, so none can look like it."""
ABANDONED_S = 86400
"""Age after which what a killed process left half written beside a report is taken away."""


def as_script(value: Any) -> str:
    r"""Write a value as JSON that may stand inside a `script` element: no `<`, which could end it.

    >>> print(as_script({"answer": "</script>"}))
    {"answer":"\u003c/script>"}
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class Place(ABC):
    """A report being written. Use as a context: what is left unfinished is taken away.

    Attributes:
        out: the folder or file it becomes.
        carried: bytes of data and media so far.
    """

    kind: str

    def __init__(self, out: Path):
        self.out = out
        self.carried = 0
        self._media: set[str] = set()
        self._hidden = out.with_name(f".{out.name}.{os.getpid()}.tmp")

    def __enter__(self) -> "Place":
        self._clear()
        self.out.parent.mkdir(parents=True, exist_ok=True)
        for left in self.out.parent.glob(f".{glob.escape(self.out.name)}.*.tmp"):  # by processes that were killed
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                _remove(left)
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._clear()

    def chunk(self, key: str, rows: Iterable[Any]) -> None:
        """Write rows that the page loads when it wants them.

        Args:
            key: letters, digits and `-`, unique within the report.
            rows: plain values, of any number: never in memory all at once.
        """
        with self._data(key) as file:
            file.write("[")
            for i, row in enumerate(rows):
                text = (",\n" if i else "") + as_script(row)
                file.write(text)
                self.carried += len(text.encode())
            file.write("]")

    def media(self, stem: str, media_type: str, content: bytes) -> str:
        """Keep a picture or sound; what was kept under this name before is not kept again.

        Args:
            stem: its name without suffix, the same for the same content.
            media_type: a key of `SUFFIX`.
            content: the file.

        Returns:
            Its name on the page.
        """
        name = f"{stem}{SUFFIX[media_type]}"
        if name not in self._media:
            self._media.add(name)
            self.carried += self._keep(name, media_type, content)
        return name

    @abstractmethod
    def finish(self, page: str) -> Path:
        """Write the page itself and put everything in place; gives what to open."""

    @abstractmethod
    def _open(self) -> None: ...

    @abstractmethod
    def _close(self) -> None: ...

    @abstractmethod
    def _clear(self) -> None: ...

    @abstractmethod
    def _data(self, key: str) -> Any: ...

    @abstractmethod
    def _keep(self, name: str, media_type: str, content: bytes) -> int: ...


class Folder(Place):
    """A folder with `index.html`, `data/*.js` and `media/*`. An earlier report there is replaced, nothing else."""

    kind = "folder"

    def _open(self) -> None:
        if self.out.exists() and not self._ours():
            raise VlmAudioError(
                f"the folder of a report must be new, empty or hold an earlier report, got {self.out} with other "
                "things in it; name another"
            )
        for name in ("data", "media"):
            (self._hidden / name).mkdir(parents=True)

    def _ours(self) -> bool:
        if not self.out.is_dir():
            return False
        index = self.out / "index.html"
        return not any(self.out.iterdir()) or (index.is_file() and _is_report(index))

    def _close(self) -> None:
        pass

    def _clear(self) -> None:
        _remove(self._hidden)

    @contextmanager
    def _data(self, key: str) -> Iterator[TextIO]:
        with (self._hidden / "data" / f"{key}.js").open("w", encoding="utf-8") as file:
            file.write(f"vlmAudio.take({as_script(key)},")
            yield file
            file.write(");\n")

    def _keep(self, name: str, media_type: str, content: bytes) -> int:
        (self._hidden / "media" / name).write_bytes(content)
        return len(content)

    def finish(self, page: str) -> Path:
        """Write `index.html` and swap the folder in."""
        (self._hidden / "index.html").write_text(page.replace(EMBEDDED, ""), encoding="utf-8")
        earlier = self._hidden.with_suffix(".earlier.tmp")
        if self.out.exists():
            os.replace(self.out, earlier)
        os.replace(self._hidden, self.out)
        _remove(earlier)
        return self.out / "index.html"


class SingleFile(Place):
    """One HTML file; pictures and sounds are in it as base64."""

    kind = "single file"

    def _open(self) -> None:
        if self.out.is_dir():
            raise VlmAudioError(f"a report in a single file must be given a file name, got the folder {self.out}")
        if self.out.exists() and self.out.stat().st_size and not _is_report(self.out):
            raise VlmAudioError(
                f"the file of a report must be new or an earlier report, got {self.out}, which is something else; name another"
            )
        self._file = self._hidden.open("w+", encoding="utf-8")

    def _close(self) -> None:
        self._file.close()

    def _clear(self) -> None:
        for path in (self._hidden, self._whole):
            _remove(path)

    @property
    def _whole(self) -> Path:
        return self._hidden.with_suffix(".whole.tmp")

    @contextmanager
    def _data(self, key: str) -> Iterator[TextIO]:
        self._file.write(f'<script type="application/json" id="data-{key}">')
        yield self._file
        self._file.write("</script>\n")

    def _keep(self, name: str, media_type: str, content: bytes) -> int:
        text = base64.b64encode(content).decode()
        return self._file.write(
            f'<script type="text/plain" id="media-{name}">data:{media_type};base64,{text}</script>\n'
        )

    def finish(self, page: str) -> Path:
        """Write the page around its data, and move it into place."""
        before, _, after = page.partition(EMBEDDED)
        self._file.seek(0)
        with self._whole.open("w", encoding="utf-8") as file:
            file.write(before)
            shutil.copyfileobj(self._file, file)
            file.write(after)
        os.replace(self._whole, self.out)
        return self.out


def _is_report(file: Path) -> bool:
    with file.open(encoding="utf-8", errors="replace") as opened:
        return MARK in opened.read(2000)
