"""Bodies are bounded by what they inflate to, and never inflated further than that."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from worker.kinetic.body import BodyError, read_body

MIB = 2**20


async def read(body: bytes, limit: int, encoding: str = "gzip") -> bytes:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return await read_body(chunks(), encoding, limit)


async def test_a_bomb_is_not_inflated_beyond_the_bound() -> None:
    """64 MiB in 64 KiB: memory stays near the bound, instead of counting after the damage."""
    bomb = gzip.compress(bytes(64 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(BodyError, match="answer_too_large"):
            await read(bomb, MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_exactly_the_bound_is_read(size: int) -> None:
    """Neither a byte less nor one more, plain or packed."""
    body = b"x" * size
    assert await read(gzip.compress(body), size) == body
    assert await read(body, size, "identity") == body
    with pytest.raises(BodyError):
        await read(body + b"x", size, "")
    with pytest.raises(BodyError):
        await read(gzip.compress(body + b"x"), size)


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"not gzip", "gzip", "broken_encoding"),
        (gzip.compress(b"x" * 99, mtime=0)[:-9], "gzip", "broken_encoding"),
        (b"", "gzip", "broken_encoding"),
        (b"", "br", "unknown_encoding"),
        (gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), "gzip, gzip", "unknown_encoding"),
    ],
)
async def test_what_cannot_be_decoded_is_told(body: bytes, encoding: str, reason: str) -> None:
    """Only what was asked for is decoded."""
    with pytest.raises(BodyError, match=reason):
        await read(body, 1000, encoding)


async def test_what_follows_the_end_of_the_stream_is_left() -> None:
    """Trailing bytes are not data."""
    assert await read(gzip.compress(b"x") + b"trailing", 1000) == b"x"
