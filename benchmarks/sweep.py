"""Look for days on which ours does badly: `python -m benchmarks.sweep --days 20 --seed 1`.

Days are drawn at random: how many workflows and executions, how many runs flake or can never succeed, how
long they take, and up to four outages. A day gets a remark when a peer is no worse in any figure, or ours is
far from the best peer.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Mapping
from datetime import timedelta

from benchmarks.contest import COLUMNS, OURS, Row, contest
from benchmarks.days import Day, Trouble
from benchmarks.options import described

HEADLINES = tuple(column for column in COLUMNS if column.key != "late")
"""Without the 95% of those that recovered: it looks best for who gives up first."""


def main() -> None:
    """Play random days and print how ours stands on each."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    made.add_argument("--days", type=int, default=20)
    made.add_argument("--seed", type=int, default=1)
    options = made.parse_args()
    wins = dict.fromkeys((column.key for column in HEADLINES), 0)
    beaten, poor, began_s = 0, 0, time.perf_counter()
    for number in range(options.days):
        day = random_day(random.Random(f"{options.seed} {number}"))
        rows = contest(day, [options.seed + number])
        best = {column.key: no_worse_than_all(column.key, rows) for column in HEADLINES}
        wins = {key: wins[key] + best[key] for key in wins}
        better, remarks = dominating(rows), complaints(rows)
        beaten, poor = beaten + bool(better), poor + bool(remarks)
        print(f"{number:3} {described(day)}")
        for name, row in rows.items():
            if name == OURS or better or remarks:
                print(f"      {name:30}" + "  ".join(f"{c.as_text(row[c.key].middle):>7}" for c in HEADLINES))
        for line in [*(f"{name} is no worse in anything" for name in better), *remarks]:
            print(f"    ✗ {line}")
    print(
        f"{options.days} days in {time.perf_counter() - began_s:.0f} s; ours no worse than every peer: ",
        end="",
    )
    print(", ".join(f"{column.title} {wins[column.key]}" for column in HEADLINES))
    print(f"days on which a peer is no worse in everything: {beaten}; days with a remark: {poor}")


def random_day(dice: random.Random) -> Day:
    """Return a day: 500 to 50,000 executions, 5 to 50 workflows, 1 to 15% flaky, outages of 5 min to 4 h."""
    workflows = dice.randint(5, 50)
    troubles = []
    for _ in range(dice.randint(0, 4)):
        hit = dice.choice([1, 1, dice.randint(1, workflows), workflows])
        troubles.append(
            Trouble(
                frozenset(dice.sample(range(workflows), hit)),
                timedelta(minutes=dice.randint(0, 22 * 60)),
                timedelta(minutes=round(math.exp(dice.uniform(math.log(5), math.log(240))))),
                step=dice.randint(1, 25),
                share=dice.choice([1.0, 1.0, 0.9, 0.6]),
            )
        )
    return Day(
        "",
        executions=round(math.exp(dice.uniform(math.log(500), math.log(50_000)))),
        workflows=workflows,
        run=timedelta(minutes=dice.choice([1, 3, 3, 10])),
        flaky=dice.uniform(0.01, 0.15),
        never=dice.choice([0.0, 0.01, 0.01, 0.03]),
        troubles=tuple(troubles),
    )


def no_worse_than_all(key: str, rows: Mapping[str, Row]) -> bool:
    """Whether ours is no worse than every peer in a figure."""
    column = next(each for each in COLUMNS if each.key == key)
    return all(column.no_worse(rows[OURS][key].middle, row[key].middle) for row in rows.values())


def dominating(rows: Mapping[str, Row]) -> list[str]:
    """Return the peers that are no worse than ours in any figure, and better in one."""
    found = []
    for name, row in rows.items():
        pairs = [(column, row[column.key].middle, rows[OURS][column.key].middle) for column in HEADLINES]
        no_worse = all(column.no_worse(theirs, ours) for column, theirs, ours in pairs)
        if no_worse and not all(column.no_worse(ours, theirs) for column, theirs, ours in pairs):
            found.append(name)
    return found


def complaints(rows: Mapping[str, Row]) -> list[str]:
    """Return where ours is far from the best peer, in words."""
    ours = {key: spread.middle for key, spread in rows[OURS].items()}
    peers = [row for name, row in rows.items() if name != OURS]
    found = []
    if ours["recovered"] < min(99.5, max(row["recovered"].middle for row in peers) - 0.5):
        found.append(f"recovers {ours['recovered']:.1f}%")
    rivals = [row for row in peers if row["recovered"].middle >= ours["recovered"] - 0.5]
    least = min((row["wasted"].middle for row in rivals), default=math.inf)
    if ours["wasted"] > least:
        found.append(
            f"{ours['wasted']:.2f} failed clones per recovered; a peer that recovers as much: {least:.2f}"
        )
    if ours["median"] > min(row["median"].middle for row in peers) + 2:
        found.append(f"median {ours['median']:.1f} min")
    soonest = min((row["late_of_all"].middle for row in rivals), default=math.inf)
    if ours["late_of_all"] > 1.5 * soonest + 10:
        found.append(
            f"95% of all within {ours['late_of_all']:.0f} min; a peer that recovers as much: {soonest:.0f}"
        )
    quietest = min((row["busiest"].middle for row in rivals), default=math.inf)
    if ours["busiest"] > 2.5 * max(quietest, 10):
        found.append(f"{ours['busiest']:.0f} clones in 5 min; a peer that recovers as much: {quietest:.0f}")
    return found


if __name__ == "__main__":
    main()
