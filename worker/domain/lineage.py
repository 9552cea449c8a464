"""A lineage: one failed execution and the clones made for it, in order. The unit we keep a record of.

Owns the record's shape and the states. How one state becomes another is in `transitions`; how the
record is stored is the ledger's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from worker.domain.executions import Execution
from worker.domain.failures import Signature
from worker.domain.logs import LOG_RULE
from worker.domain.policy import History


class State(StrEnum):
    """Where a lineage stands. `docs/states.md` draws every edge; `transitions.EDGES` is the law."""

    SCHEDULED = "scheduled"
    """The next retry is due at a time."""
    SUBMITTING = "submitting"
    """A worker holds the lease and the intent is on record: the retry call may leave at any moment."""
    RUNNING = "running"
    """The clone is known and watched."""
    UNRESOLVED = "unresolved"
    """A retry call left and nobody knows whether it made a clone."""
    HELD = "held"
    """A person decides."""
    RECOVERED = "recovered"
    EXHAUSTED = "exhausted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the lineage has its verdict."""
        return self in FINAL_STATES


HELD_BY_PERSON = "held_by_person"
"""The reason of a lineage that a person holds: no call of it is in doubt."""
FINAL_STATES = frozenset({State.RECOVERED, State.EXHAUSTED, State.REJECTED, State.CANCELLED})
DOUBTFUL_STATES = (State.SUBMITTING, State.UNRESOLVED)
"""States in which a clone may exist that no record names yet."""
FLYING_STATES = (*DOUBTFUL_STATES, State.RUNNING)
"""States in which a clone may be under way: they count as in flight."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One clone, made by us or, where `joined`, by someone else.

    Attributes:
        clone: the new execution; equal to `of` where the deployment retries in place.
        of: the failed execution it was made from.
        delay: how long the policy made it wait.
        submitted_at: when the intent was recorded, just before the call.
        accepted_at: when we learned of the clone.
        evidence: how we know of it: the call's own answer, or what the listing showed.
        alive: whether the clone was seen in a state other than failed (matters in place only).
        ended_at, outcome: when and how it ended: `completed`, `failed`, or "" while it runs.
        joined: whether someone else made it: it is no attempt of ours and spends none.
    """

    clone: str
    of: str
    delay: timedelta
    submitted_at: datetime
    accepted_at: datetime
    evidence: str
    alive: bool = False
    ended_at: datetime | None = None
    outcome: str = ""
    joined: bool = False

    @property
    def in_place(self) -> bool:
        """Whether the deployment ran the failed execution again instead of cloning it."""
        return self.clone == self.of


@dataclass(frozen=True, slots=True)
class Intent:
    """The record "we are about to POST for this lineage", written before the POST.

    It stays on the lineage until a clone is known or the next intent replaces it, so that an answer
    that comes in late can still be recognised.

    Attributes:
        token: names this one call; whoever holds it may settle the lineage.
        of: the execution the call is for.
        at: when it was recorded.
        lease_until: from here on nobody may send; the call's outcome is unresolved.
        doubted: whether the call's outcome was unknown at some time: a clone may show up late.
    """

    token: str
    of: str
    at: datetime
    lease_until: datetime
    doubted: bool = False


class Wish(StrEnum):
    """What a person wants of a lineage."""

    RETRY = "retry"
    """One attempt now, whatever the policy, its workflow's breaker and the budgets say."""
    HOLD = "hold"
    """No further attempt before a person says so."""
    CANCEL = "cancel"
    """No further attempt."""


