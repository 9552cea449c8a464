"""What a person may want of a lineage in every state, and that no order makes a second clone in silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import NOW, PLAIN, discovered, execution, running, submitting
from worker.domain import orders, transitions
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State, Wish
from worker.domain.orders import RefusedError
from worker.domain.policy import GiveUp, GiveUpReason, RetryAt
from worker.domain.transitions import Change, Hold

LATER = NOW + timedelta(seconds=30)
HOUR = timedelta(hours=1)
ANN, BOB = "ann@ops: asked the payer", "bob@ops: no"
GIVEN_UP = GiveUp(GiveUpReason.ATTEMPTS_USED_UP, "3 of 3 attempts were made")
SOON = RetryAt(2, LATER, timedelta(seconds=40))


def fails(lineage: Lineage, decision: RetryAt | GiveUp = SOON) -> Change:
    failed = execution(lineage.newest.clone, updated_at=LATER)
    return transitions.fail_again(
        lineage, failed, decision, failed_at=LATER, now=LATER, policy=PLAIN, policy_name="default"
    )


def unresolved() -> Lineage:
    return transitions.unresolve(submitting(discovered().after).after, reason="x", detail="", now=NOW).after


def delivered_not(lineage: Lineage) -> Change:
    return transitions.not_delivered(lineage, reason="no_clone_found", detail="", due_at=LATER, now=NOW)


def held(reason: str = "unclear") -> Lineage:
    return transitions.hold(unresolved(), reason=reason, detail="two may be it", now=NOW).after


def suspect() -> Lineage:
    return transitions.discover(
        execution(),
        failed_at=NOW,
        seen_at=NOW,
        source="list",
        dated=True,
        decision=Hold("may_be_a_clone", "it may be the clone of the held lineage other"),
        policy=PLAIN,
        policy_name="default",
    ).after


def never_ended() -> Lineage:
    alive = running(discovered().after).after
    return transitions.stop_watching(alive, reason="watch_timeout", detail="24 h", now=NOW).after


def refused(lineage: Lineage, reason: str, detail: str = "") -> Lineage:
    return transitions.reject(lineage, reason=reason, detail=detail, now=NOW).after


def hold(lineage: Lineage, detail: str = ANN) -> Lineage:
    return orders.hold(lineage, detail=detail, now=NOW).after


def cancel(lineage: Lineage, detail: str = ANN) -> Lineage:
    return orders.cancel(lineage, detail=detail, now=NOW).after


MADE: dict[str, Callable[[], Lineage]] = {
    "scheduled": lambda: discovered().after,
    "submitting": lambda: submitting(discovered().after).after,
    "unresolved": unresolved,
    "running": lambda: running(discovered().after).after,
    "held, in doubt": held,
    "held, by a person": lambda: hold(discovered().after),
    "held, by its log": lambda: (
        transitions.hold(discovered().after, reason="log_rule", detail="", now=NOW).after
    ),
    "held, may be a clone": suspect,
    "recovered": lambda: (
        transitions.recover(running(discovered().after).after, now=LATER, ended_at=LATER).after
    ),
    "exhausted": lambda: fails(running(discovered().after).after, GIVEN_UP).after,
    "exhausted, never ended": never_ended,
    "rejected": lambda: refused(submitting(discovered().after).after, "validation_error"),
    "rejected, clone unknown": lambda: refused(running(discovered().after).after, "clone_not_found"),
    "rejected, clone elsewhere": lambda: refused(
        submitting(discovered().after).after, "clone_has_own_lineage", "its clone c9 is followed as a lineage"
    ),
    "cancelled": lambda: cancel(discovered().after),
    "cancelled, in doubt": lambda: cancel(held()),
}
"""A lineage in every state, and in every way that matters."""

TABLE = {
    #                            retry       beside    hold      cancel      release
    "scheduled": ("scheduled", "scheduled", "held", "cancelled", "nothing holds it"),
    "submitting": ("under way", "under way", "later", "later", "nothing holds it"),
    "unresolved": ("found out", "found out", "later", "later", "nothing holds it"),
    "running": ("is running", "is running", "later", "later", "nothing holds it"),
    "held, in doubt": ("decide that first", "decide that first", "held already", "cancelled", "decide that"),
    "held, by a person": ("scheduled", "scheduled", "held already", "cancelled", "scheduled"),
    "held, by its log": ("scheduled", "scheduled", "held already", "cancelled", "scheduled"),
    "held, may be a clone": ("scheduled", "scheduled", "held already", "cancelled", "scheduled"),
    "recovered": ("it recovered", "it recovered", "has ended", "ended already", "nothing holds it"),
    "exhausted": ("scheduled", "scheduled", "has ended", "cancelled", "nothing holds it"),
    "exhausted, never ended": ("never seen to end", "scheduled", "has ended", "cancelled", "nothing holds"),
    "rejected": ("scheduled", "scheduled", "has ended", "cancelled", "nothing holds it"),
    "rejected, clone unknown": ("never seen to end", "scheduled", "has ended", "cancelled", "nothing holds"),
    "rejected, clone elsewhere": (
        "retry that one",
        "retry that one",
        "has ended",
        "cancel that one",
        "nothing",
    ),
    "cancelled": ("scheduled", "scheduled", "has ended", "ended already", "nothing holds it"),
    "cancelled, in doubt": ("nobody knew", "scheduled", "has ended", "ended already", "nothing holds it"),
}
"""What each order makes of each: a state, `later` for an order that waits, or words of the refusal."""


def carried_out(order: str, lineage: Lineage) -> Change:
    if order in ("retry", "beside"):
        return orders.retry(lineage, detail=ANN, now=LATER, beside=order == "beside")
    return {"hold": orders.hold, "cancel": orders.cancel, "release": orders.release}[order](
        lineage, detail=ANN, now=LATER
    )


@pytest.mark.parametrize("order", ["retry", "beside", "hold", "cancel", "release"])
@pytest.mark.parametrize("which", MADE)
def test_every_order_in_every_state(which: str, order: str) -> None:
    """It leads to one state and says so, waits for what is under way, or is refused with words."""
    lineage = MADE[which]()
    expected = TABLE[which][["retry", "beside", "hold", "cancel", "release"].index(order)]
    if expected == "later":
        change = carried_out(order, lineage)
        assert (change.after.state, change.events) == (lineage.state, ())
        assert change.after.order is not None
        assert (change.after.order.wish, change.after.order.detail) == (Wish(order), ANN)
    elif expected in list(State):
        change = carried_out(order, lineage)
        assert change.after.state.value == expected
        assert ANN in change.after.detail
        assert len(change.events) == 1
    else:
        with pytest.raises(RefusedError, match=expected):
            carried_out(order, lineage)
        return
    assert change.after.version == lineage.version + 1
    assert change.before == lineage


def test_a_dead_letter_gets_one_attempt_more_whatever_the_policy_says() -> None:
    """Due now, by order; the clone carries it out, and then the policy decides again."""
    again = orders.retry(MADE["exhausted"](), detail=ANN, now=LATER).after
    assert again.is_ordered
    assert (again.due_at, again.reason, again.detail) == (LATER, "decided_by_person", ANN)
    clone = execution("clone-2", Status.QUEUED)
    alive = transitions.accept(submitting(again).after, clone, now=LATER, evidence="201").after
    assert (alive.order, alive.made) == (None, 2)
    assert fails(alive, GIVEN_UP).after.state is State.EXHAUSTED


def test_an_order_to_retry_outlives_a_call_that_made_no_clone() -> None:
    """An attempt is spent only by a clone: what a person wanted is not done yet."""
    ordered = orders.retry(MADE["exhausted"](), detail=ANN, now=NOW).after
    assert delivered_not(submitting(ordered).after).after.is_ordered


def test_an_order_to_retry_twice_is_told_who_was_first() -> None:
    """A second person learns of the first; what a failed call put off may be brought forward."""
    ordered = orders.retry(MADE["exhausted"](), detail=ANN, now=NOW).after
    with pytest.raises(RefusedError, match="ann@ops: asked the payer"):
        orders.retry(ordered, detail=BOB, now=LATER)
    put_back = delivered_not(submitting(ordered).after).after
    assert put_back.due_at == LATER
    assert orders.retry(put_back, detail=BOB, now=NOW).after.due_at == NOW


@pytest.mark.parametrize("which", ["submitting", "unresolved", "running"])
@pytest.mark.parametrize(("wish", "ends"), [(Wish.HOLD, State.HELD), (Wish.CANCEL, State.CANCELLED)])
def test_what_was_asked_for_under_way_is_done_instead_of_the_next_attempt(
    which: str, wish: Wish, ends: State
) -> None:
    """The clone failed, or there was none: no attempt is scheduled; what happened is told before."""
    wanted = (hold if wish is Wish.HOLD else cancel)(MADE[which]())
    change = fails(wanted) if wanted.state is State.RUNNING else delivered_not(wanted)
    assert (change.after.state, change.after.detail, change.after.order) == (ends, ANN, None)
    happened = "attempt_failed" if which == "running" else "retry_not_delivered"
    then = "retry_held" if wish is Wish.HOLD else "retry_cancelled"
    assert [event.name for event in change.events] == [happened, then]
    assert change.after.version == wanted.version + 1
    assert not change.after.is_in_doubt


def test_a_clone_that_completes_has_recovered_it_whatever_was_asked_for() -> None:
    """Work that is done is done."""
    wanted = cancel(running(discovered().after).after)
    recovered = transitions.recover(wanted, now=LATER, ended_at=LATER).after
    assert (recovered.state, recovered.order) == (State.RECOVERED, None)


def test_a_dead_letter_that_was_cancelled_meanwhile_is_put_away() -> None:
    """The policy gives up at the same moment: nobody else need look at it. One that was held has ended."""
    alive = running(discovered().after).after
    assert fails(cancel(alive), GIVEN_UP).after.state is State.CANCELLED
    held_back = fails(hold(alive), GIVEN_UP).after
    assert (held_back.state, held_back.reason) == (State.EXHAUSTED, "attempts_used_up")


def test_a_cancelled_dead_letter_stays_cancelled_when_someone_elses_retry_fails() -> None:
    """It had ended, someone retried it, a person cancels it: not the verdict of before again."""
    dead = MADE["exhausted"]()
    run = execution("theirs", Status.RUNNING)
    joined = transitions.join(dead, run, made_at=NOW, now=NOW, evidence="same payload").after
    assert fails(joined).after.state is State.EXHAUSTED
    assert fails(cancel(joined)).after.state is State.CANCELLED
    gone = transitions.run_is_gone(cancel(joined), SOON, now=LATER, policy=PLAIN, policy_name="default")
    assert (gone.after.state, gone.before) == (State.CANCELLED, cancel(joined))


def test_a_hold_that_was_asked_for_outlives_a_doubt() -> None:
    """Held for its call, then settled by a second person: it stays held, as the first wanted."""
    unclear = transitions.hold(hold(unresolved()), reason="unclear", detail="", now=NOW).after
    settled = transitions.not_delivered(unclear, reason="decided_by_person", detail=BOB, due_at=NOW, now=NOW)
    assert (settled.after.state, settled.after.reason, settled.after.detail) == (
        State.HELD,
        "held_by_person",
        ANN,
    )
    assert settled.after.is_held_for_no_call
    taken_back = orders.release(unclear, detail=BOB, now=NOW).after
    assert (taken_back.state, taken_back.order) == (State.HELD, None)


def test_the_newest_wish_counts() -> None:
    """Hold, then cancel, then release: nothing is left; the same wish twice is told who was first."""
    alive = running(discovered().after).after
    wanted = hold(alive)
    with pytest.raises(RefusedError, match=r"wanted already .*ann@ops"):
        hold(wanted, BOB)
    ended = cancel(wanted, BOB)
    assert ended.order is not None
    assert ended.order.wish is Wish.CANCEL
    free = orders.release(ended, detail=ANN, now=NOW).after
    assert (free.order, fails(free).after.state) == (None, State.SCHEDULED)


def test_release_does_not_take_back_an_order_to_retry() -> None:
    """Nothing holds it."""
    ordered = submitting(orders.retry(MADE["exhausted"](), detail=ANN, now=NOW).after).after
    with pytest.raises(RefusedError, match="nothing holds it"):
        orders.release(ordered, detail=BOB, now=NOW)


def test_a_hold_that_is_taken_back_leaves_the_retry_that_was_wanted_before() -> None:
    """A colleague holds a dead letter that somebody retries, and releases it: it is retried all the same."""
    ordered = orders.retry(MADE["exhausted"](), detail=ANN, now=NOW).after
    assert orders.release(hold(ordered, BOB), detail=BOB, now=LATER).after.is_ordered
    sent = submitting(ordered).after
    put_off = hold(sent, BOB)
    assert not put_off.is_ordered
    assert orders.release(put_off, detail=BOB, now=NOW).after.is_ordered
    not_sent = delivered_not(put_off).after
    assert not_sent.state is State.HELD
    assert orders.release(not_sent, detail=BOB, now=LATER).after.is_ordered


def test_a_retry_that_was_made_is_not_made_again_after_a_hold() -> None:
    """Its call made a clone: what is released then goes by the policy."""
    sent = submitting(orders.retry(MADE["exhausted"](), detail=ANN, now=NOW).after).after
    clone = execution("clone-2", Status.QUEUED)
    alive = transitions.accept(hold(sent, BOB), clone, now=LATER, evidence="201").after
    assert orders.release(alive, detail=BOB, now=LATER).after.order is None
    held_back = fails(alive).after
    assert (held_back.state, held_back.order) == (State.HELD, None)


def test_an_end_that_was_asked_for_counts_where_a_clone_is_never_seen_to_end() -> None:
    """It is put away and no dead letter; its clone may live, so nothing is retried beside it in silence."""
    wanted = cancel(running(discovered().after).after)
    over = transitions.stop_watching(wanted, reason="watch_timeout", detail="", now=LATER).after
    assert (over.state, over.detail, over.order) == (State.CANCELLED, ANN, None)
    with pytest.raises(RefusedError, match="never seen to end"):
        orders.retry(over, detail=BOB, now=LATER)


def test_a_released_lineage_keeps_its_time_where_a_person_held_it() -> None:
    """Where a rule held it, its policy says when; never earlier than now."""
    scheduled = discovered(decision=RetryAt(1, NOW + HOUR, HOUR)).after
    assert orders.release(hold(scheduled), detail=BOB, now=LATER).after.due_at == NOW + HOUR
    late = orders.release(hold(scheduled), detail=BOB, now=NOW + 2 * HOUR).after
    assert late.due_at == NOW + 2 * HOUR
    by_log = transitions.hold(scheduled, reason="log_rule", detail="", now=NOW).after
    released = orders.release(by_log, detail=BOB, now=LATER, due_at=NOW + 2 * HOUR).after
    assert (released.due_at, released.overruled) == (NOW + 2 * HOUR, "root")
    assert orders.release(hold(scheduled), detail=BOB, now=LATER).after.overruled == ""


def test_a_cancelled_lineage_keeps_its_call_only_while_nobody_knows_what_became_of_it() -> None:
    """Else a person would be warned of a clone for ever that is known not to be there."""
    assert cancel(held()).intent is not None
    put_back = delivered_not(unresolved()).after
    assert put_back.intent is not None
    assert cancel(put_back).intent is None


# --- no order makes a second clone in silence ----------------------------------------------------------


@dataclass
class World:
    """A lineage on a random walk, and what is true of the clones of the failure that it would retry next."""

    lineage: Lineage
    clone_may_live: bool = False
    clones: int = 0

    def clone(self) -> Execution:
        self.clones += 1
        return execution(f"clone-{self.clones}", Status.RUNNING)


def _submit(world: World) -> Lineage:
    world.clone_may_live = True
    return submitting(world.lineage, now=_now(world), token=f"call-{world.lineage.version}").after


def _accept(world: World) -> Lineage:
    return transitions.accept(world.lineage, world.clone(), now=_now(world), evidence="201").after


def _unresolve(world: World) -> Lineage:
    return transitions.unresolve(world.lineage, reason="read_timeout", detail="", now=_now(world)).after


def _no_clone(world: World) -> Lineage:
    world.clone_may_live = False
    return delivered_not(world.lineage).after


def _cannot_tell(world: World) -> Lineage:
    return transitions.hold(world.lineage, reason="unclear", detail="", now=_now(world)).after


def _rule_holds(world: World) -> Lineage:
    return transitions.hold(world.lineage, reason="log_rule", detail="", now=_now(world)).after


def _clone_fails(world: World) -> Lineage:
    world.clone_may_live = False
    return fails(world.lineage).after


def _last_clone_fails(world: World) -> Lineage:
    world.clone_may_live = False
    return fails(world.lineage, GIVEN_UP).after


def _never_ends(world: World) -> Lineage:
    return transitions.stop_watching(world.lineage, reason="watch_timeout", detail="", now=_now(world)).after


def _clone_unknown(world: World) -> Lineage:
    return transitions.reject(world.lineage, reason="clone_not_found", detail="", now=_now(world)).after


def _refuses(world: World) -> Lineage:
    world.clone_may_live = False
    return transitions.reject(world.lineage, reason="validation_error", detail="", now=_now(world)).after


def _clone_elsewhere(world: World) -> Lineage:
    return transitions.reject(world.lineage, reason="clone_has_own_lineage", detail="", now=_now(world)).after


def _gives_up(world: World) -> Lineage:
    return transitions.give_up(world.lineage, GIVEN_UP, PLAIN, "default", now=_now(world)).after


def _hold(world: World) -> Lineage:
    return orders.hold(world.lineage, detail=ANN, now=_now(world)).after


def _cancel(world: World) -> Lineage:
    return orders.cancel(world.lineage, detail=ANN, now=_now(world)).after


def _release(world: World) -> Lineage:
    return orders.release(world.lineage, detail=ANN, now=_now(world)).after


def _retry(world: World) -> Lineage:
    return orders.retry(world.lineage, detail=ANN, now=_now(world)).after


STEPS: dict[State, list[Callable[[World], Lineage]]] = {
    State.SCHEDULED: [_submit, _submit, _rule_holds, _gives_up],
    State.SUBMITTING: [_accept, _unresolve, _no_clone, _refuses, _clone_elsewhere],
    State.UNRESOLVED: [_accept, _no_clone, _cannot_tell, _refuses, _clone_elsewhere],
    State.RUNNING: [_clone_fails, _last_clone_fails, _never_ends, _clone_unknown],
    State.HELD: [],
}
BY_HAND = [_hold, _cancel, _release, _retry]


def _now(world: World) -> datetime:
    return NOW + world.lineage.version * timedelta(seconds=1)


@given(st.data())
def test_no_order_makes_a_second_clone_of_a_failure_whose_clone_may_live(data: st.DataObject) -> None:
    """Whatever workers and people do in any order: none may leave while a clone of it can be alive."""
    world = World(discovered().after)
    for _ in range(data.draw(st.integers(1, 14))):
        steps = [*STEPS.get(world.lineage.state, []), *BY_HAND]
        if world.lineage.is_in_doubt and world.lineage.state is State.HELD:
            steps = [_accept, _no_clone, *steps]
        before, lived = world.lineage, world.clone_may_live
        step = data.draw(st.sampled_from(steps))
        try:
            world.lineage = step(world)
        except RefusedError:
            assert step in BY_HAND
            continue
        assert world.lineage.version == before.version + 1
        if world.lineage.state is State.SCHEDULED and step in BY_HAND:
            assert not lived, f"{step.__name__} of {before.state} ({before.reason})"
