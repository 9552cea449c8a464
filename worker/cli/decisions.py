"""What a person may decide about a lineage, what is refused, and in which order it is stored.

Knows nothing of how it is asked for or shown (`resolve`). Every refusal is a `CommandError` in words; nothing
is written before the last check.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime, timedelta

from worker.cli.errors import AWAY, NO, CommandError
from worker.cli.ordering import due_by_policy
from worker.cli.person import Person
from worker.domain import orders, transitions
from worker.domain.executions import Execution, Status
from worker.domain.lineage import HELD_BY_PERSON, Lineage, State
from worker.domain.policy import PolicyBook
from worker.domain.text import clean_text
from worker.domain.transitions import DECIDED_BY_PERSON, Change
from worker.engine.context import CLOCK_MARGIN
from worker.kinetic import KineticClient, KineticError, NotFound
from worker.ledger import Ledger, LedgerFormatError, Outcome
from worker.ledger.reports import Reports

WHOLE_SECONDS = timedelta(seconds=1)
"""Some servers cut the fraction off one date and not off another."""
MAY_BE_A_CLONE = "may_be_a_clone"
TRIES = 3
"""A poll can find a forgotten clone anew before it is adopted; more than twice running is no chance."""
_UNDECIDABLE = {
    State.SCHEDULED: "its next call is due at a time and none is in doubt",
    State.SUBMITTING: "its call is under way; if nobody learns of the outcome it becomes unresolved",
    State.RUNNING: "its clone is known and watched",
}


async def undecided(ledger: Ledger, uuid: str) -> Lineage:
    """Return the lineage that an execution belongs to, if a person may decide about it.

    Raises:
        CommandError: there is none, or it is in no state in which anything is left to decide.
    """
    lineage = await Reports(ledger).find(uuid)
    if lineage is None:
        raise CommandError(f"no lineage has the execution {clean_text(uuid, 200)}", NO)
    if lineage.state not in (State.HELD, State.UNRESOLVED):
        raise CommandError(f"{_standing(lineage)}; there is nothing to decide", NO)
    return lineage


async def adopt(
    ledger: Ledger, client: KineticClient, lineage: Lineage, clone_uuid: str, person: Person, *, force: bool
) -> Change:
    """Record that an execution is the clone that the call in doubt made; it is watched from now on.

    `force` admits one whose payload is not that of the failed execution.

    Raises:
        CommandError: it cannot be the clone, or cannot be looked at, or somebody else was first.
    """
    if lineage.intent is None:
        raise CommandError(_no_call(lineage, clone_uuid), NO)
    clone = await _look(client, clone_uuid)
    objection = why_not(lineage, clone, client.skew) or (None if force else other_payload(lineage, clone))
    if objection:
        raise CommandError(f"{clone.uuid} is not taken for the clone: {objection}", NO)
    now = ledger.clock.now()
    accepted = transitions.accept(lineage, clone, now=now, evidence=f"{DECIDED_BY_PERSON}: {person}")
    return await _store_adoption(ledger, accepted, person, now)


async def declare_not_delivered(
    ledger: Ledger, lineage: Lineage, person: Person, policies: PolicyBook
) -> Change:
    """Record that the call in doubt made no clone; where none is in doubt, that the held failure goes on.

    That is one which may be somebody's clone and is not, or which a rule about its log or a person holds.

    Raises:
        CommandError: somebody else was first.
    """
    now = ledger.clock.now()
    if lineage.is_in_doubt:
        change = transitions.not_delivered(
            lineage, reason=DECIDED_BY_PERSON, detail=str(person), due_at=now, now=now
        )
        decision = "not_delivered"
    else:
        due_at = due_by_policy(lineage, policies, now)
        change = orders.release(lineage, detail=str(person), now=now, due_at=due_at)
        decision = "release" if lineage.reason == HELD_BY_PERSON else "stands_alone"
    change = transitions.by_person(change, decision=decision, by=person.by, why=person.why)
    if await ledger.commit(change) is not Outcome.COMMITTED:
        raise await _somebody_was_first(ledger, lineage)
    return change


async def suspected_clones(ledger: Ledger, lineage: Lineage) -> list[str]:
    """Return the failures that are held because they may be the clone of this lineage's call."""
    if lineage.intent is None or not lineage.is_in_doubt:
        return []
    held = await ledger.held_since(lineage.intent.at - CLOCK_MARGIN)
    return [each.root for each in held if _is_suspect(each) and f" {lineage.root};" in each.detail]


def why_not(lineage: Lineage, clone: Execution, skew: timedelta) -> str | None:
    """Return why an execution cannot be the clone of the lineage's call, in words; None when it can.

    Args:
        lineage: whose call is in doubt.
        clone: as the API shows it now.
        skew: the API's clock minus ours.
    """
    if clone.workflow_version_uuid != lineage.workflow_version_uuid:
        return (
            f"it is of the workflow version {clone.workflow_version_uuid}, the failed execution is of "
            f"{lineage.workflow_version_uuid}"
        )
    if clone.uuid == lineage.failing:
        if clone.status in (Status.FAILED, Status.UNKNOWN):
            return (
                f"it is the failed execution itself, and it shows {clone.status.value}: nothing ran it again"
            )
        return None  # retried in place: it is older than its failure, of course
    if clone.uuid in lineage.members:
        return "it belongs to this lineage already, and is not the run that was retried last"
    failed_at, margin = lineage.failure_stamp, WHOLE_SECONDS
    if failed_at is None:
        failed_at, margin = lineage.last_failed_at + skew, CLOCK_MARGIN
    made_at = clone.created_at
    if made_at is not None and made_at < failed_at - margin:
        return (
            f"it was created at {_time(made_at)}, before the failure at {_time(failed_at)} (the API's clock)"
        )
    return None


