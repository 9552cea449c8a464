"""How long every command of the command line takes over a full ledger: `python -m benchmarks.commands`.

Fills a ledger of its own with lineages of every kind (`tests.support.full_ledger`), runs each command a few
times as its own process, and prints the best CPU time, the best wall time and the most memory. The first line
is what Python needs that has loaded the settings and the Redis client, before it does anything.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.redis_server import redis_server

KINETIC_RETRY = (sys.executable, "-m", "worker.cli")
LOADED = (sys.executable, "-c", "import worker.cli.app, worker.cli.session")
NAMESPACE = "bench"
READS_ALL = frozenset({"list --all --uuids", "export --out all.jsonl", "policy backtest"})
"""These read everything, as they are asked to; they are run once."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a process took."""

    cpu_s: float
    wall_s: float
    memory_mb: float
    code: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill a ledger, measure, and print a line for each command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.commands", description=__doc__)
    parser.add_argument("--lineages", type=int, default=100_000, help="how many (100000)")
    parser.add_argument("--times", type=int, default=5, help="runs of each command, the best counts (5)")
    parser.add_argument("--only", default="", help="only commands that hold this text")
    parser.add_argument("--answers", action="store_true", help="leave out what reads everything")
    parser.add_argument("--fill", metavar="URL", help=argparse.SUPPRESS)
    wanted = parser.parse_args(arguments)
    if wanted.fill:
        print(*asyncio.run(_filled(wanted.fill, wanted.lineages)))
        return
    with redis_server() as server, tempfile.TemporaryDirectory() as directory:
        url = f"redis://127.0.0.1:{server.port}/0"
        environment = {**os.environ, "REDIS_URL": url, "LEDGER_NAMESPACE": NAMESPACE, "COLUMNS": "160"}
        # By another process: what a child needs is never counted lower than what its parent had in memory.
        fill = (
            sys.executable,
            "-m",
            "benchmarks.commands",
            "--fill",
            url,
            "--lineages",
            str(wanted.lineages),
        )
        root, workflow = subprocess.check_output(fill, text=True).split()
        print(f"{wanted.lineages} lineages; best of {wanted.times}")
        print(f"{'CPU':>7} {'wall':>7} {'memory':>7}  command")
        _show(
            _best(LOADED, environment, directory, wanted.times), "(Python, settings and Redis client loaded)"
        )
        for words in _commands(root, workflow):
            shown = " ".join(words)
            reads_all = shown in READS_ALL
            if wanted.only not in shown or (wanted.answers and reads_all):
                continue
            times = 1 if reads_all else wanted.times
            _show(_best((*KINETIC_RETRY, *words), environment, directory, times), shown)


async def _filled(url: str, count: int) -> tuple[str, str]:
    """Fill a ledger; return a dead letter of it and its workflow."""
    from tests.support.full_ledger import fill
    from worker.domain.lineage import State
    from worker.ledger import Connection, Ledger
    from worker.ledger.listing import Filter, Listing

    ledger = Ledger(Connection(url), NAMESPACE, events_maxlen=100_000)
    try:
        await fill(ledger, count)
        page = await Listing(ledger).find(Filter(states=(State.EXHAUSTED,)), limit=1)
        return page.found[0].root, page.found[0].group.workflow
    finally:
        await ledger.aclose()


def _commands(root: str, workflow: str) -> list[tuple[str, ...]]:
    return [
        ("status",),
        ("list",),
        ("list", "--state", "exhausted", "--workflow", "Eligibility*", "--attempts", "3-", "--since", "3d"),
        ("list", "--sort", "attempts", "--limit", "500", "--json"),
        ("dead",),
        ("dead", "--sort", "oldest", "--limit", "1000", "--uuids"),
        ("show", root, "--no-links"),
        ("track", "5f0c2b6e-0000-4000-8000-000000000000"),
        ("resolve", root, "--not-delivered", "--reason", "bench"),
        ("retry", root, "--reason", "bench"),
        ("hold", root, "--reason", "bench"),
        ("release", root, "--reason", "bench"),
        ("cancel", root, "--reason", "bench"),
        ("pause", workflow, "--reason", "bench"),
        ("resume", workflow, "--reason", "bench"),
        ("breaker", "list"),
        ("breaker", "open", workflow, "--reason", "bench"),
        ("breaker", "auto", workflow, "--reason", "bench"),
        ("redrive", "--workflow", "Eligibility*"),
        ("redrive", "list"),
        ("policy", "explain", "--workflow", "Eligibility, Harbor"),
        ("tail", "--people", "--since", "30d", "--no-follow"),
        ("tail", root, "--since", "30d", "--no-follow"),
        ("report", "--since", "30d"),
        ("config",),
        ("check",),
        ("health", "worker"),
        ("completion", "bash"),
        ("export", "--state", "exhausted", "--since", "1d", "--out", "dead.csv"),
        ("list", "--all", "--uuids"),
        ("export", "--out", "all.jsonl"),
        ("policy", "backtest"),
    ]


def _best(words: Sequence[str], environment: Mapping[str, str], directory: str, times: int) -> Cost:
    costs = [_run(words, environment, directory) for _ in range(times)]
    return Cost(
        min(each.cpu_s for each in costs),
        min(each.wall_s for each in costs),
        max(each.memory_mb for each in costs),
        costs[0].code,
    )


def _run(words: Sequence[str], environment: Mapping[str, str], directory: str) -> Cost:
    began_s = time.monotonic()
    process = subprocess.Popen(
        words,
        cwd=directory,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(used.ru_utime + used.ru_stime, wall_s, _megabytes(used), process.returncode)


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1024 if sys.platform != "darwin" else 1_048_576)


def _show(cost: Cost, words: str) -> None:
    code = f"  [{cost.code}]" if cost.code else ""
    print(f"{cost.cpu_s:5.2f} s {cost.wall_s:5.2f} s {cost.memory_mb:4.0f} MB  {words}{code}")


if __name__ == "__main__":
    main()
