"""One item of a redrive: whether it may go when its turn comes, and what became of it. Pure.

Knows nothing of the redrive as a whole (`redrive`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from worker.domain import orders
from worker.domain.breaker import Breaker, Forced
from worker.domain.lineage import (
    DOUBTFUL_STATES,
    FLYING_STATES,
    HELD_BY_PERSON,
    Attempt,
    Lineage,
    State,
)
from worker.domain.redrive import Outcome


@dataclass(frozen=True, slots=True)
class Chosen:
    """A lineage that waits for its turn, by the verdict that it had when it was chosen.

    Attributes:
        since: since when it had that: another verdict of the same lineage is not what was chosen.
        place: its place in the order.
    """

    root: str
    since: datetime
    place: int


@dataclass(frozen=True, slots=True)
class Item:
    """A lineage that is being released, or was.

    Attributes:
        chosen: what it was.
        version: of the record that is retried. Written down before the order is stored: until `released` it
            is not known whether that was done.
        made: clones that we had made before.
        round: of the redrive.
        at: when it was written down.
    """

    chosen: Chosen
    version: int
    made: int
    round: int
    at: datetime
    released: bool = False

    @property
    def root(self) -> str:
        """Whose it is."""
        return self.chosen.root


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item, and why; `execution` is the run that says so, "" where none does."""

    root: str
    outcome: Outcome
    why: str
    execution: str = ""


def mark(redrive: str) -> str:
    """Return the words by which an order of a redrive begins."""
    return f"redrive {redrive} by "


def why_not(chosen: Chosen, lineage: Lineage | None, paused: str) -> str:
    """Return why an item must not go now, in words; "" when it may.

    Args:
        chosen: what was chosen.
        lineage: as it is now; None when it is forgotten.
        paused: who paused its workflow, and why; "" when nobody did.
    """
    if lineage is None:
        return "it is not on record any more"
    if lineage.since != chosen.since or not lineage.state.is_final:
        return f"it moved on since it was chosen: {_standing(lineage)}"
    if paused:
        return f"its workflow is paused ({paused})"
    return orders.why_not_retry(lineage) or ""


def paused_by(breaker: Breaker | None, now: datetime) -> str:
    """Return who paused a workflow, and why; "" when nobody does now."""
    if breaker is None or breaker.forced is not Forced.OPEN:
        return ""
    is_over = breaker.forced_until is not None and breaker.forced_until <= now
    return "" if is_over else breaker.detail or "by a person"


def outcome(item: Item, lineage: Lineage | None) -> Result | None:
    """Return what became of an item that was released; None while that is under way.

    Its first clone made since counts, or the run of someone else that took that one's place; whatever the
    policy does next is told and makes no difference.
    """
    if lineage is None:
        return Result(item.root, Outcome.TAKEN_OVER, "it is not on record any more")
    run = _run(item, lineage)
    if run and run.outcome:
        return _ended(item, lineage, run)
    if run or lineage.state in FLYING_STATES or (lineage.state is State.SCHEDULED and lineage.is_ordered):
        return None
    ended_as, why = Outcome.TAKEN_OVER, f"now {_standing(lineage)}"
    if lineage.state is State.RECOVERED:
        ended_as = Outcome.RECOVERED
    elif lineage.state in (State.REJECTED, State.EXHAUSTED):
        ended_as = Outcome.LOST
    elif lineage.state is State.HELD and lineage.reason != HELD_BY_PERSON:
        ended_as, why = Outcome.LOST, f"a person has to decide ({lineage.reason})"
    return Result(item.root, ended_as, why)


def _run(item: Item, lineage: Lineage) -> Attempt | None:
    """Return the run that the release led to: our next clone, or what somebody else made instead of it."""
    ours = [each for each in lineage.attempts if not each.joined]
    if len(ours) > item.made:
        return ours[item.made]
    others = [each for each in lineage.attempts if each.joined and each.accepted_at >= item.at]
    in_doubt = lineage.state in DOUBTFUL_STATES or lineage.is_ordered
    return others[-1] if others and not in_doubt else None


def _ended(item: Item, lineage: Lineage, run: Attempt) -> Result:
    whose = f"the run {run.clone}, which someone else made," if run.joined else f"its clone {run.clone}"
    if run.outcome == "completed":
        return Result(item.root, Outcome.RECOVERED, f"{whose} completed", run.clone)
    then = f"now {_standing(lineage)}"
    if run.outcome == "failed":
        signature = lineage.signature if lineage.failing == run.clone else None
        where = f" at {signature.in_words}" if signature else ""
        return Result(item.root, Outcome.FAILED, f"{whose} failed again{where}; {then}", run.clone)
    return Result(item.root, Outcome.LOST, f"{whose} was not seen to end; {then}", run.clone)


def _standing(lineage: Lineage) -> str:
    why = ": ".join(each for each in (lineage.reason, lineage.detail) if each)
    return f"{lineage.state} ({why})" if why else lineage.state.value
