"""What is wrong with the whole, as a person on call would see it. Pure: facts in, conditions out.

A condition says what it means, what happens next and what one can do. Nothing here remembers what was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.domain.alert_words import safe
from worker.domain.alerts import Rules, Severity, Wrong

NEVER_TICKED_FOR = timedelta(minutes=5)
"""An installation that has no worker yet is being set up; after this it is broken."""
GATE_SETTLES_AFTER = timedelta(minutes=1)
"""An API that answers and fails by turns is one outage."""
SERVE_GONE_AFTER = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Pause:
    """A person's pause of everything."""

    by: str
    why: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known at a moment.

    Attributes:
        now: by the Redis server's clock.
        known_since: since when this installation exists, as far as anybody knows.
        seeing_since: from then on somebody has looked all the time; what was before, nobody could see.
        alive_at: the newest sign of life of a worker; None when there never was one.
        works: whether it is a worker itself that asks.
        listed_at: when the list of executions was read last; None when it never was.
        serve_at: when `serve` looked last; None when there is none.
        suspended, down: whether the gate is closed for that reason.
        throttled: whether the API asked for a rest.
        gate_since: since when it is closed; None when it is open, or nobody knows.
        reason, detail: of the gate, in the API's own words.
        pause: None when there is none.
    """

    now: datetime
    known_since: datetime
    seeing_since: datetime
    alive_at: datetime | None = None
    works: bool = False
    listed_at: datetime | None = None
    serve_at: datetime | None = None
    suspended: bool = False
    down: bool = False
    throttled: bool = False
    gate_since: datetime | None = None
    reason: str = ""
    detail: str = ""
    pause: Pause | None = None


def look(found: Situation, rules: Rules) -> list[Wrong]:
    """Return the conditions that are met."""
    return [*_no_tick(found, rules), *_gate(found, rules), *_unread(found, rules), *_rest(found, rules)]


def unclear(found: Situation, known: Mapping[str, datetime]) -> set[str]:
    """Return the conditions of which nobody can say that they are over; `known`, with since when.

    A condition ends on evidence. That nobody looked for a while, or that something worse hides it, is none.
    """
    closed = found.suspended or found.down or found.throttled

    def nothing_since(key: str, at: datetime | None) -> bool:
        return key in known and (at is None or at <= known[key])

    keys = set()
    if not found.works and nothing_since("no_tick", found.alive_at):
        keys.add("no_tick")
    if "unread" in known and (closed or nothing_since("unread", found.listed_at)):
        keys.add("unread")
    if closed:
        keys |= {"gate", "suspended"} & known.keys()
    return keys


def redis_away(since: datetime, after: timedelta, detail: str) -> Wrong:
    """Return the condition that only a process outside Redis can see."""
    body = (
        f"{safe(detail, 300)}\n"
        "Next: nothing is sent and no failure is noticed until Redis is back; nothing is lost, and the "
        "workers go on by themselves.\n"
        "What you can do: see that Redis is up and reachable, then kinetic-retry check"
    )
    return Wrong("redis", since, "Redis, where the ledger is, cannot be used", body, after=after)


def ledger_unreadable(since: datetime, after: timedelta, detail: str) -> Wrong:
    """Return the condition that Redis answers, and what it holds cannot be read."""
    body = (
        f"{safe(detail, 300)}\n"
        "Next: nothing else can be told while it is so; workers leave alone what they cannot read.\n"
        "What you can do: see that every process has the same version, then kinetic-retry status"
    )
    return Wrong("unreadable", since, "the ledger cannot be read", body, after=after)


def _no_tick(found: Situation, rules: Rules) -> Iterator[Wrong]:
    if found.works:
        return
    # While nobody could look (Redis was away), workers could not give a sign of life either.
    never = found.known_since + NEVER_TICKED_FOR - rules.tick_after
    since = max(found.alive_at or never, found.seeing_since)
    if found.now - since < rules.tick_after:
        return
    body = (
        "No worker has finished a job since then: beat is down, or every worker is, or they cannot reach the "
        "broker.\n"
        "Next: due retries wait and failures go unnoticed until one is back; none is lost or made twice.\n"
        "What you can do:\n"
        "  see that worker and beat run (docker compose ps, systemctl status, kubectl get pods), and read "
        "their last log lines\n"
        "  kinetic-retry status\n"
        "  kinetic-retry check"
    )
    yield Wrong("no_tick", since, "no worker is working", body)


def _gate(found: Situation, rules: Rules) -> Iterator[Wrong]:
    said = ": ".join(filter(None, (safe(found.reason), safe(found.detail, 300))))
    since = found.gate_since or found.now
    if found.suspended:
        body = (
            f"Kinetic turns our key down ({said or 'no reason given'}).\n"
            "Next: no call leaves until it is accepted; the worker tries by itself. No attempt is spent.\n"
            "What you can do: check KINETIC_API_KEY and what it may do, then kinetic-retry check"
        )
        yield Wrong("suspended", since, "suspended: Kinetic refuses the API key", body)
    elif found.down or found.throttled:
        what = "the API does not answer" if found.down else "the API asks to be left alone (429 or 503)"
        body = (
            f"{what[0].upper()}{what[1:]} ({said or 'no reason given'}).\n"
            "Next: due retries wait; the worker tries by itself and then lets them go step by step. No "
            "attempt is spent.\n"
            "What you can do: see whether Kinetic is up, and kinetic-retry status"
        )
        yield Wrong("gate", since, f"no retry leaves: {what}", body, Severity.WARNING, rules.gate_after,
                    GATE_SETTLES_AFTER)  # fmt: skip


def _unread(found: Situation, rules: Rules) -> Iterator[Wrong]:
    closed = found.suspended or found.down or found.throttled
    if found.listed_at is None or rules.unread_after is None or closed:
        return
    since = max(found.listed_at, found.seeing_since)
    if found.now - since < rules.unread_after:
        return
    body = (
        "The list of executions was not read to its end since then.\n"
        "Next: new failures are not noticed before it is; those on record go on.\n"
        "What you can do: look for `listing_failed` in the workers' log, and kinetic-retry check"
    )
    yield Wrong("unread", since, "new failures are not noticed", body)


def _rest(found: Situation, rules: Rules) -> Iterator[Wrong]:
    if found.serve_at and found.now - found.serve_at >= SERVE_GONE_AFTER:
        body = (
            "Metrics and health checks are not served, and nobody is left to say that workers stand still.\n"
            "Next: retries go on.\n"
            "What you can do: see that `kinetic-retry serve` runs, and read its last log lines"
        )
        yield Wrong("serve", found.serve_at, "`serve` is gone", body, Severity.WARNING)
    if found.pause and found.pause.until is None:
        body = (
            f"{safe(found.pause.by)} paused all retries: {safe(found.pause.why, 300)}\n"
            "Next: no retry leaves before somebody says so.\n"
            "What you can do: kinetic-retry resume --reason '…'"
        )
        yield Wrong("paused", found.pause.since, "all retries are still paused by a person", body,
                    Severity.WARNING, rules.repeat)  # fmt: skip
