"""Read the body of a response up to a maximum size. An endpoint may send without end, or a small body that unpacks to gigabytes."""

import zlib
from typing import Any

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Maximum size of a body, packed and unpacked; a completion of 100,000 tokens has less than 1 MB."""
ACCEPTED_ENCODINGS = "gzip, deflate"
"""Value of the header `accept-encoding`: encodings that are unpacked here, with a limit."""


class BodyTooLarge(Exception):
    """The body is larger than `MAX_BODY_BYTES`."""

    def __init__(self, is_packed: bool):
        size = f"{MAX_BODY_BYTES // 1024**2} MiB"
        super().__init__(
            f"the response has more than {size}{' when it is unpacked' if is_packed else ''}; it was not read further"
        )


class BadEncoding(Exception):
    """The body is packed in a way that was not requested, or is damaged."""


async def read_body(response: Any) -> bytes:
    """Read and unpack the body of a streamed httpx response.

    Raises:
        BodyTooLarge: for more than `MAX_BODY_BYTES`.
        BadEncoding: if it cannot be unpacked.
        httpx.RequestError: if the connection fails.
    """
    chunks, size = [], 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge(is_packed=False)
        chunks.append(chunk)
    body = b"".join(chunks)
    encodings = [e.strip().lower() for e in response.headers.get("content-encoding", "").split(",")]
    for encoding in reversed(encodings):
        if encoding in ("gzip", "x-gzip", "deflate"):
            body = _unpack(body, encoding)
        elif encoding not in ("", "identity"):
            raise BadEncoding(f"the encoding {encoding[:20]!r} was not requested")
    return body


def _unpack(data: bytes, encoding: str) -> bytes:
    window = 15 + 16  # gzip
    if encoding == "deflate":
        window = (
            15 if data[:1] and data[0] & 0x0F == 8 else -15
        )  # the zlib format, or raw deflate, which some servers send
    unpacked = b""
    try:
        while data:
            unpacker = zlib.decompressobj(window)
            unpacked += unpacker.decompress(data, MAX_BODY_BYTES + 1 - len(unpacked))
            if len(unpacked) > MAX_BODY_BYTES:
                raise BodyTooLarge(is_packed=True)
            if not unpacker.eof:
                raise BadEncoding("the packed body is incomplete")
            data = unpacker.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise BadEncoding(str(error)) from error
    return unpacked
