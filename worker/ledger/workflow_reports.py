"""Reading what the ledger knows of workflows, for people: breakers, counts and who waits. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker.domain.breaker import Breaker, Mode
from worker.domain.budget import Usage
from worker.domain.lineage import Lineage
from worker.ledger.gate import as_mapping
from worker.ledger.ledger import Ledger
from worker.ledger.workflows import Known, load_breaker, waiting_member

_NO_WORKFLOW = ""
"""Nothing is counted under it; the counts of all workflows come along with those of any."""


@dataclass(frozen=True, slots=True)
class Named:
    """A workflow.

    Attributes:
        key: what it is counted under.
        uuid, name: "" when the API does not tell.
    """

    key: str
    uuid: str
    name: str


@dataclass(frozen=True, slots=True)
class WorkflowReport:
    """What is known of one workflow.

    Attributes:
        known: its runs, its breaker and its counts.
        waiting: lineages that wait for it.
    """

    workflow: Named
    known: Known
    waiting: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a lineage stands among those that wait for its workflow.

    Attributes:
        before: how many of them failed earlier; None when it does not wait.
        of: how many wait.
    """

    before: int | None
    of: int


class WorkflowReports:
    """Answers people's questions about workflows from one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def look(
        self, breakers: Mapping[str, Breaker], window: timedelta
    ) -> tuple[list[WorkflowReport], Usage]:
        """Return the workflows of these breakers those that are waited for, and the counts of all.

        Args:
            breakers: by what their workflows are counted under.
            window: over which runs and clones are counted.
        """
        found = {key: Named(key, each.workflow_uuid, each.workflow_name) for key, each in breakers.items()}
        waiting = await self._ledger.workflows.waiting(1)
        first = await self._ledger.read([each.root for each in waiting])
        found |= {each.workflow: _named(each) for each in first.values() if isinstance(each, Lineage)}
        index = self._ledger.keys.waiting
        counts = await self._all([("ZLEXCOUNT", index, *_same_workflow(each.member)) for each in waiting])
        waits = dict(zip((each.workflow for each in waiting), counts, strict=True))
        known = await self._ledger.workflows.look([*found, _NO_WORKFLOW], window)
        reports = [WorkflowReport(each, known[key], waits.get(key, 0)) for key, each in found.items()]
        return reports, known[_NO_WORKFLOW].usage

    async def workflow_of(self, lineage: Lineage, window: timedelta) -> tuple[WorkflowReport, Place]:
        """Return what is known of a lineage's workflow, and its place among those that wait for that."""
        key, member, index = lineage.workflow, waiting_member(lineage), self._ledger.keys.waiting
        known = (await self._ledger.workflows.look([key], window))[key]
        low, high = _same_workflow(member)
        score, before, of = await self._all(
            [
                ("ZSCORE", index, member),
                ("ZLEXCOUNT", index, low, f"({member}"),
                ("ZLEXCOUNT", index, low, high),
            ]
        )
        return WorkflowReport(_named(lineage), known, of), Place(None if score is None else before, of)

    async def names(self) -> list[Named]:
        """Return the workflows that are known: those with a breaker, and those that ever had a lineage."""
        breakers, names = await self._all(
            [("HGETALL", self._ledger.keys.breakers), ("HGETALL", self._ledger.keys.names)]
        )
        found = {}
        for key, name in as_mapping(names).items():
            # The uuid stands where there is no name; nothing where the API tells neither.
            found[key] = Named(key, key if name else "", "" if name == key else name)
        for key, text in as_mapping(breakers).items():
            breaker = load_breaker(text)
            found[key] = Named(key, breaker.workflow_uuid, breaker.workflow_name)
        return sorted(found.values(), key=lambda each: (each.name.casefold(), each.key))

    async def _all(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        if not commands:
            return []
        answers = await self._ledger.connection.pipelined(commands)
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._ledger.connection.translated(answer)
        return answers


def notable(breakers: Mapping[str, Breaker]) -> dict[str, Breaker]:
    """Return the breakers that are not closed, or were forced by a person."""
    return {key: each for key, each in breakers.items() if each.mode is not Mode.CLOSED or each.forced}


def _named(lineage: Lineage) -> Named:
    return Named(lineage.workflow, lineage.workflow_uuid, lineage.workflow_name)


def _same_workflow(member: str) -> tuple[str, str]:
    """Return the bounds between which those that wait for the same workflow are in the index."""
    workflow = member.partition("\n")[0]
    return f"[{workflow}\n", f"({workflow}\x0b"  # the character after the one that ends the workflow
