"""What a person may want of a lineage: what it means in each state, and why it cannot be had. Pure.

Every order is one change of one version of the record, so of two people who act at the same time one is told
that the other was first. Nothing here ever makes a second clone of a failure whose first may still be
running, unless the person says so (`beside`).
"""

from __future__ import annotations

from datetime import datetime

from worker.domain import transitions
from worker.domain.lineage import FLYING_STATES, HELD_BY_PERSON, Lineage, Order, State, Wish
from worker.domain.transitions import Change

OWN_LINEAGE = "clone_has_own_lineage"
_MAYBE_A_CLONE = "a retry call of it may have made a clone"
_BESIDE = "look in Kinetic: where none is alive, --beside-clone retries it all the same"
_NOT_NOW = {
    State.RECOVERED: "it recovered: a run completed, another one would do the same work twice",
    State.SUBMITTING: "its retry call is under way at this moment",
    State.UNRESOLVED: f"{_MAYBE_A_CLONE}, and that is being found out; see `resolve`",
}


class RefusedError(Exception):
    """It cannot be had; the message says why and what can be done, without naming the lineage."""


def retry(lineage: Lineage, *, detail: str, now: datetime, beside: bool = False) -> Change:
    """Schedule one attempt at once, whatever policy, breaker and budgets say.

    Pauses and the gate still count.

    Args:
        lineage: scheduled, held or ended.
        detail: who wants it, and why.
        now: by the Redis server's clock.
        beside: although a clone that was never seen to end may still be running, or one may exist.

    Raises:
        RefusedError: there is nothing to retry, or it may make a second clone.
    """
    refused = why_not_retry(lineage, beside=beside)
    if refused:
        raise RefusedError(refused)
    order = Order(Wish.RETRY, lineage.failing, detail)
    return transitions.schedule_by_hand(lineage, due_at=now, detail=detail, now=now, order=order)


def why_not_retry(lineage: Lineage, *, beside: bool = False) -> str | None:
    """Return why a lineage must not be retried by hand, in words; None when it may."""
    if lineage.state in _NOT_NOW:
        return _NOT_NOW[lineage.state]
    match lineage.state:
        case State.RUNNING:
            return f"its clone {lineage.newest.clone} is running; it is retried when that fails"
        case State.SCHEDULED:
            return _ordered_already(lineage)
        case State.HELD:
            return f"{_MAYBE_A_CLONE}: decide that first, with `resolve`" if lineage.is_in_doubt else None
        case State.REJECTED if _goes_on_elsewhere(lineage):
            return f"{_elsewhere(lineage)}: retry that one"
    return None if beside else _living_clone(lineage)


def _ordered_already(lineage: Lineage) -> str | None:
    due_at = lineage.due_at
    if lineage.is_ordered and lineage.order and due_at and due_at <= lineage.since:
        return f"it is retried already, as a person wants ({lineage.order.detail})"
    return None


def _living_clone(lineage: Lineage) -> str | None:
    """Return what may still be running of a lineage that has ended; None when nothing can."""
    if lineage.is_in_doubt:
        return f"it was cancelled while nobody knew whether its retry call had made a clone; {_BESIDE}"
    newest = lineage.newest if lineage.attempts else None
    if newest and newest.outcome != "failed" and newest.of == lineage.failing:
        return f"its clone {newest.clone} was never seen to end, and may still be running; {_BESIDE}"
    return None


def hold(lineage: Lineage, *, detail: str, now: datetime) -> Change:
    """Let no further attempt start before a person releases it; a clone that runs is followed to its end.

    Raises:
        RefusedError: it is held already, or has ended.
    """
    if lineage.state is State.HELD:
        raise RefusedError(f"it is held already ({lineage.reason})")
    if lineage.state.is_final:
        raise RefusedError(f"it has ended, nothing would be retried: {_standing(lineage)}")
    if lineage.state in FLYING_STATES:
        return _put_off(lineage, Wish.HOLD, detail)
    return transitions.hold(lineage, reason=HELD_BY_PERSON, detail=detail, now=now)


def cancel(lineage: Lineage, *, detail: str, now: datetime) -> Change:
    """Let no further attempt start; a clone that runs is followed to its end, and a dead letter is put away.

    Raises:
        RefusedError: it recovered, is cancelled already, or goes on as another lineage.
    """
    if lineage.state in (State.RECOVERED, State.CANCELLED):
        raise RefusedError(f"it has ended already: {_standing(lineage)}")
    if _goes_on_elsewhere(lineage):  # as a cancelled one, nobody would know any more that it has a clone
        raise RefusedError(f"{_elsewhere(lineage)}: cancel that one")
    if lineage.state in FLYING_STATES:
        return _put_off(lineage, Wish.CANCEL, detail)
    return transitions.cancel(lineage, detail=detail, now=now)


def release(lineage: Lineage, *, detail: str, now: datetime, due_at: datetime | None = None) -> Change:
    """Let a held lineage go on, or take back a hold or an end that was asked for and is not carried out yet.

    Args:
        lineage: held, or with such an order.
        detail: who wants it, and why.
        now: by the Redis server's clock.
        due_at: when the policy has its next attempt; None = at once. One that a person held keeps its time.

    Raises:
        RefusedError: nothing holds it, or a call of it is in doubt.
    """
    wished = lineage.order is not None and lineage.order.wish is not Wish.RETRY
    if wished and (lineage.state in FLYING_STATES or lineage.is_in_doubt):
        return transitions.put_off(lineage, transitions.retry_before(lineage.order))
    if lineage.state is not State.HELD:
        raise RefusedError(f"nothing holds it: {_standing(lineage)}")
    if lineage.is_in_doubt:
        raise RefusedError(f"{_MAYBE_A_CLONE}: decide that first, with `resolve`")
    wanted = lineage.due_at if lineage.reason == HELD_BY_PERSON and lineage.due_at else due_at
    order = lineage.order if lineage.is_ordered else None  # a retry that was wanted before the hold
    due = max(now, wanted or now)
    return transitions.schedule_by_hand(lineage, due_at=due, detail=detail, now=now, order=order)


def _put_off(lineage: Lineage, wish: Wish, detail: str) -> Change:
    if lineage.order and lineage.order.wish is wish:
        raise RefusedError(
            f"that is wanted already ({lineage.order.detail}), and done when its attempt has ended"
        )
    of = lineage.order.of if lineage.order else ""
    return transitions.put_off(lineage, Order(wish, of, detail))


def _goes_on_elsewhere(lineage: Lineage) -> bool:
    return lineage.state is State.REJECTED and lineage.reason == OWN_LINEAGE


def _elsewhere(lineage: Lineage) -> str:
    return lineage.detail or "its clone is followed as a lineage of its own"


def _standing(lineage: Lineage) -> str:
    return f"{lineage.state} ({lineage.reason})" if lineage.reason else lineage.state.value
