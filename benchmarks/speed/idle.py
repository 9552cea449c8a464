"""What worker and beat take while nothing fails: the Procfile's two and their children, with the defaults.

Counted are all processes that come of the two, by what the kernel says of each: time on a core, and memory
with what is shared divided among those that share it. Redis and the API, which answers an empty list, are not
counted.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed.api import api
from benchmarks.speed.figures import Figure
from tests.support.daemons import Daemons, wait_until
from tests.support.redis_server import redis_server

WARM_UP_S = 10.0
WINDOW_S = 24.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROLES = ("worker", "beat")


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
            wait_until(lambda: len(_tree(processes, "worker")) > 2, "the pool runs")
            time.sleep(WARM_UP_S)
            shares, sizes, parts = list[float](), list[float](), dict[str, float]()
            for _ in range(runs):
                before, began_s = _cpu_s(processes), time.monotonic()
                time.sleep(WINDOW_S)
                after, passed_s = _cpu_s(processes), time.monotonic() - began_s
                assert before.keys() == after.keys(), "a process ended, or a new one began"
                parts = {each: (after[each] - before[each]) / passed_s * 100 for each in after}
                shares.append(sum(parts.values()))
                sizes.append(sum(_memory_mb(pid) for role in ROLES for pid in _tree(processes, role)))
            assert processes.events("list_read"), processes.text()
        finally:
            for each in processes.all:
                each.stop()
    told = ", ".join(f"{each} {share:.2f}" for each, share in parts.items())
    yield Figure(
        "idle: share of one core", tuple(shares), "%", at_most=1, detail=f"{told}; {WINDOW_S:.0f} s each"
    )
    yield Figure("idle: memory", tuple(sizes), " MB", at_most=200, detail=f"{len(parts)} processes", digits=0)


def _tree(processes: Daemons, role: str) -> list[int]:
    """Return the processes that come of a role, the first one first."""
    found = [each.process.pid for each in processes.all if each.role == role]
    for pid in found:  # grows while it is walked
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _cpu_s(processes: Daemons) -> dict[str, float]:
    """Return how long each process has been on a core, by a name for it."""
    spent = dict[str, float]()
    for role in ROLES:
        for number, pid in enumerate(_tree(processes, role)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent[f"{role} {number}" if number else role] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return spent


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
