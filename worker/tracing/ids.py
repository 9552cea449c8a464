"""The names of traces and spans, made from what they are about.

All spans of a lineage are one trace, although different processes and machines draw them, days apart. Nothing
is stored for that: whoever knows the root knows the trace. Two workers that draw the same thing name it the
same. The ids are hashes and not the uuids themselves: samplers by ratio go by the last bits of a trace's id,
and some of those are fixed in a uuid.
"""

from __future__ import annotations

from hashlib import blake2b


def trace_of(root: str) -> int:
    """Return the id of a lineage's trace.

    >>> f"{trace_of('a9abbfe1-4111-469d-8867-a52885c114da'):032x}"
    'ab020ae0255e69b80225ec522cc3b7ca'
    """
    return _hash(16, root)


def span_of(root: str, *what: str | int) -> int:
    """Return the id of a span in it: of its lineage, of an attempt, of one call by its token."""
    return _hash(8, root, *what)


def _hash(size: int, *parts: str | int) -> int:
    text = "\0".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=size, person=b"kinetic-retry").digest()) or 1
