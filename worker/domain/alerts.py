"""What people are told of, and when: from what happened, what is wrong now, and what was said before.

Owns the rules of saying it once: verdicts are gathered by workflow, conditions are told when they begin and
when they are over. Pure: no clock, no words (`alert_words` has those), nothing about how a message travels.
The memory is changed in place; its keeper stores it before anything of it is sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from worker.domain.lineage import HELD_BY_PERSON
from worker.domain.policy import GiveUpReason


class Kind(StrEnum):
    """Ends of lineages that people hear of. Whatever will still be retried is none of them."""

    DEAD = "dead_letters"
    REJECTED = "rejected"
    HELD = "held"


KINDS = {"retries_exhausted": Kind.DEAD, "retry_rejected": Kind.REJECTED, "retry_held": Kind.HELD}
"""By the event that tells it."""
INTENDED = frozenset({GiveUpReason.POLICY_DISABLED.value, HELD_BY_PERSON})
"""Reasons that are somebody's own wish: no news."""
FIRST_SHOWN = 5
MOST_REASONS = 8
MOST_GROUPS = 1000
OTHER = "other"
GATHER_FOR = timedelta(seconds=10)
"""From the first of a workflow to the message about it: so that it counts more than the first."""
GATHER_BEHIND = timedelta(minutes=1)
"""The same while there are events that were not read yet."""
MOST_AT_ONCE = 10
"""Messages about lineages in one window; of what is beyond, the last of them is a summary."""
MOST_WAITING = 50
"""Messages that nobody has yet. Beyond that lineages are gathered on: counted, not lost."""
SETTLED_AFTER = timedelta(seconds=15)
"""A condition that was not met for so long is over; one that comes and goes is one."""


