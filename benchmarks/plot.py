"""Draws a day: how many clones the policies make as it goes, and what they achieve at what price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.contest import OURS, Row, play_day, strategies, summed_up
from benchmarks.days import MIDNIGHT, Day
from worker.replay.score import BUSY, Score, score
from worker.replay.world import Case

COLOURS = {
    "Dagster (at once, 3)": "#c98500",
    "Temporal's default, one hour": "#d6336c",
    "Sidekiq's curve, 10 attempts": "#7048e8",
    "n8n's hourly template": "#2f9e44",
    "Zapier's schedule": "#868e96",
    OURS: "#1864ab",
}


def plot(day: Day, seeds: Sequence[int], path: Path, notice: timedelta = timedelta(0)) -> None:
    """Write a PNG: the first seed's clones over the day, the medians of all seeds beside it."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    scores: dict[str, list[Score]] = {}
    first: dict[str, list[Case]] = {}
    for seed in seeds:
        world = day.with_seed(seed)
        for name, strategy in strategies(seed).items():
            cases = play_day(world, strategy, notice)
            first.setdefault(name, cases)
            scores.setdefault(name, []).append(score(cases, world.never))
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, (over_time, price) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(3, 2))
        _clones(over_time, day, first)
        _price(price, {name: summed_up(each) for name, each in scores.items()})
        figure.suptitle(day.name[0].upper() + day.name[1:], fontsize=10, x=0.01, ha="left")
        figure.tight_layout()
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)


def _clones(axes: Any, day: Day, cases: dict[str, list[Case]]) -> None:
    for trouble in day.troubles:
        begins, lasts = trouble.begins / timedelta(hours=1), trouble.lasts / timedelta(hours=1)
        axes.axvspan(begins, begins + lasts, color="#000000", alpha=0.06, linewidth=0)
    buckets = range(round(timedelta(days=1) / BUSY))
    for name, each in cases.items():
        made = Counter((clone.started_at - MIDNIGHT) // BUSY for case in each for clone in case.attempts)
        hours = [bucket * BUSY / timedelta(hours=1) for bucket in buckets]
        ours = name == OURS
        axes.plot(
            hours,
            [made[bucket] for bucket in buckets],
            color=COLOURS[name],
            linewidth=1.8 if ours else 0.8,
            zorder=3 if ours else 2,
            label=name,
        )
    axes.set(xlim=(0, 24), ylim=(0, None), xticks=range(0, 25, 4), xlabel="hour of the day")
    axes.set_title("Clones in 5 minutes (grey: something is down)", fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _price(axes: Any, rows: dict[str, Row]) -> None:
    for name, row in rows.items():
        x, y = row["wasted"].middle, row["recovered"].middle
        axes.scatter(x, y, s=70 if name == OURS else 36, color=COLOURS[name], zorder=3)
        to_the_right = x < 4
        axes.annotate(
            name,
            (x, y),
            xytext=(6 if to_the_right else -6, -14 if name == OURS else 6 if y > 99 else -3),
            textcoords="offset points",
            color=COLOURS[name],
            fontsize=8,
            ha="left" if to_the_right else "right",
            va="baseline",
            fontweight="bold" if name == OURS else "normal",
        )
    axes.set(xlim=(0, None), ylim=(None, 103), xlabel="failed clones per recovered execution")
    axes.set_title("Recovered, % of the recoverable (up and left is better)", fontsize=9, loc="left")
    axes.grid(alpha=0.25)
