"""Every way a lineage changes: named, checked, and telling its own story.

A transition takes a lineage and what happened and returns a `Change`: the lineage before and after and
the events that say so. The ledger stores the change, the log prints the same events, so neither can
tell a story of its own. Anything the state machine does not allow raises `IllegalTransitionError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from worker.domain.budget import Limit
from worker.domain.executions import Execution
from worker.domain.failures import Signature
from worker.domain.health import Ended
from worker.domain.lineage import (
    FINAL_STATES,
    FLYING_STATES,
    HELD_BY_PERSON,
    Attempt,
    Ending,
    Intent,
    Lineage,
    Order,
    State,
    Wish,
)
from worker.domain.logs import LOG_RULE
from worker.domain.policy import GiveUp, GiveUpReason, Policy, RetryAt

EDGES: Mapping[State, frozenset[State]] = {
    State.SCHEDULED: frozenset(
        {
            State.SCHEDULED,  # it has to wait longer, for a reason that is put on record
            State.SUBMITTING,
            State.RUNNING,  # a late answer names the clone that we thought was none, or someone else's joins
            State.RECOVERED,  # a conflict showed that the execution completed after all
            State.HELD,
            State.EXHAUSTED,
            State.REJECTED,
            State.CANCELLED,
        }
    ),
    State.SUBMITTING: frozenset(
        {
            State.RUNNING,
            State.SCHEDULED,
            State.UNRESOLVED,
            State.RECOVERED,
            State.REJECTED,
            State.HELD,  # not delivered, and a person wanted it held
            State.CANCELLED,
        }
    ),
    State.RUNNING: frozenset(
        {State.RECOVERED, State.SCHEDULED, State.HELD, State.EXHAUSTED, State.REJECTED, State.CANCELLED}
    ),
    State.UNRESOLVED: frozenset(
        {State.RUNNING, State.SCHEDULED, State.HELD, State.REJECTED, State.CANCELLED}
    ),
    State.HELD: frozenset(
        {
            State.HELD,  # its call made no clone, and a person wanted it held
            State.SCHEDULED,
            State.UNRESOLVED,
            State.RUNNING,
            State.REJECTED,
            State.CANCELLED,
        }
    ),
    State.RECOVERED: frozenset(),
    # Running: only for a run that is there already, someone else's retry. The others: a person.
    State.EXHAUSTED: frozenset({State.RUNNING, State.SCHEDULED, State.CANCELLED}),
    State.REJECTED: frozenset({State.RUNNING, State.SCHEDULED, State.CANCELLED}),
    State.CANCELLED: frozenset({State.SCHEDULED}),
}


@dataclass(frozen=True, slots=True)
class Hold:
    """Not for the policy to decide: a person has to, for this reason."""

    reason: str
    detail: str


_JOINS = frozenset({State.SCHEDULED, State.EXHAUSTED, State.REJECTED})
"""States that go on with a run that someone else made: no call of ours is under way, in doubt or watched."""
_CLAIMS = frozenset({State.SCHEDULED, State.RUNNING, *FINAL_STATES})
"""States in which such a run may be taken in beside what goes on."""

CONFLICT = "conflict"
"""The reason of a call that the API refused because of the execution's state (409)."""
DECIDED_BY_PERSON = "decided_by_person"
"""The reason of what a person settled or wants; who and why is the detail."""
CANCELLED_BY_PERSON = "cancelled_by_person"

Fact = str | int | float | bool | None


class IllegalTransitionError(Exception):
    """A change that the state machine does not know: a bug in the caller, never bad luck."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, for people and programs: a stable name and flat facts (`docs/events.md`)."""

    name: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that ended, as a change tells it."""

    uuid: str
    ended: Ended
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a lineage: what it was (None for a new one), what it becomes, and the story of it.

    Attributes:
        claims_clone: an execution that `after` takes as its own and that no other lineage may have.
        ran: a run whose end the change tells, for what is known of its workflow.
        parks: whether the lineage waits until its workflow has room for it.
    """

    before: Lineage | None
    after: Lineage
    events: tuple[Event, ...]
    claims_clone: str | None = None
    ran: EndedRun | None = None
    parks: bool = False


