"""Recorded lineages as a world: what a clone at another time would have done, as far as the record tells.

The record is read by monotony: a clone that starts no later than the last one that failed fails; one that
starts no earlier than the one that completed completes. In between, and after the last failure of what never
recovered, nobody can know: that is played twice, once as if all of it failed, once as if all completed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

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
        failed: starts of the clones that failed, in order; of those that were made after one completed (by
            someone else) nothing is learned.
        failed_at: when those failed.
        completes_from: start of the clone that completed; None when none did.
        takes: how long a clone of it takes; None when the record does not tell.
        signature: of the newest failure.
        equal_since: failures from then on have it; None when no other is known to have it.
    """

    root: str
    workflow: str
    workflow_name: str
    root_failed_at: datetime
    failed: tuple[datetime, ...]
    failed_at: tuple[datetime, ...]
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
    completes_from = min((each.submitted_at for each in ended if each.outcome == "completed"), default=None)
    failed = sorted(
        (each.submitted_at, each.ended_at or each.submitted_at)
        for each in ended
        if each.outcome == "failed" and (completes_from is None or each.submitted_at < completes_from)
    )
    failure = Outcome(lineage.root_failed_at, ok=False)
    original = Original(lineage.root, lineage.workflow, failure, lineage.workflow_name)
    return Record(
        root=lineage.root,
        workflow=lineage.workflow,
        workflow_name=lineage.workflow_name,
        root_failed_at=lineage.root_failed_at,
        failed=tuple(starts_at for starts_at, _ in failed),
        failed_at=tuple(ended_at for _, ended_at in failed),
        completes_from=completes_from,
        takes=_takes(ended),
        signature=lineage.signature,
        equal_since=lineage.struck_since,
        case=Case(original, _as_recorded(lineage)),
    )


class RecordedWorld:
    """The recorded failures; what cannot be known is played one way."""

    def __init__(self, records: Sequence[Record], *, unknown_completes: bool) -> None:
        self._unknown_completes = unknown_completes
        known = sorted(each.takes for each in records if each.takes)
        self._usual = known[len(known) // 2] if known else USUAL
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
        """Return the signature of a failure: the root's, or that of a clone started then.

        The newest failure's for those that are on record as equal to it, and where nobody can know. Of the
        others the record says only that they were different: each gets one of its own.
        """
        if record.signature is None:
            return None
        position = 0 if starts_at is None else 1 + bisect_left(record.failed, starts_at)
        failed_at = (record.root_failed_at, *record.failed_at)
        if record.equal_since and (position >= len(failed_at) or failed_at[position] >= record.equal_since):
            return record.signature
        moment = record.root_failed_at if starts_at is None else starts_at
        return Signature(record.signature.version, -round(moment.timestamp() * 1000))


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
    """Return the clones as they went, the one that completed last; without failed ones that others made."""
    made = [
        Attempted(each.submitted_at, Outcome(each.ended_at or each.submitted_at, each.outcome == "completed"))
        for each in lineage.attempts
        if not each.joined or each.outcome == "completed"
    ]
    return sorted(made, key=lambda each: (each.outcome.ok, each.started_at))
