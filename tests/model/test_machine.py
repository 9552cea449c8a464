"""The model test: random interleavings of real engines over the real scripts, judged by the API's record."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.calls import Server
from tests.model.machine import Machine

STEPS = int(os.environ.get("MODEL_STEPS", "15000"))
MOVES_PER_EXAMPLE = 100
STEPS_PER_EXAMPLE = 600
"""With some to spare: a move is none to a hundred steps."""
FIXED = "MODEL_STEPS" not in os.environ
SHRINK = os.environ.get("MODEL_SHRINK") != "0"


@pytest.mark.timeout(900 if FIXED else 3600)
def test_the_laws_hold_in_random_interleavings(
    server: Server, record_property: Callable[[str, object], None]
) -> None:
    """Whatever is lost, repeated, late, killed or stopped, and in whatever order.

    No failed execution is cloned twice; every failure ends with a verdict or waits for a person; every
    attempt on record is a clone that the API made for it.
    """
    tally: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: Machine(server, tally),  # type: ignore[arg-type]  # any factory does
        settings=settings(
            max_examples=STEPS // STEPS_PER_EXAMPLE,
            stateful_step_count=MOVES_PER_EXAMPLE,
            deadline=None,
            database=None,
            derandomize=FIXED,
            print_blob=True,
            report_multiple_bugs=False,
            phases=list(Phase) if SHRINK else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    report = "\n".join(f"{count:8,}  {what}" for what, count in sorted(tally.items(), key=lambda i: -i[1]))
    record_property("model", report)
    assert tally["steps"] >= STEPS