def discover(
    execution: Execution,
    *,
    failed_at: datetime,
    seen_at: datetime,
    source: str,
    dated: bool,
    decision: RetryAt | GiveUp | Hold,
    policy: Policy,
    policy_name: str,
) -> Change:
    """Begin a lineage for a failed execution, with the first decision already taken."""
    lineage = Lineage(
        root=execution.uuid,
        state=State.SCHEDULED,
        version=0,
        workflow_version_uuid=execution.workflow_version_uuid,
        workflow_uuid=execution.workflow_uuid,
        workflow_name=execution.workflow_name,
        fingerprint=execution.fingerprint,
        source=source,
        dated=dated,
        root_failed_at=failed_at,
        seen_at=seen_at,
        since=seen_at,
        failing=execution.uuid,
        last_failed_at=failed_at,
        failure_stamp=execution.updated_at,
        policy=policy_name,
        signature=Signature.of(execution),
    )
    found = Event("execution_discovered", {"execution_uuid": execution.uuid, "failed_at": _iso(failed_at)})
    if isinstance(decision, Hold):
        decided = hold(lineage, reason=decision.reason, detail=decision.detail, now=seen_at)
    else:
        decided = _decided(lineage, decision, policy, policy_name, seen_at)
    ran = EndedRun(execution.uuid, Ended.FAILED, failed_at)
    return Change(None, decided.after, (found, *decided.events), ran=ran)


def submit(lineage: Lineage, *, token: str, now: datetime, lease: timedelta, policy: Policy) -> Change:
    """Record the intent: from now until the lease ends, the holder of `token` may send the call."""
    intent = Intent(token=token, of=lineage.failing, at=now, lease_until=now + lease)
    after = _move(lineage, State.SUBMITTING, now, intent=intent)
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.failing,
        "attempt": lineage.next_attempt,
        "max_attempts": policy.max_attempts,
    }
    return Change(lineage, after, (Event("retry_submitted", facts),))


def accept(lineage: Lineage, clone: Execution, *, now: datetime, evidence: str) -> Change:
    """The intent made this clone: an attempt is spent and the clone is watched."""
    intent = _intent(lineage)
    attempt = Attempt(
        clone=clone.uuid,
        of=intent.of,
        delay=lineage.delay or timedelta(0),
        submitted_at=intent.at,
        accepted_at=now,
        evidence=evidence,
        alive=not clone.status.is_final,
    )
    after = _watching(lineage, attempt, now)
    facts: dict[str, Fact] = {
        "execution_uuid": intent.of,
        "clone_uuid": clone.uuid,
        "attempt": lineage.next_attempt,
        "evidence": evidence,
        "duration": _seconds(now - intent.at),
    }
    claims = None if attempt.in_place or clone.uuid in lineage.members else clone.uuid
    return Change(lineage, after, (Event("retry_accepted", facts),), claims_clone=claims)


def join(lineage: Lineage, run: Execution, *, made_at: datetime, now: datetime, evidence: str) -> Change:
    """Someone else retried the failed run: what was scheduled is dropped and that run is watched.

    It spends no attempt. A lineage that has ended goes on with it, and ends as before when it fails.
    """
    if lineage.state not in _JOINS:
        raise IllegalTransitionError(f"{lineage.root}: {lineage.state} does not take someone else's run")
    attempt = _joined(lineage, run, made_at, now, evidence)
    after = _watching(lineage, attempt, now)
    return Change(lineage, after, (_retry_joined(lineage, run, evidence),), claims_clone=run.uuid)


def claim_failed(
    lineage: Lineage, run: Execution, *, made_at: datetime, failed_at: datetime, now: datetime, evidence: str
) -> Change:
    """Someone else retried the failed run as well, and that run failed: it belongs here and changes nothing.

    It is put before the newest attempt: what is watched, and what the lineage ended with, stays the newest.
    """
    if lineage.state not in _CLAIMS:
        raise IllegalTransitionError(f"{lineage.root}: {lineage.state} cannot take in a run beside its own")
    attempt = replace(
        _joined(lineage, run, made_at, now, evidence), ended_at=max(failed_at, made_at), outcome="failed"
    )
    after = replace(
        lineage,
        version=lineage.version + 1,
        attempts=(*lineage.attempts[:-1], attempt, *lineage.attempts[-1:]),
    )
    told = _retry_joined(lineage, run, evidence, f"it changes nothing: the lineage stays {lineage.state}")
    ran = EndedRun(run.uuid, Ended.FAILED, failed_at)
    return Change(lineage, after, (told,), claims_clone=run.uuid, ran=ran)


