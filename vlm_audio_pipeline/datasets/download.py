"""Fetching an archive and unpacking it, so that what lies in place is whole and came from inside the archive.

What belongs here: moving bytes, with checks. What does not: where a dataset comes from and what it must hold.
"""

import hashlib
import os
import shutil
import stat
import tempfile
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
from vlm_audio_pipeline.contracts.stages import Progress, silent

_CHUNK = 1 << 18  # bytes
_TIMEOUT_S = 30.0  # without a byte
BY_HAND = (
    "download it by hand elsewhere, unpack it here and point the dataset's `path` (for ESC-10 also ESC10_DIR) to it"
)
"""What to do where a dataset's address cannot be reached."""


def download(
    url: str,
    to: Path,
    sha256: str | None,
    size: int,
    progress: Progress = silent,
    *,
    headers: Mapping[str, str] | None = None,
    instead: str = BY_HAND,
) -> Path:
    """Fetch a file whole: into `<to>.part`, continued where an earlier attempt stopped, checked, then moved into place.

    One that is in place already is not fetched again.

    Args:
        url: where it is.
        to: where it goes; its folder is made.
        sha256: what its bytes must hash to, or None where that is not known.
        size: about how many bytes it has, for progress where the server does not say.
        progress: told bytes done and in all.
        headers: sent to this address alone, not to one it redirects to.
        instead: what a person can do where there is no way to it.

    Returns:
        `to`.

    Raises:
        NotAvailable: without a network, for an address that is not there, and for a transfer that breaks off.
        BadDataset: for a wrong checksum; what was fetched is deleted.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    if to.is_file() and sha256 in (None, _sha256(to)):  # whole, or it would not be in place: a kill came after it
        return to
    part = to.with_name(to.name + ".part")
    try:
        done, total = _fetch(url, part, size, progress, f"download {to.name}", headers or {})
    except urllib.error.HTTPError as error:
        raise NotAvailable(f"{url} must be there, got HTTP {error.code} {error.reason}; {instead}") from error
    except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
        reason = getattr(error, "reason", None) or error
        raise NotAvailable(
            f"{url} must be fetched whole, got: {reason}; run again to continue, or {instead}"
        ) from error
    if total is not None and done < total:
        raise NotAvailable(
            f"{url} must give {total} bytes, got {done} before it broke off; run again to continue, or {instead}"
        )
    if sha256 is not None and (got := _sha256(part)) != sha256:
        part.unlink()
        raise BadDataset(
            f"{url} must have the SHA-256 {sha256}, got {got}; it was deleted: run again, and if it stays so, the file "
            f"has changed or something on the way changes it"
        )
    os.replace(part, to)
    return to


def _fetch(
    url: str, part: Path, size: int, progress: Progress, what: str, headers: Mapping[str, str]
) -> tuple[int, int | None]:
    """Append what is missing to a partial file; gives the bytes there are now and those there should be, if known."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:  # 416: nothing lies behind what we have, so it is not the beginning of this
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":  # it is whole: a kill came just before it was moved
            return have, have
        part.unlink()
        return _fetch(url, part, size, progress, what, headers)
    with response:
        resumed = have > 0 and response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise HTTPException(f"a range from byte {have} was asked for, got {response.headers.get('Content-Range')}")
        done = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        with part.open("ab" if resumed else "wb") as file:
            progress(done, total or max(size, done), what)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                faults.point("download")
                progress(done, total or max(size, done), what)
            file.flush()
            os.fsync(file.fileno())
    return done, total


def extract_zip(archive: Path, to: Path) -> Path:
    """Unpack a zip whole: into a temporary folder beside `to`, then moved into place.

    Args:
        archive: the zip file.
        to: the folder to make; there must be none yet.

    Returns:
        `to`.

    Raises:
        BadDataset: for a file that is no whole zip, and for one with members that would lie outside the folder
            (absolute names, `..`, drives) or are links; nothing is unpacked then.
    """
    if to.exists():
        raise BadDataset(f"{to} must not be there before an archive is unpacked to it; move it away")
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                if why := _evil(member):
                    raise BadDataset(
                        f"{archive} must hold plain files only, got {member.filename!r}: {why}; discard it"
                    )
            zipped.extractall(temporary)
        temporary.chmod(0o755)
        os.replace(temporary, to)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BadDataset(f"{archive} must be a whole zip file, got: {error}; delete it and fetch it again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return to


def _evil(member: zipfile.ZipInfo) -> str | None:
    """Say why a member must not be unpacked, or None."""
    name = member.orig_filename  # `filename` is already tamed
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
    """Hash what files hold and where they lie: SHA-256 over lines of path, tab, SHA-256 and newline, sorted by path.

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