@dataclass(frozen=True, slots=True)
class Order:
    """A person's word that is not carried out yet.

    A retry is carried out by its call, and is about one failure. A hold or an end that was asked for while a
    call or a clone is under way is carried out when the lineage would be scheduled again.

    Attributes:
        of: the failed execution that is to be retried. For the other wishes: the one that somebody wanted
            retried before, so that it still is when the wish is taken back; "" when nobody did.
        detail: who said it, and why.
    """

    wish: Wish
    of: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ending:
    """A verdict that was taken back because someone else retried the failed run after it."""

    state: State
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """The record. Made by `transitions`, never assembled by hand.

    Attributes:
        root: the execution whose failure we saw first; names the lineage.
        version: grows by one with every commit; 0 is a lineage not yet stored.
        fingerprint: of the root's payload, "" when it was absent or empty.
        source: what brought it here: `list` or `track`.
        dated: whether the API gave the root's failure a believable time.
        failing: the execution to be retried next, or the one retried last.
        failure_stamp: the API's own `updated_at` of that failure, unadjusted: tells an old failure of
            an execution from a new one where the deployment retries in place.
        root_failed_at, last_failed_at, since, …: by the Redis server's clock.
        due_at, delay: of the next attempt while `scheduled`.
        undelivered: retry calls in a row that certainly made no clone.
        conflicts: how many of them, at the end of that row, were conflicts.
        missing_since: since when the API says the clone does not exist.
        reason, detail: why the lineage is in its state; for a final state, the verdict.
        policy: the name of the policy entry that decided last.
        signature: of the newest failure; None when the API does not tell.
        strikes: equal failures in a row, the newest included.
        struck_since: when the first of them happened; None when the newest is the first.
        overruled: the failed execution of which a person decided that it is retried whatever its log says.
        order: what a person wants and nobody has done yet.
        ended_before: the verdict that it gets again when the run that someone else made fails as well; None
            unless it had one.
    """

    root: str
    state: State
    version: int
    workflow_version_uuid: str
    workflow_uuid: str
    workflow_name: str
    fingerprint: str
    source: str
    dated: bool
    root_failed_at: datetime
    seen_at: datetime
    since: datetime
    failing: str
    last_failed_at: datetime
    failure_stamp: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    due_at: datetime | None = None
    delay: timedelta | None = None
    intent: Intent | None = None
    undelivered: int = 0
    conflicts: int = 0
    missing_since: datetime | None = None
    reason: str = ""
    detail: str = ""
    policy: str = "default"
    signature: Signature | None = None
    strikes: int = 1
    struck_since: datetime | None = None
    overruled: str = ""
    ended_before: Ending | None = None
    order: Order | None = None

    @property
    def workflow(self) -> str:
        """What its workflow is counted under: its uuid, or its version's where the API does not tell."""
        return self.workflow_uuid or self.workflow_version_uuid

    @property
    def made(self) -> int:
        """How many clones we made: the attempts that are spent."""
        return sum(not attempt.joined for attempt in self.attempts) if self.attempts else 0

    @property
    def newest(self) -> Attempt:
        """The attempt made last; raises IndexError when there is none."""
        return self.attempts[-1]

    @property
    def next_attempt(self) -> int:
        """The number of the attempt that comes next, counted from 1."""
        return self.made + 1

    @property
    def members(self) -> tuple[str, ...]:
        """The root and its clones, in order, each once."""
        return tuple(dict.fromkeys((self.root, *(attempt.clone for attempt in self.attempts))))

    @property
    def is_held_for_no_call(self) -> bool:
        """Whether it is held for what it is: an intent that it still has is settled, no call is in doubt."""
        return self.state is State.HELD and self.reason in (LOG_RULE, HELD_BY_PERSON)

    @property
    def is_in_doubt(self) -> bool:
        """Whether a retry call of it may have made a clone that no record names."""
        return self.intent is not None and (
            self.state in DOUBTFUL_STATES
            or self.state is State.CANCELLED  # it keeps an intent only if its outcome was never learned
            or (self.state is State.HELD and not self.is_held_for_no_call)
        )

    @property
    def is_ordered(self) -> bool:
        """Whether a person wants the failure retried that comes next, whatever else says."""
        return self.order is not None and self.order.wish is Wish.RETRY and self.order.of == self.failing

    @property
    def history(self) -> History:
        """What the policy needs to know."""
        last_delay = self.attempts[-1].delay if self.attempts else None
        return History(
            self.made,
            self.root_failed_at,
            self.last_failed_at,
            last_delay,
            self.strikes,
            self.signature,
            self.struck_since,
        )

    def may_have_made(self, execution: Execution, skew: timedelta, margin: timedelta) -> bool:
        """Whether an execution that belongs to nobody may be the clone of this lineage's open intent.

        While the call is in doubt that is any execution of the same version and payload created since
        the intent. A held lineage stopped looking when it was held; what was created later is not its
        clone. One that a person or a rule about its log holds had settled its calls before. An execution
        without a creation time may always be it.

        Args:
            execution: as the API shows it.
            skew: the API's clock minus ours.
            margin: what the clocks may disagree by beyond that.
        """
        if self.intent is None or self.is_held_for_no_call:
            return False
        if not execution.could_be_clone_of(self.workflow_version_uuid, self.fingerprint):
            return False
        if execution.created_at is None:
            return True
        created_at = execution.created_at - skew
        until = self.since + margin if self.state is State.HELD else created_at
        # Both dates are of the API's own clock: however far ours is off, a clone is younger than the failure.
        if self.failure_stamp and execution.created_at >= self.failure_stamp:
            return created_at <= until
        return self.intent.at - margin <= created_at <= until