def followed_by(first: Change, second: Change) -> Change:
    """Return two steps as one change: stored together or not at all."""
    after = replace(second.after, version=first.after.version)
    events = (*first.events, *second.events)
    return replace(second, before=first.before, after=after, events=events, claims_clone=first.claims_clone)


def not_delivered(
    lineage: Lineage,
    *,
    reason: str,
    detail: str,
    due_at: datetime,
    now: datetime,
    http_status: int | None = None,
) -> Change:
    """The call certainly made no clone: try again at `due_at`. No attempt is spent."""
    intent = _intent(lineage)
    after = _move(
        lineage,
        State.SCHEDULED,
        now,
        reason,
        detail,
        due_at=due_at,
        undelivered=lineage.undelivered + 1,
        conflicts=lineage.conflicts + 1 if reason == CONFLICT else 0,
    )
    facts: dict[str, Fact] = {
        "execution_uuid": intent.of,
        "attempt": lineage.next_attempt,
        "reason": reason,
        "detail": detail,
        "http_status": http_status,
        "due_at": _iso(due_at),
        "delay": _seconds(due_at - now),
    }
    told = (Event("retry_not_delivered", facts),)
    return _obeyed(Change(lineage, after, told), now, told)


def unresolve(
    lineage: Lineage, *, reason: str, detail: str, now: datetime, http_status: int | None = None
) -> Change:
    """The call may have made a clone: nothing is sent until that is known."""
    intent = _intent(lineage)
    doubted = replace(intent, doubted=True)
    after = _move(lineage, State.UNRESOLVED, now, reason, detail, intent=doubted)
    facts: dict[str, Fact] = {
        "execution_uuid": intent.of,
        "attempt": lineage.next_attempt,
        "reason": reason,
        "detail": detail,
        "http_status": http_status,
    }
    return Change(lineage, after, (Event("retry_unresolved", facts),))


def hold(lineage: Lineage, *, reason: str, detail: str, now: datetime) -> Change:
    """Stop here until a person decides."""
    after = _move(lineage, State.HELD, now, reason, detail)
    facts = {"execution_uuid": lineage.failing, "reason": reason, "detail": detail}
    return Change(lineage, after, (Event("retry_held", facts),))


def by_person(change: Change, *, decision: str, by: str, why: str, **facts: Fact) -> Change:
    """Say first, on the same record, that a person decided, who and why; then what follows from it."""
    said = Event("person_decided", {"decision": decision, "by": by, "why": why, **facts})
    return replace(change, events=(said, *change.events))


def cancel(lineage: Lineage, *, detail: str, now: datetime) -> Change:
    """Final: a person wants no further attempt. An intent is kept only if nobody knows what became of it."""
    in_doubt = lineage.intent if lineage.is_in_doubt else None
    after = _move(lineage, State.CANCELLED, now, CANCELLED_BY_PERSON, detail, due_at=None, intent=in_doubt)
    after = replace(after, ended_before=None)
    facts = {"execution_uuid": lineage.failing, "reason": CANCELLED_BY_PERSON, "detail": detail}
    return Change(lineage, after, (Event("retry_cancelled", facts),))


def put_off(lineage: Lineage, order: Order | None) -> Change:
    """Note what a person wants, to be done when the lineage would be scheduled again; None takes it back."""
    if lineage.state not in FLYING_STATES and not lineage.is_in_doubt:
        raise IllegalTransitionError(f"{lineage.root}: an order is carried out at once while {lineage.state}")
    return Change(lineage, replace(lineage, version=lineage.version + 1, order=order), ())


def schedule_by_hand(
    lineage: Lineage, *, due_at: datetime, detail: str, now: datetime, order: Order | None = None
) -> Change:
    """A person wants the next attempt at `due_at`; with an order to retry, whatever the policy says."""
    after = _move(lineage, State.SCHEDULED, now, DECIDED_BY_PERSON, detail, due_at=due_at, order=order)
    whatever_its_log_says = order is not None or lineage.reason == LOG_RULE
    overruled = lineage.failing if whatever_its_log_says else lineage.overruled
    after = replace(after, ended_before=None, delay=None, overruled=overruled)
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.failing,
        "attempt": lineage.next_attempt,
        "delay": _seconds(due_at - lineage.last_failed_at),
        "due_at": _iso(due_at),
        "policy": lineage.policy,
        "rule": DECIDED_BY_PERSON,
        "why": detail,
    }
    return Change(lineage, after, (Event("retry_scheduled", facts),))


