"""The gate before the API, shared by all workers: open, paused until a time, or suspended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.ledger.clock import ServerClock, from_ms, whole_ms
from worker.ledger.connection import Connection
from worker.ledger.keys import Keys
from worker.ledger.scripts import Call, run, script


@dataclass(frozen=True, slots=True)
class GateState:
    """What is known of the gate.

    Attributes:
        suspended: the reason (`unauthorized`, `forbidden`), or "" when it is not suspended.
        detail: the API's own words, cleaned.
        since: since when it is suspended.
        paused_until: no call before this; None when there is no pause.
        pause_reason: why it is paused.
    """

    suspended: str = ""
    detail: str = ""
    since: datetime | None = None
    paused_until: datetime | None = None
    pause_reason: str = ""


class Gate:
    """Closes, probes and opens the gate."""

    def __init__(self, connection: Connection, keys: Keys, clock: ServerClock) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = clock

    async def suspend(self, reason: str, detail: str, first_probe_in: timedelta) -> bool:
        """Suspend every worker until a probe succeeds; return whether it was open before."""
        return await self._close("suspend", reason, detail, first_probe_in)

    async def pause(self, reason: str, duration: timedelta) -> bool:
        """Let every call rest for a while; return whether it was open before."""
        return await self._close("pause", reason, "", duration)

    async def claim_probe(self, shortest: timedelta, longest: timedelta) -> bool:
        """Return whether the API is suspended and it is this worker's turn to probe it."""
        answer = await self._run("claim_probe", whole_ms(shortest), whole_ms(longest))
        return bool(answer[1])

    async def open(self) -> timedelta | None:
        """End a suspension; return how long it lasted, or None when there was none."""
        answer = await self._run("open_gate")
        return timedelta(milliseconds=answer[0] - answer[2]) if answer[1] else None

    async def look(self) -> GateState:
        """Return the gate as it is now."""
        return read_gate(await self._connection.command("HGETALL", self._keys.gate), self._clock.now())

    async def _close(self, kind: str, reason: str, detail: str, duration: timedelta) -> bool:
        answer = await self._run("close_gate", kind, reason, detail, whole_ms(duration))
        return bool(answer[1])

    async def _run(self, name: str, *arguments: str | int) -> list[int]:
        mark = self._clock.mark()
        answer: list[int] = await run(self._connection, Call(script(name), [self._keys.gate], arguments))
        self._clock.hear(mark, answer[0])
        return answer


def read_gate(stored: object, now: datetime) -> GateState:
    """Return the gate from its hash (a mapping, or the flat list of an older protocol)."""
    fields = as_mapping(stored)
    until = from_ms(int(fields["until"])) if "until" in fields else None
    paused = until if until and until > now else None
    return GateState(
        suspended=fields.get("suspended", ""),
        detail=fields.get("detail", ""),
        since=from_ms(int(fields["since"])) if "since" in fields else None,
        paused_until=paused,
        pause_reason=fields.get("pause_reason", "") if paused else "",
    )


def as_mapping(answer: object) -> dict[str, str]:
    """Return HGETALL's answer as a mapping, whatever protocol version brought it."""
    if isinstance(answer, dict):
        return answer
    flat = list(answer) if isinstance(answer, (list, tuple)) else []
    return dict(zip(flat[::2], flat[1::2], strict=True))
