"""Which execution in a listing is the clone that a retry call of unknown outcome made, if any.

A clone does not name its parent. What is left is its key (workflow version and payload fingerprint), when
it was created, and that it belongs to nobody. Whether that is proof or only a hint depends on how
distinctive the key is; this module tells the two apart and never decides what to do about a hint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage

Key = tuple[str, str]
"""Workflow version and payload fingerprint."""


class Clarity(StrEnum):
    """What a listing says of one unresolved lineage."""

    FOUND = "found"
    """The clone, on proof: a distinctive key that one execution shares."""
    UNCLEAR = "unclear"
    """An execution that may be the clone and may be an ordinary run."""
    NOTHING = "nothing"
    """No execution that could be the clone."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An unresolved lineage, and since when (by the API's clock, with a margin) its clone may exist."""

    lineage: Lineage
    earliest: datetime


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
        doubts: all unresolved lineages: those with the same key share the candidates one to one.
        listing: executions of every status, at least back to the earliest doubt.
        owners: which of them belong to a lineage, and to which.
    """
    by_key: dict[Key, list[Doubt]] = defaultdict(list)
    for doubt in doubts:
        by_key[(doubt.lineage.workflow_version_uuid, doubt.lineage.fingerprint)].append(doubt)
    findings: dict[str, Finding] = {}
    for (version, fingerprint), group in by_key.items():
        alike = [each for each in listing if each.could_be_clone_of(version, fingerprint)]
        free = [each for each in alike if each.uuid not in owners]
        for doubt in group:
            again = next((each for each in alike if _runs_again(doubt, each)), None)
            if again:
                evidence = f"listing: {again.uuid} itself is {again.status.value} again (retried in place)"
                findings[doubt.lineage.root] = Finding(Clarity.FOUND, evidence, again)
        open_doubts = [doubt for doubt in group if doubt.lineage.root not in findings]
        for doubt, candidate in _pair(open_doubts, free):
            findings[doubt.lineage.root] = _judge(doubt, candidate, fingerprint, alike, len(group))
    return findings


def _runs_again(doubt: Doubt, execution: Execution) -> bool:
    return execution.uuid == doubt.lineage.failing and execution.status not in (Status.FAILED, Status.UNKNOWN)


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
    doubt: Doubt, candidate: Execution | None, fingerprint: str, alike: list[Execution], sharing: int
) -> Finding:
    since = f"since {doubt.earliest:%H:%M:%S} UTC by the API's clock"
    if candidate is None:
        return Finding(Clarity.NOTHING, f"no unowned execution of this version and payload {since}")
    strangers = [each.uuid for each in alike if each.uuid not in (*doubt.lineage.members, candidate.uuid)]
    doubts = []
    if not fingerprint:
        doubts.append("the payload is empty or not shown")
    elif candidate.fingerprint != fingerprint:
        doubts.append("the candidate's payload is not shown")
    if sharing > 1:
        doubts.append(f"{sharing} unresolved lineages share the payload")
    if strangers:
        doubts.append(f"{len(strangers)} other executions in the listing share it")
    created = f"{candidate.created_at:%H:%M:%S} UTC" if candidate.created_at else "an unknown time"
    if not doubts:
        proof = (
            f"listing: {candidate.uuid}, created at {created}, is the only one with this distinctive payload"
        )
        return Finding(Clarity.FOUND, proof, candidate)
    return Finding(
        Clarity.UNCLEAR,
        f"{candidate.uuid}, created at {created}, may be it, but {'; '.join(doubts)}",
        candidate,
    )
