"""What worker and beat take while nothing fails: the Procfile's two and their children, with the defaults.

Counted are all processes that come of the two, by what the kernel says of each: time on a core, and memory
with what is shared divided among those that share it. Redis and the API, which answers an empty list, are not
counted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.api import api
from benchmarks.speed.figures import Figure
from benchmarks.speed.processes import ROLES, cpu_s, memory_mb, tree
from tests.support.daemons import Daemons, wait_until
from tests.support.redis_server import redis_server

WARM_UP_S = 10.0
WINDOW_S = 24.0


def measure(runs: int) -> Iterator[Figure]:
    """Yield the share of one core and the memory, over so many windows of one start."""
    with tempfile.TemporaryDirectory() as directory, redis_server() as server, api() as kinetic:
        settings = {
            "KINETIC_BASE_URL": kinetic.url,
            "KINETIC_API_KEY": "bench",
            "REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
            "TMPDIR": directory,
        }
        processes = Daemons(settings, Path(directory))  # without the haste of tests
        try:
            for role in ROLES:
                processes.start(role)
            wait_until(lambda: len(tree(processes, "worker")) > 2, "the pool runs")
            time.sleep(WARM_UP_S)
            shares, sizes, parts = list[float](), list[float](), dict[str, float]()
            for _ in range(runs):
                before, began_s = cpu_s(processes), time.monotonic()
                time.sleep(WINDOW_S)
                after, passed_s = cpu_s(processes), time.monotonic() - began_s
                assert before.keys() == after.keys(), "a process ended, or a new one began"
                parts = {each: (after[each] - before[each]) / passed_s * 100 for each in after}
                shares.append(sum(parts.values()))
                sizes.append(sum(memory_mb(pid) for role in ROLES for pid in tree(processes, role)))
            assert processes.events("list_read"), processes.text()
        finally:
            for each in processes.all:
                each.stop()
    told = ", ".join(f"{each} {share:.2f}" for each, share in parts.items())
    yield Figure(
        "idle: share of one core", tuple(shares), "%", at_most=1, detail=f"{told}; {WINDOW_S:.0f} s each"
    )
    yield Figure("idle: memory", tuple(sizes), " MB", at_most=200, detail=f"{len(parts)} processes", digits=0)
