"""Measure everything and print the table: `python -m benchmarks.speed [SUBJECT ...] [--runs N] [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from benchmarks.speed.figures import Figure, table

SUBJECTS: Mapping[str, str] = {
    "retries": "retries per second beside a bare loop and a task for each; concurrency; scale-out",
    "discovery": "reading a list of 100,000 failures that are all known",
    "calls": "calls to the API for each recovered execution, with 10,000 clones running",
    "lateness": "from due to sent, on an idle system",
    "memory": "what a lineage takes in Redis",
    "idle": "what worker and beat take while nothing fails",
    "million": "every step with 1,000,000 lineages, of which 10,000 are due, against 10,000 alone",
    "commands": "how long the command line takes to start",
}
"""Each is a module beside this one with `measure(runs) -> Iterator[Figure]`."""


def main() -> int:
    """Print what was measured, as it comes; return 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        epilog="subjects: " + "; ".join(f"{name} ({what})" for name, what in SUBJECTS.items()),
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help="what to measure (everything)")
    parser.add_argument("--runs", type=int, default=3, help="how often each is measured (3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    wanted = parser.parse_args()
    if unknown := sorted(set(wanted.subjects) - set(SUBJECTS)):
        parser.error(f"there is no {', '.join(unknown)}; subjects: {', '.join(SUBJECTS)}")
    began_s, figures = time.monotonic(), list[Figure]()
    for name in wanted.subjects or SUBJECTS:
        print(f"measuring {name}: {SUBJECTS[name]} ...", file=sys.stderr, flush=True)
        figures += _measure(name)(wanted.runs)
    if wanted.json:
        print(json.dumps([each.as_object() for each in figures], indent=2, ensure_ascii=False))
    else:
        print(*table(figures), sep="\n")
        minutes = (time.monotonic() - began_s) / 60
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
        print(f"{wanted.runs} runs of each, {machine}; {minutes:.1f} min")
    return int(any(each.met is False for each in figures))


def _measure(name: str) -> Callable[[int], Iterator[Figure]]:
    measure: Callable[[int], Iterator[Figure]] = import_module(f"benchmarks.speed.{name}").measure
    return measure


if __name__ == "__main__":
    sys.exit(main())