def reject(
    lineage: Lineage, *, reason: str, detail: str, now: datetime, http_status: int | None = None
) -> Change:
    """Final: this failure will not be retried, for a reason that more attempts would not change."""
    after = _move(lineage, State.REJECTED, now, reason, detail)
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.failing,
        "attempt": lineage.next_attempt,
        "reason": reason,
        "detail": detail,
        "http_status": http_status,
    }
    return Change(lineage, after, (Event("retry_rejected", facts),))


def give_up(lineage: Lineage, verdict: GiveUp, policy: Policy, policy_name: str, *, now: datetime) -> Change:
    """Final: the policy allows no further attempt (asked again just before a call)."""
    return _decided(lineage, verdict, policy, policy_name, now)


def recover(lineage: Lineage, *, now: datetime, ended_at: datetime, detail: str = "") -> Change:
    """Final: the newest run completed."""
    attempts = _ended(lineage, ended_at, "completed")
    after = _move(lineage, State.RECOVERED, now, "completed", detail, attempts=attempts)
    facts: dict[str, Fact] = {
        "execution_uuid": attempts[-1].clone if attempts else lineage.failing,
        "attempt": lineage.made,
        "duration": _seconds(ended_at - lineage.root_failed_at),
    }
    ran = _clone_ended(lineage, ended_at, Ended.CLONE_COMPLETED, Ended.COMPLETED)
    return Change(lineage, after, (Event("execution_recovered", facts),), ran=ran)


def fail_again(
    lineage: Lineage,
    clone: Execution,
    decision: RetryAt | GiveUp,
    *,
    failed_at: datetime,
    now: datetime,
    policy: Policy,
    policy_name: str,
    strikes: int = 1,
) -> Change:
    """The watched clone failed: the policy's decision follows at once.

    Where the lineage had ended before someone else retried it, it ends as it did then, whatever is decided.
    `strikes` is how many equal failures in a row that makes.
    """
    failed = replace(
        lineage,
        attempts=_ended(lineage, failed_at, "failed"),
        failing=clone.uuid,
        last_failed_at=failed_at,
        failure_stamp=clone.updated_at,
        missing_since=None,
        signature=Signature.of(clone),
        strikes=strikes,
        struck_since=struck_since(lineage, clone) if strikes > 1 else None,
    )
    where = failed.signature.in_words if failed.signature else ""
    facts: dict[str, Fact] = {
        "execution_uuid": clone.uuid,
        "attempt": lineage.made,
        "failed_at_step": where,
        "strikes": strikes,
    }
    decided = _decided(failed, decision, policy, policy_name, now)
    if lineage.ended_before and decided.after.state is not State.CANCELLED:
        decided = _ends_as(failed, lineage.ended_before, now)
    ran = _clone_ended(lineage, failed_at, Ended.CLONE_FAILED, Ended.FAILED)
    return Change(lineage, decided.after, (Event("attempt_failed", facts), *decided.events), ran=ran)


def run_is_gone(
    lineage: Lineage, decision: RetryAt | GiveUp, *, now: datetime, policy: Policy, policy_name: str
) -> Change:
    """The run that someone else made is not there any more: go on as if it had never been made.

    The policy decides anew about the failure that it was a retry of. Where the lineage had ended before, it
    ends as it did then, whatever is decided.
    """
    if lineage.state is not State.RUNNING or not lineage.newest.joined:
        raise IllegalTransitionError(f"{lineage.root}: does not watch a run of someone else")
    note = f"the run {lineage.newest.clone} that someone else made is not there any more"
    left = replace(lineage, attempts=_ended(lineage, now, "unknown"), missing_since=None)
    if isinstance(decision, RetryAt):
        decision = replace(decision, why=_and(decision.why, note))
    else:
        decision = replace(decision, detail=_and(decision.detail, note))
    decided = _decided(left, decision, policy, policy_name, now)
    if lineage.ended_before and decided.after.state is not State.CANCELLED:
        decided = _ends_as(left, lineage.ended_before, now, note)
    return replace(decided, before=lineage)


