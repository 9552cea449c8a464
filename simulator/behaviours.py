"""How the runs of a workflow end, how long they take and what payload they carry.

Owns the rules of failing; each is a value that answers one question about one run. Knows no clock: a
run's end is planned when it is created, so the answer does not depend on who looks and when.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

NO_TIME = timedelta(0)


@dataclass(frozen=True, slots=True)
class Run:
    """What a behaviour may judge by.

    Attributes:
        retry: 0 for a first run; otherwise how many retries lead from the chain's root to this run.
        ends_at: when the run is going to end.
    """

    retry: int
    ends_at: datetime


class Behaviour(Protocol):
    """The rule by which a workflow's runs end."""

    def fails(self, run: Run, rng: random.Random) -> bool:
        """Whether this run is going to fail; drawn once, when the run is planned."""
        ...


@dataclass(frozen=True, slots=True)
class Healthy:
    """Every run completes."""

    def fails(self, run: Run, rng: random.Random) -> bool:  # noqa: ARG002 - the protocol's signature
        """Return False."""
        return False


@dataclass(frozen=True, slots=True)
class Broken:
    """Every run fails, for ever."""

    def fails(self, run: Run, rng: random.Random) -> bool:  # noqa: ARG002 - the protocol's signature
        """Return True."""
        return True


@dataclass(frozen=True, slots=True)
class Flaky:
    """Every run, first or retried, fails with the same probability (0 to 1)."""

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError("the probability of a flaky workflow must be between 0 and 1")

    def fails(self, run: Run, rng: random.Random) -> bool:  # noqa: ARG002 - the protocol's signature
        """Throw the dice."""
        return rng.random() < self.probability


@dataclass(frozen=True, slots=True)
class RecoversAfter:
    """First runs fail; the chain's n-th retry succeeds. 0 never fails."""

    retries: int

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError("the number of retries until recovery must be 0 or more")

    def fails(self, run: Run, rng: random.Random) -> bool:  # noqa: ARG002 - the protocol's signature
        """Whether the run comes before the one that succeeds."""
        return run.retry < self.retries


@dataclass(frozen=True, slots=True)
class Outage:
    """Runs that end inside the window (start included, end excluded) fail; all others complete."""

    start: datetime
    end: datetime

    def fails(self, run: Run, rng: random.Random) -> bool:  # noqa: ARG002 - the protocol's signature
        """Whether the run ends inside the window."""
        return self.start <= run.ends_at < self.end


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the steps of a run take.

    Attributes:
        shortest, longest: of the run itself; both zero: it ends in the very moment of its creation.
        pending: before it is queued. Zero by default: the published contract has no such status.
        queued: between queueing and the start.
        pauses: whether the middle third of the run shows as `paused`.
    """

    shortest: timedelta = NO_TIME
    longest: timedelta = NO_TIME
    pending: timedelta = NO_TIME
    queued: timedelta = NO_TIME
    pauses: bool = False

    def __post_init__(self) -> None:
        if not NO_TIME <= self.shortest <= self.longest:
            raise ValueError("run times must not be negative and the shortest must not exceed the longest")
        if self.pending < NO_TIME or self.queued < NO_TIME:
            raise ValueError("pending and queued times must not be negative")

    def run_time(self, rng: random.Random) -> timedelta:
        """Draw the duration of one run, evenly between the shortest and the longest."""
        if self.shortest == self.longest:
            return self.shortest
        return self.shortest + (self.longest - self.shortest) * rng.random()


class PayloadStyle(StrEnum):
    """What the payloads of a workflow look like to someone who has to tell its executions apart."""

    DISTINCTIVE = "distinctive"
    EQUAL = "equal"
    NULL = "null"

    def payload(self, rng: random.Random) -> Any:
        """Return an invented payload: its own for every root, the same for all, or None."""
        return _PAYLOADS[self](rng)


def _distinctive(rng: random.Random) -> dict[str, Any]:
    return {
        "member_id": f"SIM-{rng.getrandbits(40):010x}",
        "claim": {"number": f"C-{rng.getrandbits(32):08x}", "amount_cents": rng.randrange(1_000, 900_000)},
    }


_PAYLOADS: dict[PayloadStyle, Callable[[random.Random], Any]] = {
    PayloadStyle.DISTINCTIVE: _distinctive,
    PayloadStyle.EQUAL: lambda _rng: {"queue": "nightly", "portal": "invented-payer"},
    PayloadStyle.NULL: lambda _rng: None,
}
