"""Download files and unpack archives. A file or folder under its final name is always complete.

Belongs here: transfer, checksums, unpacking. Does not belong here: which archives may be unpacked (`zip_files`), addresses and
contents of datasets. `pooch` is not used because it starts a download from the beginning after each interruption.
"""

import errno
import os
import struct
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import BadDataset, NotAvailable
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.regular_files import digest_file
from vlm_audio_pipeline.datasets.zip_files import MAX_UNPACKED_BYTES, check_directory_size, check_members
from vlm_audio_pipeline.storage.atomic import atomic_path

_CHUNK = 1 << 18  # bytes
_MARGIN_BYTES = 100_000_000
_TIMEOUT_S = 30.0  # without a received byte
_DAMAGE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, struct.error, RuntimeError)
MANUAL_DATASET_DOWNLOAD = (
    "download it by hand elsewhere, unpack it here and point the dataset's `path` (for ESC-10 also ESC10_DIR) to it"
)
"""Advice if the address of a dataset cannot be reached."""


def download(
    url: str,
    target: Path,
    sha256: str | None,
    size: int,
    progress: Progress = no_progress,
    *,
    headers: Mapping[str, str] | None = None,
    advice: str = MANUAL_DATASET_DOWNLOAD,
) -> Path:
    """Download a file to `<target>.part`, check it and move it to `target`. An earlier attempt is resumed.

    A file that is already at `target` with the right checksum is not downloaded again.

    Args:
        url: address of the file.
        target: path of the file; its folder is created.
        sha256: expected SHA-256 of the file; None: not checked.
        size: approximate size, bytes; the total for `progress` if the server does not send a length. A file of more than twice
            this size and 100 MB is refused.
        progress: called with the bytes downloaded, the total and a label.
        headers: request headers; they are not sent to an address that this one redirects to.
        advice: alternative for the user if the address cannot be reached; part of error messages.

    Returns:
        `target`.

    Raises:
        NotAvailable: without a network, for an address that does not exist, and for an interrupted transfer.
        BadDataset: for a wrong checksum, and for a file that is much larger than expected; the downloaded file is deleted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and sha256 in (None, digest_file(target)):
        return target
    partial = target.with_name(target.name + ".part")
    try:
        done, total = _resume(url, partial, size, progress, f"download {target.name}", headers or {})
    except urllib.error.HTTPError as error:
        raise NotAvailable(f"{url} cannot be downloaded: HTTP {error.code} {error.reason}; {advice}") from error
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", None) or error
        raise NotAvailable(f"{url} cannot be downloaded: {reason}; run again to continue, or {advice}") from error
    if total is not None and done < total:
        raise NotAvailable(
            f"the download of {url} stopped after {done} of {total} bytes; run again to continue, or {advice}"
        )
    if sha256 is not None and (actual_sha256 := digest_file(partial)) != sha256:
        partial.unlink()
        raise BadDataset(
            f"the SHA-256 of {url} is {actual_sha256}, not {sha256}; the file was deleted. Run again; if the checksum differs "
            "again, the file was changed on the server or during the download"
        )
    os.replace(partial, target)
    return target


def _resume(
    url: str, partial: Path, size: int, progress: Progress, label: str, headers: Mapping[str, str]
) -> tuple[int, int | None]:
    """Append the missing bytes to a partial file; return its size and the size of the whole file, None if unknown."""
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
        partial.unlink()  # longer than the file on the server, so it belongs to another file
        return _resume(url, partial, size, progress, label, headers)
    with response:
        resumed = start > 0 and response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise HTTPException(f"requested the bytes from {start}, got {response.headers.get('Content-Range')}")
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        max_size = 2 * size + _MARGIN_BYTES
        if total is not None and total > max_size:
            raise _oversized_error(url, partial, total, size)
        with partial.open("ab" if resumed else "wb") as file:
            progress(done, total or max(size, done), label)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                if done > max_size:
                    break
                faults.kill_point("download")
                progress(done, total or max(size, done), label)
            file.flush()
            os.fsync(file.fileno())
    if done > max_size:
        raise _oversized_error(url, partial, done, size)
    return done, total


def _oversized_error(url: str, partial: Path, actual_size: int, size: int) -> BadDataset:
    partial.unlink(missing_ok=True)
    return BadDataset(
        f"{url} sends at least {actual_size / 1e6:.0f} MB, but about {size / 1e6:.0f} MB were expected; the download was stopped and "
        "deleted. Use another address"
    )


def extract_zip(archive: Path, target: Path, max_bytes: int = MAX_UNPACKED_BYTES) -> Path:
    """Unpack a zip completely into a new folder; if it fails, the folder is not created.

    Args:
        archive: the zip file.
        target: the folder to create; it must not exist.
        max_bytes: largest sum of the unpacked sizes.

    Returns:
        `target`.

    Raises:
        BadDataset: for a damaged zip file, and for one with members outside the folder (absolute names, `..`, drives), links,
            encrypted members, too many members, or too much content; nothing is unpacked then.
    """
    if target.exists():
        raise BadDataset(f"{target} exists already, so no archive is unpacked to it; move it away")
    try:
        check_directory_size(archive)
        with atomic_path(target) as temporary, zipfile.ZipFile(archive) as zipped:
            check_members(archive, zipped.infolist(), max_bytes)
            temporary.mkdir()
            # A member never unpacks to more than its declared size: zipfile stops there.
            zipped.extractall(temporary)
    except _DAMAGE_ERRORS as error:
        raise BadDataset(f"{archive} is not a complete zip file: {error}; delete it and download it again") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a negative position in the file
            raise
        raise BadDataset(f"{archive} is not a complete zip file: {error}; delete it and download it again") from error
    return target


def contents_digest(root: Path, files: Iterable[str]) -> str:
    """Hash the paths and contents of files: SHA-256 over lines of path, tab, SHA-256 and newline, sorted by path.

    Args:
        root: folder that the paths are relative to.
        files: relative paths, with "/" between parts.

    Returns:
        64 hexadecimal digits.
    """
    return digest(*(f"{file}\t{digest_file(root / file)}\n".encode() for file in sorted(files)))
