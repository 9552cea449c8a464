"""Which execution in a listing is the clone that a retry call of unknown outcome made, if any.

A clone does not name its parent. What is left is its key (workflow version and payload fingerprint), when
it was created, and that it belongs to nobody. Whether that is proof or only a hint depends on how
distinctive the key is; this module tells the two apart and never decides what to do about a hint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage

Key = tuple[str, str]
"""Workflow version and payload fingerprint."""


class Clarity(StrEnum):
    """What a listing says of one unresolved lineage."""

    FOUND = "found"
    """The clone, on proof: a distinctive key that one execution shares."""
    LIKELY = "likely"
    """The only execution with that payload, but nothing shows that payloads differ in this workflow: time may
    bring others that share it."""
    UNCLEAR = "unclear"
    """An execution that may be the clone and may be an ordinary run."""
    NOTHING = "nothing"
    """No execution that could be the clone."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An unresolved lineage, and when its clone was created if there is one, by the API's clock.

    Attributes:
        earliest, latest: between them if all clocks agree within the margin: good enough to take a clone, not
            to conclude that there is none.
    """

    lineage: Lineage
    earliest: datetime
    latest: datetime

    def may_precede(self, execution: Execution) -> bool:
        """Whether an execution may have been created after the call, whatever our clocks say.

        A clone is younger than the failure it was made for, and both dates are of the API's own clock. Ours
        is involved only where the API gave the failure no date.
        """
        if execution.created_at is None:
            return True
        failed_at = self.lineage.failure_stamp
        return execution.created_at >= (min(failed_at, self.earliest) if failed_at else self.earliest)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the listing says, and on what evidence (words for people)."""

    clarity: Clarity
    evidence: str
    candidate: Execution | None = None


def match(
    doubts: Iterable[Doubt], listing: Sequence[Execution], owners: Mapping[str, str]
) -> dict[str, Finding]:
    """Return a finding for the root of every doubt.

    Args:
        doubts: of all lineages whose call is in doubt, also of those whose call is still under way: those
            with the same key share the candidates one to one.
        listing: executions of every status, at least back to the earliest doubt.
        owners: which of them belong to a lineage, and to which.
    """
    by_key: dict[Key, list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        by_key[(doubt.lineage.workflow_version_uuid, doubt.lineage.fingerprint)].append(doubt)
    seen = {*by_key, *((each.workflow_version_uuid, each.fingerprint) for each in listing)}
    findings: dict[str, Finding] = {}
    for (version, fingerprint), group in by_key.items():
        alike = [each for each in listing if each.could_be_clone_of(version, fingerprint)]
        free = [each for each in alike if each.uuid not in owners]
        varied = any(other == version and shown not in ("", fingerprint) for other, shown in seen)
        for doubt, candidate in _pair(group, free):
            root = doubt.lineage.root
            finding = _judge(doubt, candidate, free, alike, len(group))
            findings[root] = _in_place(doubt, listing) or (finding if varied else _with_caution(finding))
    return findings


def _in_place(doubt: Doubt, listing: Sequence[Execution]) -> Finding | None:
    """Return what the failed execution itself tells, where it was retried in place."""
    itself = next((each for each in listing if each.uuid == doubt.lineage.failing), None)
    if itself is None or itself.status in (Status.FAILED, Status.UNKNOWN):
        return None
    evidence = f"listing: {itself.uuid} itself is {itself.status.value} again (retried in place)"
    return Finding(Clarity.FOUND, evidence, itself)


def _pair(group: list[Doubt], free: list[Execution]) -> list[tuple[Doubt, Execution | None]]:
    """Pair one to one: each doubt gets the oldest free candidate that is young enough (the most pairs).

    A candidate without a creation time is young enough for anyone, and is taken last.
    """
    dated = sorted((each for each in free if each.created_at), key=lambda each: (each.created_at, each.uuid))
    undated = [each for each in free if each.created_at is None]
    pairs: list[tuple[Doubt, Execution | None]] = []
    for doubt in sorted(group, key=lambda each: (each.earliest, each.lineage.root)):
        fitting = (each for each in dated if each.created_at and each.created_at >= doubt.earliest)
        candidate = next(fitting, None)
        if candidate:
            dated.remove(candidate)
        elif undated:
            candidate = undated.pop()
        pairs.append((doubt, candidate))
    return pairs


def _judge(
    doubt: Doubt, candidate: Execution | None, free: list[Execution], alike: list[Execution], sharing: int
) -> Finding:
    if candidate is None:
        return _judge_none(doubt, free, alike)
    strangers = [each.uuid for each in alike if each.uuid not in (*doubt.lineage.members, candidate.uuid)]
    fingerprint = doubt.lineage.fingerprint
    doubts = []
    if not fingerprint:
        doubts.append("the payload is empty or not shown")
    elif candidate.fingerprint != fingerprint:
        doubts.append("the candidate's payload is not shown")
    if candidate.created_at is None:
        doubts.append("nobody knows when it was created")
    elif candidate.created_at > doubt.latest:
        doubts.append("it was created long after the call had ended")
    if sharing > 1:
        doubts.append(f"{sharing} lineages whose call is in doubt share the payload")
    if strangers:
        doubts.append(f"{len(strangers)} other executions in the listing share it")
    created = f"{candidate.created_at:%H:%M:%S} UTC" if candidate.created_at else "an unknown time"
    if not doubts:
        proof = (
            f"listing: {candidate.uuid}, created at {created}, is the only one with this distinctive payload"
        )
        return Finding(Clarity.FOUND, proof, candidate)
    hint = f"{candidate.uuid}, created at {created}, may be it, but {'; '.join(doubts)}"
    return Finding(Clarity.UNCLEAR, hint, candidate)


def _with_caution(finding: Finding) -> Finding:
    """Take back a proof that rests on a payload of which nobody knows whether others have it as well."""
    if finding.clarity is not Clarity.FOUND:
        return finding
    evidence = (
        f"{finding.evidence} (no other payload of this workflow is in the list; none came up in the grace)"
    )
    return replace(finding, clarity=Clarity.LIKELY, evidence=evidence)


def _judge_none(doubt: Doubt, free: list[Execution], alike: list[Execution]) -> Finding:
    """Say "nothing" only when nothing could be it: it licenses another call."""
    since = f"since {doubt.earliest:%H:%M:%S} UTC by the API's clock"
    if any(doubt.may_precede(each) for each in free):
        hint = f"an execution {since} may be it or the clone of another lineage with the same payload"
        return Finding(Clarity.UNCLEAR, hint)
    itself = next((each for each in alike if each.uuid == doubt.lineage.failing), None)
    old = doubt.lineage.failure_stamp
    if itself and itself.updated_at and old and itself.updated_at - old >= timedelta(milliseconds=1):
        hint = f"{itself.uuid} was touched since it failed: the call had an effect, but no clone shows"
        return Finding(Clarity.UNCLEAR, hint)
    return Finding(Clarity.NOTHING, f"no unowned execution of this version and payload {since}")
