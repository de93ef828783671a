"""Recordings of a batch on the nodes of a cluster: read at the same path (`shared`), or sent with the batch (`shipped`)."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.file_copies import use_copies
from vlm_audio_pipeline.contracts.regular_files import open_regular

Files = Literal["shared", "shipped"]


@dataclass(frozen=True)
class ShippedFile:
    """A file with its content.

    Attributes:
        content: its bytes.
        sha256: of `content`, computed by the driver, 64 hexadecimal digits.
    """

    content: bytes
    sha256: str


BatchFiles = Mapping[Path, ShippedFile | None]
"""Files of a batch that the driver has -> content, or None if the worker reads them itself."""


def files_for_batch(paths: Iterable[Path], files: Files) -> BatchFiles:
    """Return the files of a batch, as the driver sends them. A file that the driver cannot read is left out: the work gives the reason."""
    batch: dict[Path, ShippedFile | None] = {}
    for path in paths:
        if path in batch:
            continue
        if files == "shared":
            if path.exists():
                batch[path] = None
            continue
        try:
            with open_regular(path) as file:
                content = file.read()
        except OSError:
            continue
        batch[path] = ShippedFile(content, hashlib.sha256(content).hexdigest())
    return batch


@contextmanager
def files_of_batch(files: BatchFiles, node: str) -> Iterator[None]:
    """Make the files of a batch readable on the machine of a worker, while the block runs.

    Args:
        files: the files, from `files_for_batch`.
        node: name of the worker's machine, for messages.

    Raises:
        VlmAudioError: for a file that the driver has and this machine has not, for content that was changed on its way, and for a full disk.
    """
    missing = [path for path, shipped in files.items() if shipped is None and not path.exists()]
    if missing:
        raise VlmAudioError(
            f"{missing[0]} does not exist on node {node}, although the machine of the command has it; use a folder that every node has at the same "
            "path, or write `files: shipped` into engine.yaml"
        )
    if not any(files.values()):
        yield
        return
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vlm-audio-files-"))
            copies = _write_copies(Path(folder), files, node)
        except OSError as error:
            raise VlmAudioError(
                f"the recordings of a batch cannot be written on node {node}: {error}; free space in the temporary folder there, or set "
                "TMPDIR to another folder"
            ) from error
        with use_copies(copies):
            yield


def _write_copies(folder: Path, files: BatchFiles, node: str) -> dict[Path, Path]:
    copies: dict[Path, Path] = {}
    for number, (path, shipped) in enumerate(files.items()):
        if shipped is None:
            continue
        if hashlib.sha256(shipped.content).hexdigest() != shipped.sha256:
            raise VlmAudioError(f"the content of {path} was changed on its way to node {node}; run the command again")
        copies[path] = folder / str(number) / path.name  # errors and formats need the name
        copies[path].parent.mkdir()
        copies[path].write_bytes(shipped.content)
    return copies
