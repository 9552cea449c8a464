"""How long the command line takes from its start to its answer.

The installed program is started again and again, as a person would, with a ledger of a few thousand lineages:
what `status` shows costs the same over any number of them (`python -m benchmarks.commands` shows that).
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from benchmarks.speed.figures import Figure
from tests.support.daemons import OURS
from tests.support.full_ledger import fill
from tests.support.redis_server import redis_server
from worker.ledger import Connection, Ledger

PROGRAM = str(Path(sys.executable).with_name("kinetic-retry"))
NAMESPACE = "bench"
LINEAGES = 3000
STARTS = 12
AT_MOST_S = 0.3


def measure(runs: int) -> Iterator[Figure]:
    """Yield how long `--help` and `status` take, each the median of a dozen starts."""
    with redis_server() as server, tempfile.TemporaryDirectory() as directory:
        url = f"redis://127.0.0.1:{server.port}/0"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        environment |= {"REDIS_URL": url, "LEDGER_NAMESPACE": NAMESPACE}
        yield _figure("start of `--help`", ("--help",), environment, directory, runs)
        yield _figure("start of `status`, an empty ledger", ("status",), environment, directory, runs)
        asyncio.run(_fill(url))
        yield _figure(f"start of `status`, {LINEAGES:,} lineages", ("status",), environment, directory, runs)


async def _fill(url: str) -> None:
    ledger = Ledger(Connection(url), NAMESPACE, events_maxlen=10_000)
    try:
        await fill(ledger, LINEAGES)
    finally:
        await ledger.aclose()


def _figure(
    what: str, words: tuple[str, ...], environment: Mapping[str, str], directory: str, runs: int
) -> Figure:
    _start(words, environment, directory)  # from the disk, and compiled where that was not done yet
    middles, best_s, cpu_s = list[float](), float("inf"), 0.0
    for _ in range(runs):
        costs = [_start(words, environment, directory) for _ in range(STARTS)]
        middles.append(median(wall_s for wall_s, _ in costs))
        best_s = min(best_s, *(wall_s for wall_s, _ in costs))
        cpu_s = median(cpu_s for _, cpu_s in costs)
    detail = f"median of {STARTS} starts; best {best_s:.3f} s, {cpu_s:.3f} s of CPU"
    return Figure(what, tuple(middles), " s", at_most=AT_MOST_S, detail=detail, digits=3)


def _start(words: tuple[str, ...], environment: Mapping[str, str], directory: str) -> tuple[float, float]:
    """Run the program once; return its wall and CPU time in seconds."""
    before, began_s = _cpu_s(), time.perf_counter()
    # Without a time limit: with one, Python looks only every 50 ms whether the process has ended.
    subprocess.run((PROGRAM, *words), env=environment, cwd=directory, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s, _cpu_s() - before


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