class Severity(StrEnum):
    """How bad it is; the words that Apprise has for it."""

    FAILURE = "failure"
    WARNING = "warning"
    SUCCESS = "success"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Message:
    """Something to be said to people.

    Attributes:
        id: names it in the memory.
        at: when it was made, by the Redis server's clock.
        about: a `Kind`, or the key of a condition.
    """

    id: str
    at: datetime
    about: str
    severity: Severity
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a person set.

    Attributes:
        window: of one workflow there is one message in it.
        repeat: how often something that stays wrong is said again.
        gate_after: how long the API may be down before somebody hears of it.
        tick_after: how long no worker may give a sign of life.
        unread_after: how long the list of executions may go unread; None where there is none.
        link: template of a link to an execution; "" for none.
        name: of this installation: its namespace.
    """

    window: timedelta = timedelta(minutes=15)
    repeat: timedelta = timedelta(hours=4)
    gate_after: timedelta = timedelta(minutes=10)
    tick_after: timedelta = timedelta(seconds=20)
    unread_after: timedelta | None = timedelta(minutes=10)
    link: str = ""
    name: str = "kinetic-retry"


@dataclass(frozen=True, slots=True)
class Sighting:
    """An event of a lineage, as the stream tells it."""

    event: str
    at: datetime
    execution: str
    workflow: str
    workflow_name: str
    reason: str


@dataclass(slots=True)
class Gathered:
    """Lineages of one workflow that ended alike and that nobody has heard of yet.

    Attributes:
        first: executions, the first few.
        begun_at, newest_at: when the first and the newest of them happened; None while there is none.
        told_at: when the last message about this workflow was made, which opened a window; None when there
            was none.
    """

    kind: Kind
    workflow: str
    name: str
    count: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)
    begun_at: datetime | None = None
    newest_at: datetime | None = None
    told_at: datetime | None = None

    def add(self, seen: Sighting) -> None:
        """Count one more."""
        self.count += 1
        reason = seen.reason if seen.reason in self.reasons or len(self.reasons) < MOST_REASONS else OTHER
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.first) < FIRST_SHOWN:
            self.first.append(seen.execution)
        self.begun_at = min(self.begun_at or seen.at, seen.at)
        self.newest_at = max(self.newest_at or seen.at, seen.at)

    def forget(self, now: datetime) -> None:
        """Begin a window with nothing in it."""
        self.count, self.reasons, self.first = 0, {}, []
        self.begun_at = self.newest_at = None
        self.told_at = now


@dataclass(frozen=True, slots=True)
class Wrong:
    """A condition that is met now.

    Attributes:
        key: names it; there is one of each.
        since: since when, as far as anybody knows.
        what: in a few words, to be followed by "since" or "is over".
        body: everything a person needs to know.
        after: it is said once it lasted so long.
        settle: it is over once it was not met for so long.
    """

    key: str
    since: datetime
    what: str
    body: str
    severity: Severity = Severity.FAILURE
    after: timedelta = timedelta(0)
    settle: timedelta = SETTLED_AFTER


@dataclass(slots=True)
class Open:
    """A condition that was met and is not known to be over.

    Attributes:
        told_at: when it was said last; None while it was not.
        settle: see `Wrong`.
    """

    since: datetime
    seen_at: datetime
    what: str
    settle: timedelta
    told_at: datetime | None = None


@dataclass(slots=True)
class Address:
    """What is known of one address.

    Attributes:
        tries: in a row that failed.
        next_at: when to try again.
        refused: messages that it refused, and how often.
        takes_others: whether it took another one since it refused the first of them.
    """

    tries: int = 0
    next_at: datetime | None = None
    refused: dict[str, int] = field(default_factory=dict)
    takes_others: bool = False


@dataclass(slots=True)
class Memory:
    """What was heard and said.

    Attributes:
        cursor: the last event of the stream that was read.
        turned_at: when somebody looked last.
        seeing_since: from then on somebody has been looking all the time.
        serve_at: when a `serve` process looked last; None when there is none, or it took its leave.
        listed_at: when the list of executions was read last; None when it never was.
        gathered: by kind and workflow.
        open: by key.
        outbox: what was not delivered everywhere, oldest first.
        delivered: message → positions of addresses that have it.
        addresses: by position.
        window_since, window_said: how many messages about lineages the current window has had.
        made: messages ever.
    """

    cursor: str
    turned_at: datetime
    seeing_since: datetime
    serve_at: datetime | None = None
    listed_at: datetime | None = None
    gathered: dict[str, Gathered] = field(default_factory=dict)
    open: dict[str, Open] = field(default_factory=dict)
    outbox: list[Message] = field(default_factory=list)
    delivered: dict[str, list[int]] = field(default_factory=dict)
    addresses: dict[int, Address] = field(default_factory=dict)
    window_since: datetime | None = None
    window_said: int = 0
    made: int = 0

    def put(self, now: datetime, about: str, severity: Severity, title: str, body: str) -> None:
        """Put a message into the outbox."""
        self.made += 1
        self.outbox.append(Message(str(self.made), now, about, severity, title, body))


def hear(memory: Memory, sightings: Iterable[Sighting]) -> None:
    """Gather the ends of lineages that people hear of; pass over everything else."""
    for seen in sightings:
        kind = KINDS.get(seen.event)
        if kind is None or seen.reason in INTENDED:
            continue
        workflow, name = seen.workflow, seen.workflow_name
        if f"{kind} {workflow}" not in memory.gathered and len(memory.gathered) >= MOST_GROUPS:
            workflow = name = ""
        key = f"{kind} {workflow}"
        if key not in memory.gathered:
            memory.gathered[key] = Gathered(kind, workflow, name)
        memory.gathered[key].add(seen)


def skip(memory: Memory, newest: str) -> datetime:
    """Pass over what nobody heard of up to an event; return since when nothing was told of it."""
    since = min([memory.turned_at, *(each.begun_at for each in memory.gathered.values() if each.begun_at)])
    memory.gathered, memory.cursor = {}, newest
    return since


def take_due(
    memory: Memory, rules: Rules, now: datetime, *, behind: bool = False
) -> tuple[list[Gathered], list[Gathered]]:
    """Return what is to be said by itself, and what is to be said in one summary; begin their windows.

    Of one workflow and kind there is one message in a window; of all together there are `MOST_AT_ONCE`.

    Args:
        memory: is changed: what is returned is taken out of it, and has to be put into its outbox.
        rules: see `Rules`.
        now: by the Redis server's clock.
        behind: whether there are events that were not read yet.
    """
    _close_windows(memory, rules, now)
    due = [each for each in memory.gathered.values() if _is_due(each, rules, now, behind=behind)]
    due.sort(key=lambda each: (-each.count, each.kind, each.workflow))
    waiting = sum(not memory.delivered.get(each.id) for each in memory.outbox)
    left = min(MOST_AT_ONCE - memory.window_said, MOST_WAITING - waiting)
    if not due or left <= 0:
        return [], []
    memory.window_since = memory.window_since or now
    singly = len(due) if len(due) <= left else left - 1
    alone, together = due[:singly], due[singly:]
    memory.window_said += len(alone)
    if together:
        memory.window_said = MOST_AT_ONCE
    taken = [_copy(each) for each in alone], [_copy(each) for each in together]
    for each in due:
        each.forget(now)
    return taken


def follow(
    memory: Memory,
    wrong: Sequence[Wrong],
    rules: Rules,
    now: datetime,
    unclear: Collection[str] = (),
) -> tuple[list[tuple[Wrong, Open]], list[tuple[str, Open]]]:
    """Take note of what is wrong; return the conditions to be told now, and those told that are over.

    A condition is returned when it has lasted long enough, again after each `rules.repeat`, and never twice
    in between. One of which nobody can say that it is over (`unclear`) is not.
    """
    for key in unclear:
        if key in memory.open:
            memory.open[key].seen_at = now
    tell: list[tuple[Wrong, Open]] = []
    for each in wrong:
        known = memory.open.setdefault(each.key, Open(min(each.since, now), now, each.what, each.settle))
        known.seen_at, known.what, known.settle = now, each.what, each.settle
        first = known.told_at is None and now - known.since >= each.after
        again = known.told_at is not None and now - known.told_at >= rules.repeat
        if first or again:
            tell.append((each, Open(known.since, now, known.what, known.settle, known.told_at)))
            known.told_at = now
    met = {each.key for each in wrong}
    over: list[tuple[str, Open]] = []
    for key, known in list(memory.open.items()):
        if key not in met and now - known.seen_at >= known.settle:
            del memory.open[key]
            if known.told_at:
                over.append((key, known))
    return tell, over


def _is_due(each: Gathered, rules: Rules, now: datetime, *, behind: bool) -> bool:
    if not each.count or each.begun_at is None:
        return False
    if each.told_at is not None:
        return now - each.told_at >= rules.window
    return now - each.begun_at >= (GATHER_BEHIND if behind else GATHER_FOR)


def _close_windows(memory: Memory, rules: Rules, now: datetime) -> None:
    if memory.window_since and now - memory.window_since >= rules.window:
        memory.window_since, memory.window_said = None, 0
    for key, each in list(memory.gathered.items()):
        if not each.count and each.told_at and now - each.told_at >= rules.window:
            del memory.gathered[key]


def _copy(each: Gathered) -> Gathered:
    return Gathered(
        each.kind, each.workflow, each.name, each.count, each.reasons, each.first,
        each.begun_at, each.newest_at, each.told_at,
    )  # fmt: skip
