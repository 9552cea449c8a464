"""Payload fingerprints that the listing did not show, asked for one by one where a doubt depends on them.

A listing may leave payloads out to stay short. Then nothing in it can be told apart from anything else of the
same workflow version, and every unclear call would wait for a person.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from worker.domain.executions import Execution
from worker.domain.lineage import Lineage
from worker.engine.gatekeeper import Gatekeeper
from worker.kinetic import KineticError, NotFound, Unreadable

MOST_ASKED = 200
"""Executions asked for at most in one turn; the next turn asks for more."""
MOST_KNOWN = 20_000


@dataclass(slots=True)
class Payloads:
    """What one process has learned of payloads. An execution's payload never changes."""

    known: dict[str, str] = field(default_factory=dict)

    async def fill_in(
        self,
        calls: Gatekeeper,
        doubtful: Mapping[str, Lineage],
        listing: Sequence[Execution],
        *,
        at_once: int,
        may_go_on: Callable[[], bool],
    ) -> tuple[dict[str, Lineage], list[Execution], bool]:
        """Return both with the fingerprints that the listing left out, and whether all were learned.

        A listing that shows a payload anywhere shows all of them: what is empty there is empty.

        Args:
            calls: the API.
            doubtful: by root, the lineages whose retry call may have made a clone: all of them, for two that
                share a payload share the candidates.
            listing: where it is looked for.
            at_once: questions under way at once.
            may_go_on: asked before each question.
        """
        if any(each.fingerprint for each in listing):
            return dict(doubtful), list(listing), True
        versions = {each.workflow_version_uuid for each in doubtful.values()}
        failing = [each.failing for each in doubtful.values() if not each.fingerprint]
        alike = [each.uuid for each in listing if each.workflow_version_uuid in versions]
        wanted = list(dict.fromkeys([*failing, *alike]))
        await self._ask(calls, wanted, at_once, may_go_on)
        lineages = {
            root: replace(each, fingerprint=each.fingerprint or self.known.get(each.failing, ""))
            for root, each in doubtful.items()
        }
        executions = [replace(each, fingerprint=self.known.get(each.uuid, "")) for each in listing]
        return lineages, executions, all(uuid in self.known for uuid in wanted)

    async def _ask(
        self, calls: Gatekeeper, wanted: Sequence[str], at_once: int, may_go_on: Callable[[], bool]
    ) -> None:
        if len(self.known) > MOST_KNOWN:
            self.known.clear()
        unknown = deque(uuid for uuid in wanted if uuid not in self.known)
        while len(unknown) > MOST_ASKED:
            unknown.pop()

        async def ask() -> None:
            while unknown and may_go_on():
                uuid = unknown.popleft()
                try:
                    self.known[uuid] = (await calls.get(uuid)).fingerprint
                except (NotFound, Unreadable):
                    self.known[uuid] = ""  # it will not be shown: it may be anybody's, for ever
                except KineticError:
                    continue  # asked for again by the next turn

        await asyncio.gather(*(ask() for _ in range(at_once)))