def other_payload(lineage: Lineage, clone: Execution) -> str | None:
    """Return how the payloads differ, as far as both are shown; None when nothing is known to differ."""
    if not clone.fingerprint or not lineage.fingerprint or clone.fingerprint == lineage.fingerprint:
        return None
    return (
        f"its payload is another one (fingerprint {clone.fingerprint}, of the failed execution "
        f"{lineage.fingerprint}); if Kinetic changed it and you are sure, add --force"
    )


async def _look(client: KineticClient, uuid: str) -> Execution:
    try:
        return await client.get(uuid)
    except NotFound as error:
        raise CommandError(f"Kinetic does not know the clone: {error.detail}", NO) from None
    except KineticError as error:
        raise CommandError(
            f"the clone cannot be looked at now, so nothing is decided: {error}", AWAY
        ) from None


async def _store_adoption(ledger: Ledger, accepted: Change, person: Person, now: datetime) -> Change:
    """Commit it; where the clone was held as a failure that may be a clone, that lineage ends with it.

    The ledger gives no execution to two lineages, so the held one has to be forgotten first. After a crash
    between the two the clone is nobody's, while the lineage whose clone it is still waits for a person: the
    next poll finds the clone and holds it again, and the same command can be given again.
    """
    lineage, uuid = accepted.before or accepted.after, accepted.after.newest.clone
    for _ in range(TRIES):
        suspect = await _held_suspect(ledger, uuid, lineage)
        was_held = suspect is not None
        change = transitions.by_person(
            accepted,
            decision="clone",
            by=person.by,
            why=person.why,
            clone_uuid=uuid,
            clone_was_held=was_held,
        )
        # As if it were dated: an undated one that is forgotten counts as dealt with and is never found again.
        if suspect and not await ledger.forget([replace(suspect, dated=True)]):
            continue  # somebody decided about it just now: look at it again
        outcome = await ledger.commit(change, next_at=now)
        if outcome is Outcome.COMMITTED:
            return change
        if outcome is Outcome.STALE:
            if suspect:  # as it was: a failure older than the look-back would never be found again
                await ledger.commit(Change(None, suspect, ()))
            raise await _somebody_was_first(ledger, lineage)
    raise CommandError(f"{uuid} is being taken by others all the time; look at it: kinetic-retry show", NO)


async def _held_suspect(ledger: Ledger, uuid: str, lineage: Lineage) -> Lineage | None:
    """Return the held lineage that consists of the clone alone; None when the clone is free or ours.

    Raises:
        CommandError: it belongs to a lineage that is more than a suspicion.
    """
    root = (await ledger.owners([uuid])).get(uuid)
    if root is None or root == lineage.root:
        return None
    owner = (await ledger.read([root])).get(root)
    if owner is None:  # known by name only: an undated execution whose lineage was forgotten
        return None
    if isinstance(owner, LedgerFormatError):
        raise owner
    if owner.root == uuid and _is_suspect(owner):
        return owner
    raise CommandError(
        f"{uuid} is not taken for the clone: it belongs to another lineage. {_standing(owner)}", NO
    )


def _is_suspect(lineage: Lineage) -> bool:
    return lineage.state is State.HELD and lineage.reason == MAY_BE_A_CLONE and not lineage.attempts


async def _somebody_was_first(ledger: Ledger, lineage: Lineage) -> CommandError:
    now_is = await Reports(ledger).find(lineage.root)
    standing = _standing(now_is) if now_is else f"{lineage.root} is forgotten"
    return CommandError(f"somebody else was faster, nothing is changed. {standing}", NO)


def _no_call(lineage: Lineage, clone_uuid: str) -> str:
    root, clone = lineage.root, clean_text(clone_uuid, 200)
    word = shlex.quote(root)  # to be copied into a shell
    why = f" ({clean_text(lineage.detail, 300)})" if lineage.detail else ""
    return (
        f"no retry call is on record for {root}, so it has no clone{why}.\n"
        f"If it is the clone of another failure: kinetic-retry resolve THAT-UUID --clone {word} --reason …\n"
        f"If it is a failure of its own: kinetic-retry resolve {word} --not-delivered --reason …\n"
        f"Nothing is decided about {clone}."
    )


def _standing(lineage: Lineage) -> str:
    """Return what a lineage is now, in a sentence."""
    reason = f" ({lineage.reason})" if lineage.reason else ""
    clone = f", with the clone {lineage.newest.clone}" if lineage.state is State.RUNNING else ""
    said = _UNDECIDABLE.get(lineage.state)
    return f"{lineage.root} is {lineage.state.value}{reason}{clone}" + (f": {said}" if said else "")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