def struck_since(lineage: Lineage, failed: Execution) -> datetime | None:
    """Return since when the lineage fails the way this run failed; None when it never did before."""
    signature = Signature.of(failed)
    if signature is None or not signature.same_as(lineage.signature):
        return None
    return lineage.struck_since or lineage.last_failed_at


def defer(
    lineage: Lineage, *, reason: Limit | str, detail: str, now: datetime, due_at: datetime | None = None
) -> Change:
    """It is due and has to wait all the same; the reason is put on record.

    Args:
        lineage: scheduled.
        reason: what holds it up.
        detail: the same with its figures.
        now: by the Redis server's clock.
        due_at: until when; None = until its workflow has room for it.
    """
    changes = {} if due_at is None else {"due_at": due_at}
    after = _move(lineage, State.SCHEDULED, now, str(reason), detail, **changes)
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.failing,
        "attempt": lineage.next_attempt,
        "reason": str(reason),
        "detail": detail,
        "due_at": _iso(due_at) if due_at else None,
    }
    return Change(lineage, after, (Event("retry_deferred", facts),), parks=due_at is None)


def stop_watching(lineage: Lineage, *, reason: str, detail: str, now: datetime) -> Change:
    """Final: the clone did not end while we watched, so another one must not be made."""
    after = _move(lineage, State.EXHAUSTED, now, reason, detail, attempts=_ended(lineage, now, "unknown"))
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.newest.clone,
        "attempt": lineage.made,
        "reason": reason,
        "detail": detail,
    }
    return _obeyed(Change(lineage, after, (Event("retries_exhausted", facts),)), now)


def observe(lineage: Lineage, *, alive: bool = False, missing_since: datetime | None = None) -> Change:
    """Note what a look at the running clone showed, without leaving the state. Tells no story."""
    if lineage.state is not State.RUNNING:
        raise IllegalTransitionError(f"{lineage.root}: cannot look at a clone while {lineage.state}")
    newest = replace(lineage.newest, alive=lineage.newest.alive or alive)
    after = replace(
        lineage,
        version=lineage.version + 1,
        attempts=(*lineage.attempts[:-1], newest),
        missing_since=missing_since,
    )
    return Change(lineage, after, ())


def _decided(
    lineage: Lineage, decision: RetryAt | GiveUp, policy: Policy, policy_name: str, now: datetime
) -> Change:
    """Act on the policy's decision: schedule, or end with its reason."""
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.failing,
        "attempt": lineage.next_attempt,
        "max_attempts": policy.max_attempts,
        "policy": policy_name,
    }
    if isinstance(decision, RetryAt):
        after = _move(
            lineage,
            State.SCHEDULED,
            now,
            decision.rule.value,
            decision.why,
            due_at=decision.due_at,
            delay=decision.delay,
            policy=policy_name,
        )
        facts |= {
            "delay": _seconds(decision.delay),
            "due_at": _iso(decision.due_at),
            "rule": decision.rule.value,
            "why": decision.why,
        }
        return _obeyed(Change(lineage, after, (Event("retry_scheduled", facts),)), now)
    refused = decision.reason is GiveUpReason.POLICY_DISABLED
    state, name = (State.REJECTED, "retry_rejected") if refused else (State.EXHAUSTED, "retries_exhausted")
    facts |= {"attempt": lineage.made, "reason": decision.reason.value, "detail": decision.detail}
    after = _move(
        lineage, state, now, decision.reason.value, decision.detail, due_at=None, policy=policy_name
    )
    return _obeyed(Change(lineage, after, (Event(name, facts),)), now)


def _obeyed(change: Change, now: datetime, told: tuple[Event, ...] = ()) -> Change:
    """Do what a person asked for while the attempt was under way, instead of what was decided about the next.

    An end that a person wanted counts where the policy gives up as well: they have put the failure away, and
    nobody else need look at it. `told` is what happened in any case.
    """
    before, decided = change.before, change.after
    order = before.order if before else None
    if before is None or order is None or order.wish is Wish.RETRY:
        return change
    # From the state before: what was decided for a moment is stored nowhere.
    left = replace(decided, state=before.state, version=before.version, order=None)
    if order.wish is Wish.CANCEL:
        # What was in doubt is settled, or nothing would be decided about the next attempt.
        instead = cancel(replace(left, intent=None), detail=order.detail, now=now)
    elif decided.state.is_final:
        return change
    else:
        left = replace(left, order=retry_before(order))
        instead = hold(left, reason=HELD_BY_PERSON, detail=order.detail, now=now)
    return Change(before, instead.after, (*told, *instead.events))


