"""What the kernel says of the processes that come of worker and beat."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.daemons import Daemons

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROLES = ("worker", "beat")


def tree(processes: Daemons, role: str) -> list[int]:
    """Return the processes that come of a role, the first one first."""
    found = [each.process.pid for each in processes.all if each.role == role]
    for pid in found:  # grows while it is walked
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def cpu_s(processes: Daemons) -> dict[str, float]:
    """Return how long each process has been on a core, by a name for it."""
    spent = dict[str, float]()
    for role in ROLES:
        for number, pid in enumerate(tree(processes, role)):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent[f"{role} {number}" if number else role] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return spent


def memory_mb(pid: int) -> float:
    """Return the memory of a process, what it shares divided among those that share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
