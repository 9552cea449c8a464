"""What logs and the server's files must not hold: keys, payloads, tracebacks, lines that are no JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.judge import Law, Violation
from tests.chaos.world import CANARY_KEY
from tests.support.daemons import Daemon

FORBIDDEN = {CANARY_KEY: "the API key", "member_id": "a payload", "invented-payer": "a payload"}
PIECE = 1 << 20


def of_logs(daemons: list[Daemon]) -> Iterator[Violation]:
    """Look at every line that every process wrote, those that were killed included."""
    for daemon in daemons:
        name = daemon.output.name
        for number, line in enumerate(daemon.output.read_bytes().splitlines(), 1):
            if not _is_json_object(line):
                yield _bad(f"{name}:{number} is not JSON: {line[:200]!r}")
            if b"Traceback" in line:
                yield _bad(f"{name}:{number} holds a traceback: {line[:300]!r}")
        yield from _forbidden_in(daemon.output)


def of_files(directory: Path) -> Iterator[Violation]:
    """Look at all that the server ever wrote: its append-only file knows what was deleted long ago, too."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield from _forbidden_in(path)


def _forbidden_in(path: Path) -> Iterator[Violation]:
    found: set[str] = set()
    longest = max(map(len, FORBIDDEN))
    with path.open("rb") as stream:
        rest = b""
        while piece := stream.read(PIECE):
            found |= {word for word in FORBIDDEN if word.encode() in rest + piece}
            rest = piece[-longest:]
    for word in sorted(found):
        yield _bad(f"{path.name} holds {FORBIDDEN[word]} ({word})")


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _bad(words: str) -> Violation:
    return Violation(Law.HYGIENE, "", words)
