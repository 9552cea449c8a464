"""Compare retry policies on simulated days: `python -m benchmarks.effectiveness --help`.

Ours is the worker's own domain code (`worker.replay.ours`), with the defaults and no tuning. Everything runs
on a virtual clock.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest import COLUMNS, OURS, Column, Row, Spread, contest
from benchmarks.days import WORKING_DAY, Day
from benchmarks.options import chosen_days, parser
from benchmarks.targets import Verdict, beside_the_best, fixed


def main() -> int:
    """Print what was asked for; return 1 when the working day misses a target."""
    made = parser()
    options = made.parse_args()
    try:
        days = chosen_days(options)
    except ValueError as error:
        made.error(str(error))
    began_s, missed, told = time.perf_counter(), False, []
    for day in days:
        rows = contest(day, options.seeds, options.notice)
        targets = fixed(rows[OURS]) if day is WORKING_DAY else []
        peers = beside_the_best(rows)
        missed = missed or not all(each.met for each in targets)
        told.append(as_object(day, rows, [*targets, *peers]))
        if not options.json:
            print("\n".join(as_text(day, rows, targets, peers)), flush=True)
    if options.plot:
        from benchmarks.plot import plot

        plot(days[0], options.seeds, Path(options.plot), options.notice)
    if options.json:
        print(json.dumps({"seeds": list(options.seeds), "days": told}, indent=2, ensure_ascii=False))
    else:
        print(f"{len(options.seeds)} seeds in {time.perf_counter() - began_s:.1f} s")
    return int(missed)


def as_text(day: Day, rows: Mapping[str, Row], targets: list[Verdict], peers: list[Verdict]) -> list[str]:
    """Return a day's table and verdicts; medians over the seeds, and the range where there is one."""
    titles = ["", *(column.title for column in COLUMNS)]
    table = [titles, *([name, *(cell(c, row[c.key]) for c in COLUMNS)] for name, row in rows.items())]
    widths = [max(len(row[number]) for row in table) for number in range(len(titles))]
    lines = [
        "  ".join(
            text.ljust(width) if number == 0 else text.rjust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    told = [day.name, *lines]
    if targets:
        told += ["targets:", *(f"  {each.line}" for each in targets)]
    won = [each.column.title for each in peers if each.met]
    lost = [each.line for each in peers if not each.met]
    told += ["beside the best peer of each column:", f"  ✓ no worse in {', '.join(won) or 'nothing'}"]
    return [*told, *(f"  {each}" for each in lost), ""]


def cell(column: Column, spread: Spread) -> str:
    """Return a figure with its range.

    >>> cell(COLUMNS[1], Spread(0.4, 0.38, 0.45)), cell(COLUMNS[1], Spread(0.4, 0.4, 0.4))
    ('0.40 (0.38-0.45)', '0.40')
    """
    middle, least, most = map(column.as_text, (spread.middle, spread.least, spread.most))
    return middle if least == most else f"{middle} ({least}-{most})"


def as_object(day: Day, rows: Mapping[str, Row], verdicts: list[Verdict]) -> dict[str, Any]:
    """Return a day for JSON; null for never."""
    return {
        "day": day.name,
        "policies": {
            name: {key: [_finite(x) for x in (s.middle, s.least, s.most)] for key, s in row.items()}
            for name, row in rows.items()
        },
        "verdicts": [
            {
                "figure": each.column.key,
                "ours": _finite(each.ours),
                "target": _finite(each.target),
                "of": each.against or None,
                "met": each.met,
                "why": each.why or None,
            }
            for each in verdicts
        ],
    }


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else round(value, 3)


if __name__ == "__main__":
    sys.exit(main())
