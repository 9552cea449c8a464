"""The Kinetic API of the model: executions, and a record that knows what the real one does not tell.

The record knows every clone's parent, so it can judge whether a failed execution was cloned twice. The
worker sees only JSON: it is read by the product's own code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.model.clockwork import Clock

FINAL = ("completed", "failed")
CLONED_TWICE = "a failed execution was cloned more than once"


@dataclass
class Run:
    """An execution, with what only the record knows: whose clone it is."""

    uuid: str
    version: str
    payload: Any
    status: str
    created_at: datetime
    updated_at: datetime
    parent: str = ""
    reruns: int = 0

    @property
    def ended(self) -> bool:
        return self.status in FINAL

    def as_json(self) -> dict[str, Any]:
        """Return the execution as the API shows it."""
        return {
            "execution_uuid": self.uuid,
            "workflow_version_uuid": self.version,
            "workflow_uuid": f"workflow-of-{self.version}",
            "status": self.status,
            "input_payload": self.payload,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }


@dataclass
class Habits:
    """How this deployment behaves.

    Attributes:
        skew: its clock minus the true time.
        in_place: it runs the failed execution again instead of cloning it.
        clone_status: what a clone is at once: `queued`, or ended in the same instant.
        trouble: how every call ends, without effect, until it is over: one of `wire.WITHOUT_EFFECT`, or "".
        answer_takes_s: how long the answer to a call is under way.
    """

    skew: timedelta = timedelta(0)
    in_place: bool = False
    page_size: int = 2
    clone_status: str = "queued"
    trouble: str = ""
    answer_takes_s: float = 0


@dataclass
class KineticWorld:
    """All executions of one example, and the judgement over what was done to them.

    Attributes:
        guesses: the worker may take for a clone what may be one. Then two failures can swap their clones, and
            only their number tells whether there are too many.
        complaints: what must not have happened.
    """

    clock: Clock
    habits: Habits
    guesses: bool = False
    runs: dict[str, Run] = field(default_factory=dict)
    clones: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return self.clock.now() + self.habits.skew

    def add(self, status: str, version: str, payload: Any, *, age: timedelta = timedelta(0)) -> Run:
        at = self.now() - age
        run = Run(f"e{len(self.runs) + 1}", version, payload, status, at, at)
        self.runs[run.uuid] = run
        return run

    def end(self, run: Run, status: str) -> None:
        run.status, run.updated_at = status, self.now()

    def failed_at(self, run: Run) -> datetime:
        """Return when it failed, by the true time."""
        return run.updated_at - self.habits.skew

    def listing(self, status: str | None, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return one page, newest first; of the same instant, the one made last first."""
        found = [run for run in reversed(self.runs.values()) if status in (None, run.status)]
        found.sort(key=lambda run: run.created_at, reverse=True)
        return [run.as_json() for run in found[offset : offset + min(limit, self.habits.page_size)]]

    def serve(self, method: str, path: str, query: dict[str, str]) -> tuple[int, Any]:
        """Act on a request; return the status and the JSON of the answer."""
        if path.endswith("/api/executions"):
            return 200, self.listing(query.get("status"), int(query["offset"]), int(query["limit"]))
        uuid = path.removesuffix("/retry").rpartition("/")[2]
        status, run = self.retry(uuid) if method == "POST" else (200, self.runs.get(uuid))
        return (status, run.as_json()) if run else (status if method == "POST" else 404, {"detail": "no"})

    def retry(self, uuid: str) -> tuple[int, Run | None]:
        """Do what a retry call does; return the status and the execution that the answer shows."""
        run = self.runs.get(uuid)
        if run is None:
            return 404, None
        if run.status != "failed":
            if not self.habits.in_place:
                self.complaints.append(f"a retry was sent for {uuid}, which is {run.status}")
            return 409, None
        status = self.habits.clone_status
        if self.habits.in_place:
            run.reruns += 1
            self.end(run, status)
            return 201, run
        self.clones[uuid] += 1
        failures = sum(each.status == "failed" for each in self.runs.values())
        if self.clones[uuid] > 1 and not self.guesses:
            self.complaints.append(f"{CLONED_TWICE}: {uuid}")
        elif self.clones.total() > failures:
            self.complaints.append(f"{self.clones.total()} clones were made of {failures} failures")
        clone = self.add(status, run.version, run.payload)
        clone.parent = uuid
        return 201, clone

    def origin(self, run: Run) -> tuple[Run, int]:
        """Return the execution that nobody cloned, and how many clones lie between."""
        depth = 0
        while run.parent:
            run, depth = self.runs[run.parent], depth + 1
        return run, depth
