"""Payload fingerprints that the listing did not show, asked for one by one where a doubt depends on them.

A listing may leave payloads out to stay short. Then nothing in it can be told apart from anything else of the
same workflow version, and every unclear call would wait for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from worker.domain.executions import Execution
from worker.domain.lineage import Lineage
from worker.engine.gatekeeper import Gatekeeper
from worker.kinetic import KineticError

MOST_ASKED = 200
"""Executions asked for at most in one go; what is left stays unknown, and unknown matches anything."""
MOST_KNOWN = 20_000


@dataclass(slots=True)
class Payloads:
    """What one process has learned of payloads. An execution's payload never changes."""

    known: dict[str, str] = field(default_factory=dict)

    async def fill_in(
        self, calls: Gatekeeper, doubtful: Mapping[str, Lineage], listing: Sequence[Execution]
    ) -> tuple[dict[str, Lineage], list[Execution]]:
        """Return both with the fingerprints that the listing left out, as far as the API tells them.

        A listing that shows a payload anywhere shows all of them: what is empty there is empty.

        Args:
            calls: the API.
            doubtful: by root, the lineages whose retry call may have made a clone: all of them, for two that
                share a payload share the candidates.
            listing: where it is looked for.
        """
        if any(each.fingerprint for each in listing):
            return dict(doubtful), list(listing)
        versions = {each.workflow_version_uuid for each in doubtful.values()}
        failing = [each.failing for each in doubtful.values() if not each.fingerprint]
        alike = [each.uuid for each in listing if each.workflow_version_uuid in versions]
        await self._ask(calls, dict.fromkeys([*failing, *alike]))
        lineages = {
            root: replace(each, fingerprint=each.fingerprint or self.known.get(each.failing, ""))
            for root, each in doubtful.items()
        }
        return lineages, [replace(each, fingerprint=self.known.get(each.uuid, "")) for each in listing]

    async def _ask(self, calls: Gatekeeper, uuids: Iterable[str]) -> None:
        if len(self.known) > MOST_KNOWN:
            self.known.clear()
        unknown = [uuid for uuid in uuids if uuid not in self.known]
        for uuid in unknown[:MOST_ASKED]:
            try:
                self.known[uuid] = (await calls.get(uuid)).fingerprint
            except KineticError:
                return  # what is not known matches anything: it is only decided later, or by a person
