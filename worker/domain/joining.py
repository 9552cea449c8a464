"""Whether a run that nobody owns is the retry that someone else made of a failed run. Pure.

A person retries by the same call as we do, and the clone does not name its parent. What is left is its key
(workflow version and payload) and that it is younger than the failure. That is no proof: a workflow that runs
every hour with the same payload looks the same. So a run is taken for a retry only where the list shows that
the key is distinctive; else it is left alone, and everything goes on as if nobody had retried.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State

Key = tuple[str, str]
"""Workflow version and payload fingerprint."""

SLACK = timedelta(seconds=1)
"""By how much a retry may seem older than the failure: dates may have whole seconds, and the API may touch
the run that failed a moment after it made the new one."""
LOOK_BEHIND = timedelta(days=8)
"""How far before the failure the list is read for others that share the key: a week and a day shows what runs
daily, on working days or weekly."""
MOST_JOINED = 3
"""Runs of others that one lineage takes. What shares the key so often is an ordinary run of its workflow: an
endless row of failures must not hide in one lineage."""
REMEMBER_SHARED = timedelta(hours=1)
_DEAD_LETTERS = frozenset({State.EXHAUSTED, State.REJECTED})
_ALIVE = frozenset({Status.PENDING, Status.QUEUED, Status.RUNNING, Status.PAUSED})


class Part(StrEnum):
    """What a retry that someone else made is to the lineage."""

    NEXT = "next"
    """The lineage goes on with it: watches it, or takes in how it ended."""
    ASIDE = "aside"
    """It failed while the lineage does something else: it belongs there, and nothing changes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The head of the list, executions of every status.

    Attributes:
        executions: as the API shows them.
        since: back to when it was read, by creation and the API's clock; None = every one of them was read.
        unreadable: how many entries could not be read: one of them may share any key.
    """

    executions: Sequence[Execution]
    since: datetime | None = None
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether a run is taken for the retry, and on what evidence (words for people).

    Attributes:
        too_early: whether time will tell; then nothing is concluded yet.
    """

    taken: bool
    evidence: str
    too_early: bool = False


@dataclass(slots=True)
class Shared:
    """Keys that were found not to be distinctive lately.

    They are not looked into again for an hour: a workflow that always has the same payload must not cost a
    listing at every poll.
    """

    found_at: dict[Key, datetime] = field(default_factory=dict)

    def note(self, key: Key, now: datetime) -> None:
        """Remember a key."""
        self.found_at = {each: at for each, at in self.found_at.items() if now - at < REMEMBER_SHARED}
        self.found_at[key] = now

    def knows(self, key: Key, now: datetime) -> bool:
        """Whether it was found not to be distinctive within the hour."""
        return key in self.found_at and now - self.found_at[key] < REMEMBER_SHARED


def key_of(run: Execution) -> Key:
    """Return what a run and its retries share."""
    return run.workflow_version_uuid, run.fingerprint


def part_of(lineage: Lineage, run: Execution, skew: timedelta, lookback: timedelta) -> Part | None:
    """Return what an unowned run with the lineage's key is to it, if it is a retry; None where it is none.

    While a call of ours is in doubt the run may be our own: that is settled first. A completed or living run
    is of no interest while our clone runs: it is looked at again when that has failed. After a success
    nobody retries, so what was created later is an ordinary run.

    Args:
        lineage: the newest one with the key.
        run: as the API shows it.
        skew: the API's clock minus ours.
        lookback: for how long after its end a lineage is thought of.
    """
    created_at, status = run.created_at, run.status
    if created_at is None or not _takes_more(lineage) or not _comes_after(lineage, created_at, skew):
        return None
    if run.uuid in lineage.members or key_of(run) != (lineage.workflow_version_uuid, lineage.fingerprint):
        return None
    if status not in (*_ALIVE, Status.COMPLETED, Status.FAILED):
        return None  # of a status that we do not know nobody can say that it will end
    failed, age = status is Status.FAILED, created_at - skew - lineage.since
    goes_on = lineage.state is State.SCHEDULED or (lineage.state in _DEAD_LETTERS and age <= lookback)
    if goes_on:
        return Part.ASIDE if failed and _is_old_news(lineage, created_at) else Part.NEXT
    # In every other state a call of ours is in doubt, and it may be our own clone.
    belongs = {State.RUNNING: True, State.CANCELLED: age <= lookback, State.RECOVERED: age <= SLACK}
    return Part.ASIDE if failed and belongs.get(lineage.state, False) else None


