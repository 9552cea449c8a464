"""`python -m tests.chaos`: one chaos run. Exit code 0 when every law held, 1 with the evidence when not."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.conductor import Conductor
from tests.chaos.table import evidence, figures
from tests.chaos.world import running_world

SHORTEST_S, LONGEST_S = 60.0, 3600.0
LOG_WIDTH = 120
TO_SETTLE_S = 30.0
"""Of the time that was asked for: after the last fault everything has to come to its verdict."""


def main() -> int:
    """Run, print the table, and return the exit code."""
    args = _parser().parse_args()
    seconds = min(max(args.minutes * 60 if args.seconds is None else args.seconds, SHORTEST_S), LONGEST_S)
    seed = secrets.randbelow(1_000_000) if args.seed is None else args.seed
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    screen = Console(highlight=False, markup=False, soft_wrap=True)
    if not screen.is_terminal:
        screen.width = LOG_WIDTH
    screen.print(
        f"chaos for {seconds:.0f} s, seed {seed}: make chaos SEED={seed} draws the same faults again"
    )
    began_s = time.monotonic()

    def say(line: str) -> None:
        screen.print(f"{time.monotonic() - began_s:6.1f} s  {line}")

    with running_world(directory, seed) as world:
        say(f"{len(world.workers)} workers and {len(world.beats)} beats are running")
        outcome = Conductor(world, seed, seconds - TO_SETTLE_S, say).run()
        found = evidence(outcome, world) if outcome.violations else ""
    screen.print(figures(outcome))
    if not found:
        screen.print("every law held")
        if not args.keep:
            shutil.rmtree(directory)
            return 0
    else:
        screen.print(found)
        (directory / "evidence.txt").write_text(found)
        screen.print(f"{len(outcome.violations)} times a law was broken (seed {seed})")
    screen.print(f"logs: {directory}")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Real processes under random faults, judged by the simulator's record.",
    )
    parser.add_argument(
        "--minutes", type=float, default=5, help="how long, all in all (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, help="the same in seconds")
    parser.add_argument("--seed", type=int, help="draws the faults; the same seed, the same faults")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run in which every law held")
    return parser


if __name__ == "__main__":
    sys.exit(main())
