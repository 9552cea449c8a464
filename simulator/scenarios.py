"""Ready-made worlds. `demo`: a morning in healthcare administration, compressed into a minute.

Every name is invented. The same seed gives the same workflows and the same arrivals.
"""

# ruff: noqa: RUF001 - the dash in the names is meant: real names are not ASCII either

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from simulator.behaviours import (
    Behaviour,
    Broken,
    Flaky,
    Healthy,
    Outage,
    PayloadStyle,
    RecoversAfter,
    Timing,
)
from simulator.executions import Workflow
from simulator.world import World

DISTINCTIVE, EQUAL = PayloadStyle.DISTINCTIVE, PayloadStyle.EQUAL


@dataclass(frozen=True, slots=True)
class Cast:
    """A workflow of a scenario and how many executions of it arrive per second."""

    name: str
    behaviour: Behaviour
    per_second: float
    payloads: PayloadStyle = DISTINCTIVE


def demo(world: World, speed: float = 1.0) -> None:
    """Fill a world with eight workflows that fail about once a second between them.

    Within a minute: failures that recover at the first retry, at the third, by luck or never; a portal
    that is down from second 10 to second 40; and one workflow that nobody has repaired. Runs take 1 to
    4 seconds.

    Args:
        world: an empty one.
        speed: durations are divided and rates multiplied by it. Time itself stays true: the worker
            compares what it reads here with its own clock.
    """
    now = world.now()
    outage = Outage(now + timedelta(seconds=10) / speed, now + timedelta(seconds=40) / speed)
    timing = Timing(
        shortest=timedelta(seconds=0.8) / speed,
        longest=timedelta(seconds=3.6) / speed,
        queued=timedelta(seconds=0.3) / speed,
    )
    for part in (
        Cast("Prior authorisation – Northwind Health", Flaky(0.35), 0.7),
        Cast("Claim status – Meridian Payer Portal", Flaky(0.2), 0.8),
        Cast("Eligibility check – Bluefin Benefits", Healthy(), 1.0),
        Cast("Referral intake – Lakeshore Clinics", RecoversAfter(1), 0.15),
        Cast("Credentialing update – Harbor Medical Group", RecoversAfter(3), 0.1),
        Cast("Remittance download – Evergreen Clearinghouse", outage, 0.5),
        Cast("Appeal submission – Summit Mutual", Broken(), 0.07),
        Cast("Formulary look-up – Pinecrest Pharmacy", Flaky(0.3), 0.2, EQUAL),
    ):
        workflow = world.add_workflow(
            Workflow(world.new_uuid(), world.new_uuid(), part.name, part.behaviour, timing, part.payloads)
        )
        world.let_arrive(workflow, part.per_second * speed)


def empty(_world: World, _speed: float = 1.0) -> None:
    """Leave the world empty: whoever controls it fills it."""


SCENARIOS: dict[str, Callable[[World, float], None]] = {"demo": demo, "empty": empty}
