"""What is said of lineages about which a person decided: what follows for each, and how many came to what.

Knows nothing of how it is asked for (`orders`) or done (`ordering`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.cli.ordering import Came, Item, Wanted
from worker.cli.output import ago, clock, iso, name
from worker.cli.paused import ends
from worker.domain.breaker import Breaker
from worker.domain.lineage import Lineage, State
from worker.domain.policy import PolicyBook, may_start
from worker.domain.text import clean_text
from worker.ledger.gate import GateState

_COLOURS = {Came.DONE: "green", Came.SAME: "dim"}


@dataclass(frozen=True, slots=True)
class Now:
    """What holds retry calls up at this moment, for the words about them."""

    at: datetime
    gate: GateState
    paused: Mapping[str, Breaker]
    policies: PolicyBook


def line(item: Item, wanted: Wanted, now: Now) -> str:
    """Return what came of one execution that was named, as rich markup."""
    colour = _COLOURS.get(item.came, "yellow")
    says = item.why
    if item.came is Came.DONE and item.lineage:
        says = outcome(item.lineage, wanted, now)
    return f"{name(item.uuid, 200):<36}  [{colour}]{item.came.value:<7}[/]  {name(says, 600)}"


def outcome(lineage: Lineage, wanted: Wanted, now: Now) -> str:
    """Return what follows from an order that is on record, in words."""
    match lineage.state:
        case State.HELD:
            return "held until someone releases it"
        case State.CANCELLED:
            return "cancelled: no further attempt"
        case State.SCHEDULED:
            return _scheduled(lineage, now)
    if wanted is Wanted.RELEASE:
        return "goes on as its policy has it when its attempt has ended"
    then = "held" if wanted is Wanted.HOLD else "cancelled, unless it completes,"
    return f"{then} when its attempt has ended: {_under_way(lineage)}"


def _scheduled(lineage: Lineage, now: Now) -> str:
    at = lineage.since  # when it was put on record, a moment after `now` was read
    due_at = lineage.due_at or at
    now_or_soon = "goes now" if lineage.is_ordered else "is due now, if its workflow has room for it"
    goes = f"is due {ago(due_at, at)}, at {clock(due_at, at)}" if due_at > at else now_or_soon
    words = f"attempt {lineage.next_attempt} {goes}"
    policy, _ = now.policies.for_workflow(lineage.workflow_uuid, lineage.workflow_name)
    objection = None if lineage.is_ordered else may_start(lineage.history, policy, due_at)
    if objection:
        return f"its policy, as it is known here, allows no further attempt: {objection.detail}; see `retry`"
    breaker = now.paused.get(lineage.workflow)
    halt, closed = now.gate.halt, now.gate.closed
    if halt:
        by = clean_text(f"{halt.by}: {halt.why}", 300)
        return f"{words}, but not before the pause of everything ends, {ends(halt.until, now.at)} ({by})"
    if breaker:
        end = ends(breaker.forced_until, now.at)
        return f"{words}, but not before the pause of its workflow ends, {end} ({breaker.detail})"
    if closed:
        return f"{words}, but not before the API answers again: {closed.value} ({now.gate.reason})"
    return words


def _under_way(lineage: Lineage) -> str:
    if lineage.state is State.RUNNING:
        return f"its clone {lineage.newest.clone} is running"
    return "its retry call is under way" if lineage.state is State.SUBMITTING else "its call is in doubt"


def title(lineage: Lineage) -> str:
    """Return what a lineage's workflow is called."""
    return clean_text(lineage.workflow_name or lineage.workflow_uuid or "a workflow without a name", 80)


def kind(item: Item) -> str:
    """Return why not, without what differs from one lineage to the next."""
    if item.lineage is None:
        return item.why
    state, reason = item.lineage.state.value, item.lineage.reason
    return clean_text(f"{state} ({reason})" if reason else state, 80)


def in_words(came: Counter[Came]) -> str:
    """Return how many came to what."""
    words = {
        Came.DONE: "done",
        Came.SAME: "of the same lineages",
        Came.REFUSED: "refused",
        Came.BEATEN: "with somebody else faster",
        Came.UNKNOWN: "not known",
        Came.UNCLEAR: "without an answer from Redis",
        Came.UNTRIED: "not tried",
    }
    return ", ".join(
        f"{came[each]} {said}" for each, said in words.items() if came[each] or each is Came.DONE
    )


def as_object(item: Item) -> dict[str, Any]:
    """Return what came of one execution as `--json` prints it."""
    lineage = item.lineage
    return {
        "uuid": item.uuid,
        "root": lineage.root if lineage else None,
        "result": item.came.value,
        "why": item.why or None,
        "state": lineage.state.value if lineage else None,
        "reason": (lineage.reason or None) if lineage else None,
        "due_at": iso(lineage.due_at) if lineage and lineage.state is State.SCHEDULED else None,
        "order": lineage.order.wish.value if lineage and lineage.order else None,
    }
