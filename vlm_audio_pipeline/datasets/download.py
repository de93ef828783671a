"""Download files and unpack archives. A file or folder under its final name is always complete.

Belongs here: transfer, checksums, safe unpacking. Does not belong here: addresses and contents of datasets. `pooch` is not
used because it starts a download from the beginning after each interruption.
"""

import hashlib
import os
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path, PurePosixPath, PureWindowsPath

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.stages import Progress, no_progress
from vlm_audio_pipeline.storage.atomic import atomic_path

_CHUNK = 1 << 18  # bytes
_TIMEOUT_S = 30.0  # without a byte
BY_HAND = (
    "download it by hand elsewhere, unpack it here and point the dataset's `path` (for ESC-10 also ESC10_DIR) to it"
)
"""What to do if a dataset's address cannot be reached."""


def download(
    url: str,
    to: Path,
    sha256: str | None,
    size: int,
    progress: Progress = no_progress,
    *,
    headers: Mapping[str, str] | None = None,
    instead: str = BY_HAND,
) -> Path:
    """Download a file to `<to>.part`, check it and move it to `to`. An earlier attempt is resumed.

    A file that is already at `to` with the right checksum is not downloaded again.

    Args:
        url: address of the file.
        to: path of the file; its folder is created.
        sha256: expected SHA-256 of the file; None if it is not known.
        size: approximate size, bytes; the total for `progress` if the server does not send a length.
        progress: called with the bytes downloaded, the total and a label.
        headers: request headers; they are not sent to an address that this one redirects to.
        instead: what the user can do if the address cannot be reached; part of error messages.

    Returns:
        `to`.

    Raises:
        NotAvailable: without a network, for an address that does not exist, and for an interrupted transfer.
        BadDataset: for a wrong checksum; the downloaded file is deleted.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.is_file() and sha256 in (None, _sha256(to)):
        return to
    partial = to.with_name(to.name + ".part")
    try:
        done, total = _resume(url, partial, size, progress, f"download {to.name}", headers or {})
    except urllib.error.HTTPError as error:
        raise NotAvailable(f"{url} cannot be downloaded: HTTP {error.code} {error.reason}; {instead}") from error
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", None) or error
        raise NotAvailable(f"{url} cannot be downloaded: {reason}; run again to continue, or {instead}") from error
    if total is not None and done < total:
        raise NotAvailable(
            f"the download of {url} stopped after {done} of {total} bytes; run again to continue, or {instead}"
        )
    if sha256 is not None and (got := _sha256(partial)) != sha256:
        partial.unlink()
        raise BadDataset(
            f"{url} must have the SHA-256 {sha256}, got {got}; it was deleted. Run again; if the checksum differs again, "
            f"the file was changed at its origin or on the way"
        )
    os.replace(partial, to)
    return to


def _resume(
    url: str, partial: Path, size: int, progress: Progress, label: str, headers: Mapping[str, str]
) -> tuple[int, int | None]:
    """Append the missing bytes to a partial file; return its size and the size of the whole file, if it is known."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:  # 416: the file has no bytes after `start`
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":  # complete: the process was killed before the move
            return start, start
        partial.unlink()  # longer than the file, so of another one
        return _resume(url, partial, size, progress, label, headers)
    with response:
        resumed = start > 0 and response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise HTTPException(f"requested the bytes from {start}, got {response.headers.get('Content-Range')}")
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with partial.open("ab" if resumed else "wb") as file:
            progress(done, total or max(size, done), label)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                faults.kill_point("download")
                progress(done, total or max(size, done), label)
            file.flush()
            os.fsync(file.fileno())
    return done, total


def extract_zip(archive: Path, to: Path) -> Path:
    """Unpack a zip into a new folder, all of it or nothing.

    Args:
        archive: the zip file.
        to: the folder to create; it must not exist.

    Returns:
        `to`.

    Raises:
        BadDataset: for a damaged zip file, and for one with members outside the folder (absolute names, `..`, drives),
            links or encrypted members; nothing is unpacked then.
    """
    if to.exists():
        raise BadDataset(f"{to} must not exist before an archive is unpacked to it; move it away")
    try:
        with atomic_path(to) as temporary, zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                if reason := _refusal(member):
                    raise BadDataset(
                        f"{archive} must contain plain files only, got {member.filename!r}: {reason}; discard it"
                    )
            temporary.mkdir()
            zipped.extractall(temporary)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadDataset(
            f"{archive} must be a complete zip file, got: {error}; delete it and download it again"
        ) from error
    return to


def _refusal(member: zipfile.ZipInfo) -> str | None:
    """Return why a member must not be unpacked, or None."""
    name = member.orig_filename  # zipfile has cleaned `filename` already
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive:
        return "an absolute name"
    if ".." in path.parts:
        return "a name that leaves the folder"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or special file"
    if member.flag_bits & 1:
        return "encrypted"
    return None


def contents_digest(root: Path, files: Iterable[str]) -> str:
    """Hash the paths and contents of files: SHA-256 over lines of path, tab, SHA-256 and newline, sorted by path.

    Args:
        root: folder that the paths are relative to.
        files: relative paths, with "/" between parts.

    Returns:
        64 hexadecimal digits.
    """
    return digest(*(f"{file}\t{_sha256(root / file)}\n".encode() for file in sorted(files)))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