def followers(failures: Iterable[Execution]) -> set[str]:
    """Return which of some new failures may be retries of another one of them: that one comes first."""
    first: dict[Key, Execution] = {}
    dated = [each for each in failures if each.fingerprint and each.created_at and each.updated_at]
    for each in dated:
        known = first.setdefault(key_of(each), each)
        if (each.updated_at, each.uuid) < (known.updated_at, known.uuid):
            first[key_of(each)] = each
    return {
        each.uuid for each in dated if each.uuid != (of := first[key_of(each)]).uuid and _is_younger(each, of)
    }


def judge(
    lineage: Lineage, run: Execution, reading: Reading, skew: timedelta, *, has_been_there: bool
) -> Judgement:
    """Return whether the list shows that the key tells the lineage's runs apart from all others.

    Where the list shows no other payload of the workflow, every run of it may have this one. Then the run has
    to have been there for a while (`has_been_there`) without a second one showing up.

    A later run that shares it counts against it only when it was created after this one had completed: nobody
    retries what completed, while a retry that failed, or takes its time, may well be followed by another.
    """
    alike = [each for each in reading.executions if key_of(each) == key_of(run)]
    if run.uuid not in {each.uuid for each in alike}:
        return Judgement(False, "the list does not show it with its payload")
    ours = {*lineage.members, run.uuid}
    strangers = [each for each in alike if each.uuid not in ours and _shares(run, each)]
    if strangers:
        others = f"{len(strangers)} other execution{'s' if len(strangers) > 1 else ''}"
        return Judgement(False, f"{others} in the list share its payload, such as {strangers[0].uuid}")
    created = f"{run.created_at:%H:%M:%S} UTC" if run.created_at else "an unknown time"
    proof = f"listing: {run.uuid}, created at {created}, is the only one with the failed execution's payload"
    shows_root = any(each.uuid == lineage.root for each in reading.executions)
    complete = not reading.unreadable and (
        reading.since is None or reading.since <= lineage.root_failed_at + skew - LOOK_BEHIND
    )
    version = [each for each in reading.executions if each.workflow_version_uuid == run.workflow_version_uuid]
    varied = any(each.fingerprint not in ("", run.fingerprint) for each in version)
    if varied and (complete or (shows_root and _shows_a_period(lineage, run, reading, skew))):
        return Judgement(True, f"{proof}; others of the workflow have other payloads")
    if complete:
        how_far = f"read back to {reading.since:%Y-%m-%d %H:%M} UTC" if reading.since else "read to its end"
        evidence = f"{proof}; the list, {how_far}, shows no other run of the workflow"
        return Judgement(has_been_there, evidence, too_early=not has_been_there)
    return Judgement(False, "the list was not read far enough back to show whether others share its payload")


def _shows_a_period(lineage: Lineage, run: Execution, reading: Reading, skew: timedelta) -> bool:
    """Whether an ordinary run that comes as often as this one would had to show before the failure."""
    if reading.since is None or run.created_at is None:
        return reading.since is None
    root = next((each.created_at for each in reading.executions if each.uuid == lineage.root), None)
    began_at = root or lineage.root_failed_at + skew
    return reading.since <= began_at - 2 * (run.created_at - began_at) - SLACK


def _is_younger(run: Execution, failed: Execution) -> bool:
    return bool(run.created_at and failed.updated_at and run.created_at >= failed.updated_at - SLACK)


def _takes_more(lineage: Lineage) -> bool:
    return bool(lineage.fingerprint) and len(lineage.attempts) - lineage.made < MOST_JOINED


def _comes_after(lineage: Lineage, created_at: datetime, skew: timedelta) -> bool:
    """Whether a run is younger than the lineage's first failure, as far as the API's own dates say.

    Not than the newest one: while our clone ran, someone may have retried the run that it was made of.
    """
    if lineage.failure_stamp is None or not lineage.dated:
        return False
    first = lineage.failure_stamp if lineage.failing == lineage.root else lineage.root_failed_at + skew
    return created_at >= first - SLACK


def _is_old_news(lineage: Lineage, created_at: datetime) -> bool:
    """Whether a failed run is older than the failure from which the lineage goes on."""
    newest = lineage.failure_stamp
    return newest is not None and created_at < newest - SLACK


def _shares(run: Execution, other: Execution) -> bool:
    if run.created_at is None or other.created_at is None or other.created_at < run.created_at:
        return True
    completed_at = run.updated_at if run.status is Status.COMPLETED else None
    return completed_at is not None and other.created_at >= completed_at
