"""Recorded lineages as a world: what a clone made at another time would have done, as far as the record tells.

The record is read by monotony: a clone that starts no later than the last one that failed fails; one that starts no
earlier than the one that completed completes. In between, and after the last failure of what never recovered, nobody
can know: that is played twice, once as if all of it failed and once as if all of it completed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median

from worker.domain.failures import Signature
from worker.domain.lineage import Attempt, Lineage, State
from worker.replay.world import Attempted, Case, Original, Outcome

USUAL = timedelta(minutes=3)
"""How long a clone takes where no record tells."""
_UNANSWERED = frozenset({"not_found", "validation_error", "refused", "conflict", "clone_has_own_lineage"})


class LeftOut(StrEnum):
    """Why a lineage is not replayed, in words."""

    UNDER_WAY = "still under way"
    NO_CLONE = "recovered without a clone"
    REFUSED = "refused by the API: no policy changes that"


@dataclass(frozen=True, slots=True)
class Record:
    """What the record of one lineage says.

    Attributes:
        failed: starts of the clones that failed, in order.
        completes_from: start of the clone that completed; None when none did.
        takes: how long a clone of it takes; None when the record does not tell.
        signature: of the newest failure.
        equal_since: failures from then on have it; None when the record does not tell.
    """

    root: str
    workflow: str
    workflow_name: str
    root_failed_at: datetime
    failed: tuple[datetime, ...]
    completes_from: datetime | None
    takes: timedelta | None
    signature: Signature | None
    equal_since: datetime | None
    case: Case

    def knows(self, starts_at: datetime) -> bool | None:
        """Return whether a clone started then completes; None where nobody can know."""
        if self.completes_from and starts_at >= self.completes_from:
            return True
        return False if self.failed and starts_at <= self.failed[-1] else None


def read(lineages: Iterable[Lineage]) -> tuple[list[Record], dict[LeftOut, int]]:
    """Return the records that can be replayed, and how many cannot, by reason."""
    records, left_out = [], dict.fromkeys(LeftOut, 0)
    for each in lineages:
        why = _left_out(each)
        if why:
            left_out[why] += 1
        else:
            records.append(record_of(each))
    return records, {why: count for why, count in left_out.items() if count}


def record_of(lineage: Lineage) -> Record:
    """Return what the record of a lineage that has ended says."""
    ended = [each for each in lineage.attempts if each.outcome in ("completed", "failed")]
    failed = sorted(each.submitted_at for each in ended if each.outcome == "failed")
    completed = [each.submitted_at for each in ended if each.outcome == "completed"]
    completes_from = min(completed, default=None)
    if completes_from:  # the same moment twice would say both; what completed is the stronger evidence
        failed = [each for each in failed if each < completes_from]
    workflow = lineage.workflow
    original = Original(
        lineage.root, workflow, Outcome(lineage.root_failed_at, ok=False), lineage.workflow_name
    )
    return Record(
        root=lineage.root,
        workflow=workflow,
        workflow_name=lineage.workflow_name,
        root_failed_at=lineage.root_failed_at,
        failed=tuple(failed),
        completes_from=completes_from,
        takes=_takes(ended),
        signature=lineage.signature,
        equal_since=lineage.struck_since or (lineage.last_failed_at if lineage.signature else None),
        case=Case(original, _as_recorded(lineage)),
    )


class RecordedWorld:
    """The recorded failures; what cannot be known is played one way."""

    def __init__(self, records: Sequence[Record], *, unknown_completes: bool) -> None:
        self._unknown_completes = unknown_completes
        self._usual = median([each.takes for each in records if each.takes] or [USUAL])
        self._records = {each.root: each for each in records}
        self._originals = [self._original(each) for each in records]

    @property
    def originals(self) -> Sequence[Original]:
        """Every recorded failure."""
        return self._originals

    def clone(self, original: Original, number: int, starts_at: datetime) -> Outcome:  # noqa: ARG002  # World's
        """Return how a clone ends."""
        record = self._records[original.name]
        known = record.knows(starts_at)
        ok = self._unknown_completes if known is None else known
        ends_at = starts_at + (record.takes or self._usual)
        signature = None if ok else self._signature(record, starts_at)
        return Outcome(ends_at, ok, signature, known=known is not None)

    def _original(self, record: Record) -> Original:
        outcome = Outcome(record.root_failed_at, ok=False, signature=self._signature(record, None))
        return Original(record.root, record.workflow, outcome, record.workflow_name)

    @staticmethod
    def _signature(record: Record, starts_at: datetime | None) -> Signature | None:
        """Return the failure's signature: the newest one's for those that are on record as equal to it.

        Of the others the record says only that they were different: each gets one of its own.
        """
        newest, since = record.signature, record.equal_since
        if newest is None or since is None:
            return None
        if starts_at is None:
            position = 0
        else:
            position = 1 + min(bisect_left(record.failed, starts_at), len(record.failed) - 1)
        equal = 1 + sum(each >= since for each in record.failed)  # a clone that failed ended after it started
        if record.root_failed_at < since:
            first_equal = len(record.failed) + 1 - equal
        else:
            first_equal = 0
        if position >= max(first_equal, 0):
            return newest
        return Signature(newest.version, -1 - position)


def _left_out(lineage: Lineage) -> LeftOut | None:
    if not lineage.state.is_final:
        return LeftOut.UNDER_WAY
    completed = any(each.outcome == "completed" for each in lineage.attempts)
    if lineage.state is State.RECOVERED and not completed:
        return LeftOut.NO_CLONE
    if lineage.state is State.REJECTED and lineage.reason in _UNANSWERED and not completed:
        return LeftOut.REFUSED
    return None


def _takes(ended: Sequence[Attempt]) -> timedelta | None:
    """Return how long the clone took that ended last, which is the one that completed if any did."""
    took = [each.ended_at - each.submitted_at for each in ended if each.ended_at]
    return max(took[-1], timedelta(0)) if took else None


def _as_recorded(lineage: Lineage) -> list[Attempted]:
    """Return the clones that we made, as they went; what someone else made is nobody's waste of ours."""
    return [
        Attempted(each.submitted_at, Outcome(each.ended_at or each.submitted_at, each.outcome == "completed"))
        for each in lineage.attempts
        if not each.joined or each.outcome == "completed"
    ]
