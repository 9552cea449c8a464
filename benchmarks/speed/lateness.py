"""From due to sent, on an idle system: real processes, executions that fall due at random times."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from statistics import median, quantiles

from benchmarks.speed.api import api
from benchmarks.speed.figures import Figure
from benchmarks.speed.processes import cpu_s
from benchmarks.speed.rig import fill_due, rig
from tests.support.daemons import wait_until

DUE, WITHIN_S = 1_000, 20.0
SUB_SECOND = "200ms"


def measure(runs: int) -> Iterator[Figure]:
    """Yield median and 99% at the default tick, and both and the price at a tick of 200 ms."""
    default = [_measure() for _ in range(runs)]
    quick = [_measure(SUBMIT_INTERVAL=SUB_SECOND) for _ in range(runs)]
    dues = f"{DUE:,} due within {WITHIN_S:.0f} s"
    middle, late, share = zip(*default, strict=True)
    yield Figure("late, median", middle, " s", at_most=0.5, detail=f"tick of 1 s, {dues}", digits=3)
    yield Figure("late, 99%", late, " s", at_most=1.1, detail=f"{median(share):.0f}% of a core", digits=3)
    middle, late, share = zip(*quick, strict=True)
    yield Figure("late, median, SUBMIT_INTERVAL=200ms", middle, " s", digits=3)
    detail = f"{median(share):.0f}% of a core meanwhile"
    yield Figure("late, 99%, SUBMIT_INTERVAL=200ms", late, " s", detail=detail, digits=3)


def _measure(**env: str) -> tuple[float, float, float]:
    """Return median and 99% in seconds, and what worker and beat took meanwhile in % of a core."""
    with api() as at, rig(at.url, WORKER_CONCURRENCY="2", **env) as running:
        for role in ("worker", "beat"):
            running.processes.start(role)
        wait_until(lambda: running.processes.text().count(" ready.") == 1, "the worker is ready")
        time.sleep(5)  # Celery, and the first ticks of everything
        due_at = asyncio.run(fill_due(running.redis_url, DUE, within_s=WITHIN_S))
        before, began_s = sum(cpu_s(running.processes).values()), time.monotonic()
        wait_until(lambda: at.tally()["executions"] >= DUE, "all retry calls", WITHIN_S + 30)
        spent_s = sum(cpu_s(running.processes).values()) - before
        share = spent_s / (time.monotonic() - began_s) * 100
        came_at = at.came_at()
    late = [came_at[execution] - moment for execution, moment in due_at.items()]
    return median(late), quantiles(late, n=100)[98], share
