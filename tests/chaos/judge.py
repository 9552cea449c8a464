"""Which law was broken: the simulator's record, which knows every parent, against the ledger's records.

Pure: takes both as data and returns what is wrong, one `Violation` each. The simulator is always right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any

FINAL = frozenset({"recovered", "exhausted", "rejected", "cancelled"})
Found = Mapping[str, Any]
"""An execution of the simulator's record, or a lineage's record; both as JSON objects."""


class Law(StrEnum):
    """What must hold, in the words of the report."""

    DUPLICATE = "an execution was cloned more than once"
    UNFAILED = "an execution that had not failed was retried"
    LOST = "a failure that no lineage explains"
    UNSETTLED = "a lineage without a verdict"
    UNTRUE = "a verdict that the simulator contradicts"
    STRANGER = "a stranger's run was taken for the clone"
    TWO_LINEAGES = "an execution in two lineages"
    SPLIT = "a clone that became the root of a lineage of its own"
    TOO_MANY = "more attempts than allowed"
    COUNT = "the record counts other attempts than were made"
    PROMISE = "a promise was seen broken on the way"
    QUIET = "the run was too quiet to prove anything"
    SLOW = "work did not go on in time after a fault"
    HYGIENE = "a log or the server's files hold what they must not"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken law, the execution it is about ("" when about none), and the facts in words."""

    law: Law
    execution_uuid: str
    words: str


@dataclass(frozen=True, slots=True)
class _Case:
    """Both records, by uuid."""

    executions: Mapping[str, Found]
    lineages: Mapping[str, Found]
    owners: Mapping[str, str]
    max_attempts: int


def judge(
    executions: Sequence[Found], lineages: Sequence[Found], *, max_attempts: int, retries_of_unfailed: int = 0
) -> list[Violation]:
    """Return every broken law.

    Args:
        executions: `all` of the simulator's full record.
        lineages: of every state, as `kinetic-retry list --json` prints them.
        max_attempts: most clones that one root may get.
        retries_of_unfailed: as the simulator counts them.
    """
    owners: dict[str, str] = {}
    found: list[Violation] = []
    for lineage in lineages:
        for uuid in _members(lineage):
            if owners.setdefault(uuid, lineage["root"]) != lineage["root"]:
                words = f"{uuid} belongs to {owners[uuid]} and to {lineage['root']}"
                found.append(Violation(Law.TWO_LINEAGES, uuid, words))
    if retries_of_unfailed:
        found.append(Violation(Law.UNFAILED, "", f"{retries_of_unfailed} such calls"))
    case = _Case(
        {each["execution_uuid"]: each for each in executions},
        {each["root"]: each for each in lineages},
        owners,
        max_attempts,
    )
    for execution in executions:
        found += _of_execution(case, execution)
    for lineage in lineages:
        found += _of_lineage(case, lineage)
    return found


def is_settled(violations: Sequence[Violation]) -> bool:
    """Whether waiting longer could change nothing."""
    return not any(each.law in (Law.LOST, Law.UNSETTLED) for each in violations)


def _of_execution(case: _Case, execution: Found) -> Iterator[Violation]:
    uuid, clones = execution["execution_uuid"], execution["clones"]
    if len(clones) > 1:
        yield Violation(Law.DUPLICATE, uuid, f"{uuid} has the clones {', '.join(clones)}")
    if execution["retry"] > case.max_attempts:
        words = (
            f"{uuid} is retry {execution['retry']} of {execution['root']}, {case.max_attempts} are allowed"
        )
        yield Violation(Law.TOO_MANY, uuid, words)
    if execution["status"] == "failed" and not clones and uuid not in case.owners:
        yield Violation(Law.LOST, uuid, f"{uuid} ({execution['workflow']}) failed, and no lineage has it")


def _of_lineage(case: _Case, lineage: Found) -> Iterator[Violation]:
    root, state, attempts = lineage["root"], lineage["state"], lineage.get("attempts", [])
    if root not in case.executions:
        yield Violation(Law.UNTRUE, root, f"{root} does not exist")
        return
    if state not in FINAL and state != "held":
        yield Violation(Law.UNSETTLED, root, f"{root} is {state} ({lineage.get('reason', 'no reason')})")
    strangers = _strangers(case, lineage)
    if strangers:
        yield from strangers
    elif state in FINAL:
        yield from _verdict(case, lineage)
    if len(attempts) > case.max_attempts:
        yield Violation(Law.TOO_MANY, root, f"{root} has {len(attempts)} attempts on record")
    if case.executions[root]["parent"] and state != "held":
        words = f"{root} is the clone of {case.executions[root]['parent']}, and {state} by itself"
        yield Violation(Law.SPLIT, root, words)
    made = len(_descendants(case, root))
    # The call of a held lineage may have made a clone, or none: that is why it is held.
    allowed = (made, made - 1) if state == "held" else (made,)
    if not strangers and len(attempts) not in allowed:
        words = f"{root} ({state}) has {len(attempts)} attempts on record and {made} clones at the simulator"
        yield Violation(Law.COUNT, root, words)


def _strangers(case: _Case, lineage: Found) -> list[Violation]:
    """Return the attempts whose clone is not the clone of the member before it."""
    members, found = _members(lineage), []
    for parent, clone in pairwise(members):
        known = case.executions.get(clone)
        if known is None or known["parent"] != parent:
            really = "does not exist" if known is None else f"has the parent {known['parent']}"
            evidence = next(a.get("evidence") for a in lineage["attempts"] if a["clone"] == clone)
            words = f"{clone} was adopted as the clone of {parent}, but it {really}; evidence: {evidence}"
            found.append(Violation(Law.STRANGER, lineage["root"], words))
    return found


def _verdict(case: _Case, lineage: Found) -> Iterator[Violation]:
    """Compare a final state with how the chain ended. No fault of ours makes a lineage end in any other."""
    root, state, reason = lineage["root"], lineage["state"], lineage.get("reason", "")
    end = [root, *_descendants(case, root)][-1]
    status = case.executions[end]["status"]
    spent = len(lineage.get("attempts", [])) == case.max_attempts
    true = (state == "recovered" and status == "completed") or (
        state == "exhausted" and status == "failed" and reason == "attempts_used_up" and spent
    )
    if not true:
        words = f"{root} is {state} ({reason}); its chain ends with {end}, which is {status}"
        yield Violation(Law.UNTRUE, root, words)


def _members(lineage: Found) -> list[str]:
    return [lineage["root"], *(attempt["clone"] for attempt in lineage.get("attempts", []))]


def _descendants(case: _Case, root: str) -> list[str]:
    """Return the clones that descend from an execution, oldest first (of twins, the first line)."""
    line, at = [], case.executions[root]
    while at["clones"]:
        line.append(at["clones"][0])
        at = case.executions[at["clones"][0]]
    return line
