"""What the figures have to be, and whether they are: with a plain word where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.contest import COLUMNS, OURS, Column, Row

BY_KEY = {column.key: column for column in COLUMNS}
WORKING_DAY_TARGETS = {"recovered": 99.5, "wasted": 0.45, "median": 4.0, "busiest": 60.0}
"""On the working day: at least so many recovered, at most so much of the others."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one target is met.

    Attributes:
        column: of the figure.
        ours: it.
        target: what it is held against.
        against: whose figure that is; "" for a fixed one.
        met: whether ours is no worse, as shown.
        why: one sentence where it is worse; else "".
    """

    column: Column
    ours: float
    target: float
    against: str
    met: bool
    why: str = ""

    @property
    def line(self) -> str:
        """The verdict for people."""
        words = "at least" if self.column.more_is_better else "at most"
        whose = f", {self.against}" if self.against else ""
        figure = self.column.as_text(self.ours)
        target = self.column.as_text(self.target)
        line = f"{'✓' if self.met else '✗'} {self.column.title}: {figure} ({words} {target}{whose})"
        return f"{line}; {self.why}" if self.why else line


def fixed(ours: Row) -> list[Verdict]:
    """Return whether ours meets the targets of the working day."""
    verdicts = []
    for key, target in WORKING_DAY_TARGETS.items():
        column, figure = BY_KEY[key], ours[key].middle
        verdicts.append(Verdict(column, figure, target, "", column.no_worse(figure, target)))
    return verdicts


def beside_the_best(rows: Mapping[str, Row]) -> list[Verdict]:
    """Return for every column whether ours is no worse than the best peer in it."""
    ours = rows[OURS]
    return [_beside(column, ours, rows) for column in COLUMNS]


def _beside(column: Column, ours: Row, rows: Mapping[str, Row]) -> Verdict:
    sign = -1 if column.more_is_better else 1
    peers = {name: row for name, row in rows.items() if name != OURS}
    best = min(peers, key=lambda name: sign * peers[name][column.key].middle)
    figure, target = ours[column.key].middle, peers[best][column.key].middle
    met = column.no_worse(figure, target)
    why = "" if met else _price(ours, peers[best], column)
    return Verdict(column, figure, target, best, met, why)


def _price(ours: Row, best: Row, won: Column) -> str:
    """Return in which figures the best of a column is worse than ours, the greatest difference first."""
    worse = [
        (_ratio(column, best, ours), column)
        for column in COLUMNS
        if column is not won and not column.no_worse(best[column.key].middle, ours[column.key].middle)
    ]
    if not worse:
        return "it is no worse in anything else either"
    named = [
        f"{column.title} {column.as_text(best[column.key].middle)} "
        f"(ours {column.as_text(ours[column.key].middle)})"
        for _, column in sorted(worse, key=lambda each: -each[0])[:3]
    ]
    return f"it pays with {', '.join(named)}"


def _ratio(column: Column, worse: Row, better: Row) -> float:
    if column.more_is_better:  # of what is not recovered: a share of 97% is far from 100%
        return (101 - worse[column.key].middle) / (101 - better[column.key].middle)
    return worse[column.key].middle / max(better[column.key].middle, 0.01)
