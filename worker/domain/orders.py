"""What a person may want of a lineage: what it means in each state, and why it cannot be had. Pure.

Every order is one change of one version of the record, so of two people who act at the same time one is told
that the other was first. Nothing here ever makes a second clone of a failure whose first may still be running,
unless the person says so (`beside`).
"""

from __future__ import annotations

from datetime import datetime

from worker.domain import transitions
from worker.domain.lineage import FLYING_STATES, HELD_BY_PERSON, Lineage, Order, State, Wish
from worker.domain.transitions import Change

OWN_LINEAGE = "clone_has_own_lineage"
MAY_BE_A_CLONE = "may_be_a_clone"


class RefusedError(Exception):
    """It cannot be had; the message says why and what can be done, without naming the lineage."""


def retry(lineage: Lineage, *, detail: str, now: datetime, beside: bool = False) -> Change:
    """Schedule one attempt at once, whatever policy, breaker and budgets say; pauses and the gate still count.

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
    newest = lineage.newest if lineage.attempts else None
    match lineage.state:
        case State.RECOVERED:
            return "it recovered: a run completed, another one would do the same work twice"
        case State.RUNNING:
            return f"its clone {lineage.newest.clone} is running; it is retried when that fails"
        case State.SUBMITTING:
            return "its retry call is under way at this moment"
        case State.UNRESOLVED:
            return "a retry call of it may have made a clone, and that is being found out; see `resolve`"
        case State.HELD if lineage.is_in_doubt:
            return "a retry call of it may have made a clone: decide that first, with `resolve`"
        case State.REJECTED if lineage.reason == OWN_LINEAGE:
            return f"its clone is followed as a lineage of its own ({lineage.detail}); retry that one"
        case State.CANCELLED if lineage.is_in_doubt and not beside:
            return "it was cancelled while nobody knew whether its retry call had made a clone"
    if newest and newest.outcome != "failed" and newest.of == lineage.failing and not beside:
        return f"its clone {newest.clone} was never seen to end, and may still be running"
    return None


def hold(lineage: Lineage, *, detail: str, now: datetime) -> Change:
    """Let no further attempt start before a person releases it; a clone that runs is followed to its end.

    Raises:
        RefusedError: it is held already, or has ended.
    """
    if lineage.state is State.HELD:
        raise RefusedError(f"it is held already ({lineage.reason})")
    if lineage.state.is_final:
        raise RefusedError(f"it has ended, nothing would be retried: {lineage.state} ({lineage.reason})")
    if lineage.state in FLYING_STATES:
        return _put_off(lineage, Wish.HOLD, detail)
    return transitions.hold(lineage, reason=HELD_BY_PERSON, detail=detail, now=now)


def cancel(lineage: Lineage, *, detail: str, now: datetime) -> Change:
    """Let no further attempt start; a clone that runs is followed to its end, and a dead letter is put away.

    Raises:
        RefusedError: it recovered, or is cancelled already.
    """
    if lineage.state in (State.RECOVERED, State.CANCELLED):
        raise RefusedError(f"it has ended already: {lineage.state}")
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
    if lineage.state in FLYING_STATES and lineage.order:
        return transitions.put_off(lineage, None)
    if lineage.state is not State.HELD:
        raise RefusedError(f"nothing holds it: {lineage.state}")
    if lineage.is_in_doubt:
        raise RefusedError("a retry call of it may have made a clone: decide that first, with `resolve`")
    wanted = lineage.due_at if lineage.reason == HELD_BY_PERSON and lineage.due_at else due_at
    return transitions.schedule_by_hand(lineage, due_at=max(now, wanted or now), detail=detail, now=now)


def _put_off(lineage: Lineage, wish: Wish, detail: str) -> Change:
    if lineage.order and lineage.order.wish is wish:
        raise RefusedError(
            f"that is wanted already ({lineage.order.detail}), and done when its attempt has ended"
        )
    return transitions.put_off(lineage, Order(wish, "", detail))