def retry_before(order: Order | None) -> Order | None:
    """Return the retry that somebody wanted before this order, and that no call has made yet."""
    return Order(Wish.RETRY, order.of, order.detail) if order and order.of else None


def _without_retry(order: Order | None) -> Order | None:
    """Return what is left of an order when a call was made: nothing of a retry."""
    return None if order is None or order.wish is Wish.RETRY else replace(order, of="")


def _ends_as(lineage: Lineage, ending: Ending, now: datetime, note: str = "") -> Change:
    """End for the reason for which it had ended before someone else retried it; the event tells the note."""
    name = "retry_rejected" if ending.state is State.REJECTED else "retries_exhausted"
    facts: dict[str, Fact] = {
        "execution_uuid": lineage.failing,
        "attempt": lineage.made,
        "reason": ending.reason,
        "detail": _and(ending.detail, note),
    }
    after = _move(lineage, ending.state, now, ending.reason, ending.detail)
    return Change(lineage, after, (Event(name, facts),))


def _joined(lineage: Lineage, run: Execution, made_at: datetime, now: datetime, evidence: str) -> Attempt:
    return Attempt(
        clone=run.uuid,
        of=lineage.failing,
        delay=lineage.delay or timedelta(0),
        submitted_at=min(made_at, now),
        accepted_at=now,
        evidence=evidence,
        alive=not run.status.is_final,
        joined=True,
    )


def _retry_joined(lineage: Lineage, run: Execution, evidence: str, detail: str = "") -> Event:
    facts = {
        "execution_uuid": lineage.failing,
        "clone_uuid": run.uuid,
        "evidence": evidence,
        "status": run.status.value,
        "detail": detail,
    }
    return Event("retry_joined", facts)


def _watching(lineage: Lineage, attempt: Attempt, now: datetime) -> Lineage:
    """Return the lineage with a new run to watch; what there was of a call is settled."""
    return _move(
        lineage,
        State.RUNNING,
        now,
        order=_without_retry(lineage.order),
        attempts=(*lineage.attempts, attempt),
        intent=None,
        due_at=None,
        undelivered=0,
        conflicts=0,
    )


def _move(
    lineage: Lineage, to: State, now: datetime, reason: str = "", detail: str = "", **changes: object
) -> Lineage:
    """Return the next version of the lineage in state `to`, if the state machine has that edge."""
    begins = lineage.version == 0 and to is State.SCHEDULED
    if to not in EDGES[lineage.state] and not begins:
        raise IllegalTransitionError(f"{lineage.root}: {lineage.state} cannot become {to}")
    ended = Ending(lineage.state, lineage.reason, lineage.detail) if lineage.state.is_final else None
    told = {"since": now, "reason": reason, "detail": detail, "ended_before": ended}
    if to.is_final:
        told["order"] = None  # what a person wanted is done, or nothing is left to be done
    return replace(lineage, state=to, version=lineage.version + 1, **told, **changes)  # type: ignore[arg-type]  # checked by replace


def _intent(lineage: Lineage) -> Intent:
    if lineage.intent is None:
        raise IllegalTransitionError(f"{lineage.root}: no retry call is on record while {lineage.state}")
    return lineage.intent


def _ended(lineage: Lineage, at: datetime, outcome: str) -> tuple[Attempt, ...]:
    if lineage.state is not State.RUNNING:
        return lineage.attempts
    return (*lineage.attempts[:-1], replace(lineage.newest, ended_at=at, outcome=outcome))


def _clone_ended(lineage: Lineage, at: datetime, ours: Ended, joined: Ended) -> EndedRun | None:
    """Return the end of the run that was watched; None when none was."""
    if lineage.state is not State.RUNNING:
        return None
    return EndedRun(lineage.newest.clone, joined if lineage.newest.joined else ours, at)


def _and(words: str, note: str) -> str:
    return "; ".join(each for each in (words, note) if each)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(duration: timedelta) -> float:
    return round(duration.total_seconds(), 3)
