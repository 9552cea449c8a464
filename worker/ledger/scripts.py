"""The Lua scripts: found by name, sent by digest, many in one round trip.

A script is a file of `lua/`, one verb each, with a header that says what every KEY and ARG is.
`prelude.lua` is put in front of each. Every answer carries the server's time in its first or second element,
which the clock takes in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from worker.ledger.connection import Connection

Argument = str | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """One verb of the ledger."""

    name: str
    source: str
    digest: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script. Every key it touches is in `keys`."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument] = ()


@cache
def script(name: str) -> Script:
    """Return the script `lua/<name>.lua`, with the prelude in front of it."""
    folder = resources.files("worker.ledger").joinpath("lua")
    source = "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("prelude", name))
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324  # Redis names scripts by SHA-1


async def run(connection: Connection, call: Call) -> Any:
    """Run one script and return its answer; raises what the server raised, translated."""
    answer = (await run_all(connection, [call]))[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


async def run_all(connection: Connection, calls: Sequence[Call]) -> list[Any]:
    """Run many scripts in one round trip and return an answer or an exception for each.

    A server that lost its scripts (restart, SCRIPT FLUSH) gets them again and only the calls that did not
    run are sent once more.

    Raises:
        LedgerUnavailable: no answer came; whether the calls ran is unknown.
    """
    answers = await _send(connection, calls)
    unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        # With their source: loaded first and called by digest, they could be lost again in between.
        again = await _send(connection, [calls[i] for i in unknown], with_source=True)
        for i, answer in zip(unknown, again, strict=True):
            answers[i] = answer
    return [connection.translated(answer) if isinstance(answer, Exception) else answer for answer in answers]


async def _send(connection: Connection, calls: Sequence[Call], *, with_source: bool = False) -> list[Any]:
    def command(call: Call) -> list[Argument]:
        name, body = ("EVAL", call.script.source) if with_source else ("EVALSHA", call.script.digest)
        return [name, body, len(call.keys), *call.keys, *call.arguments]

    return await connection.pipelined([command(call) for call in calls])
