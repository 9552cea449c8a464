"""Workflows and executions of the simulated system: plain data, and what can be read off it at a time.

An execution carries its whole planned course, so its status is a function of the moment of looking. The
clone relation is kept here and shown to nobody but the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from simulator.behaviours import Behaviour, Healthy, PayloadStyle, Timing

FAILURE_LOG = "the page did not answer in time"
"""How the log of a failed run ends, unless its workflow says otherwise."""

Key = tuple[datetime, int]
"""An execution's place in a listing: when it was created, then the order of creation."""


class Status(StrEnum):
    """The API's life cycle."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"


FINAL = (Status.COMPLETED, Status.FAILED)


@dataclass(slots=True)
class Workflow:
    """A workflow and the rules its runs follow; changed rules hold for the runs planned afterwards."""

    uuid: str
    version_uuid: str
    name: str
    behaviour: Behaviour = field(default_factory=Healthy)
    timing: Timing = field(default_factory=Timing)
    payloads: PayloadStyle = PayloadStyle.DISTINCTIVE
    failure_log: str = FAILURE_LOG


@dataclass(slots=True, eq=False)
class Execution:
    """One execution: its planned course, and the clone relation that the API never shows.

    Attributes:
        seq: its place in the order of creation, from 0.
        retry: how many retries lead from the root to its present run; 0 for a root's first run.
        run: counts the runs of this very execution: above 1 only after a retry in place.
        settled: its final status once it was seen to have ended, else None.
        clones: the uuids of the executions cloned from it, oldest first. More than one is a duplicate.
    """

    seq: int
    uuid: str
    workflow: Workflow
    payload: Any
    created_at: datetime
    root: str
    parent: str | None
    retry: int
    queued_at: datetime
    started_at: datetime
    ends_at: datetime
    fails: bool
    run: int = 1
    settled: Status | None = None
    clones: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """Where it stands in a listing."""
        return (self.created_at, self.seq)

    def status(self, now: datetime) -> Status:
        """Return its status at a time not before the last settling."""
        if self.settled:
            return self.settled
        if now >= self.ends_at:
            return Status.FAILED if self.fails else Status.COMPLETED
        if now >= self.started_at:
            third = (self.ends_at - self.started_at) / 3
            paused = self.workflow.timing.pauses and third <= now - self.started_at < third * 2
            return Status.PAUSED if paused else Status.RUNNING
        return Status.QUEUED if now >= self.queued_at else Status.PENDING

    def updated_at(self, now: datetime) -> datetime:
        """Return when its status last changed."""
        passed = (moment for moment in (self.ends_at, self.started_at, self.queued_at) if now >= moment)
        return next(passed, self.created_at)
