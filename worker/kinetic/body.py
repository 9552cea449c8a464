"""Reads an answer's body within bounds: however much a server sends, or inflates to, we keep little.

Owns the size bound and the decoding. httpx decodes a whole chunk at a time, which lets 64 KiB
of gzip become 64 MiB before anyone can count; so the raw bytes are inflated here, in steps.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator

ACCEPT_ENCODING = "gzip"
"""What `read_body` can decode, as the request header says it."""

_GZIP = 16 + zlib.MAX_WBITS


class BodyError(Exception):
    """The body cannot be used.

    Attributes:
        reason: `answer_too_large`, `unknown_encoding` or `broken_encoding`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def read_body(chunks: AsyncIterable[bytes], encoding: str, limit: int) -> bytes:
    """Return the decoded body of an answer, of at most `limit` bytes.

    Args:
        chunks: as they come.
        encoding: what the answer's `Content-Encoding` says; "" when it says nothing.
        limit: in bytes.

    Raises:
        BodyError: too large, or not encoded in a way we asked for. The rest is left unread: the
            connection is then closed with the response.
        Exception: what `chunks` raises when the connection ends or stalls.
    """
    encoding = encoding.strip().lower()
    if encoding in ("gzip", "x-gzip"):
        chunks = _inflated(chunks, limit)
    elif encoding not in ("", "identity"):
        raise BodyError("unknown_encoding")
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise BodyError("answer_too_large")
    return bytes(body)


async def _inflated(chunks: AsyncIterable[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield at most `limit` + 1 decoded bytes per chunk: enough for the caller to see the excess."""
    inflate = zlib.decompressobj(_GZIP)
    async for chunk in chunks:
        if inflate.eof:  # what follows the stream's end is nothing we asked for
            return
        try:
            yield inflate.decompress(chunk, limit + 1)
        except zlib.error as exc:
            raise BodyError("broken_encoding") from exc
    if not inflate.eof:
        raise BodyError("broken_encoding")
