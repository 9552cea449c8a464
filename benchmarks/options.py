"""Days and seeds from the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from benchmarks.days import DAYS, Day, Trouble
from config.durations import parse_duration
from worker.domain.durations import format_duration

OUTAGE = re.compile(
    r"(?P<workflows>all|[\d,-]+)@(?P<hours>\d\d?):(?P<minutes>\d\d)\+(?P<lasts>[\w.]+)(\*(?P<share>[\d.]+))?"
)
MOST_SEEDS, MOST_WORKFLOWS, MOST_EXECUTIONS = 1000, 1000, 1_000_000


def parser() -> argparse.ArgumentParser:
    """Return the options of `benchmarks.effectiveness`."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.effectiveness",
        description="Retry policies compared on simulated days: this worker's decisions and those of others.",
        epilog="Example: python -m benchmarks.effectiveness --outage 0-9@14:00+2h --outage 17@3:00+5h",
    )
    made.add_argument("--seeds", type=seeds, default=(1, 2, 3, 4, 5), metavar="1-5", help="a range or a list")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--day", choices=DAYS, help="one of the four days; default: all")
    which.add_argument("--all", action="store_true", help="all four days")
    made.add_argument(
        "--notice", type=duration, default=timedelta(0), help="until any end of a run is noticed"
    )
    made.add_argument("--plot", metavar="PATH", help="write a PNG: the working day, or the only day")
    made.add_argument("--json", action="store_true", help="print an object")
    own = made.add_argument_group("a day of your own (what is not given is as on a quiet day)")
    own.add_argument("--executions", type=whole(MOST_EXECUTIONS), help="started in 24 hours")
    own.add_argument("--workflows", type=whole(MOST_WORKFLOWS))
    own.add_argument("--run", type=duration, help="how long a run takes")
    own.add_argument("--flaky", type=share, help="share of the runs that flake, such as 0.05")
    own.add_argument("--never", type=share, help="share of the executions that can never succeed")
    own.add_argument(
        "--outage",
        action="append",
        default=[],
        metavar="WORKFLOWS@HH:MM+DURATION[*SHARE]",
        help="0-4,7@10:00+45m or all@10:00+30m; *0.9: that share of the runs fails; may be given again",
    )
    return made


def chosen_days(options: argparse.Namespace) -> list[Day]:
    """Return the days that were asked for.

    Raises:
        ValueError: an outage that cannot be read, in words.
    """
    changes = {
        key: value
        for key in ("executions", "workflows", "run", "flaky", "never")
        if (value := getattr(options, key)) is not None
    }
    if not changes and not options.outage:
        return [DAYS[options.day]] if options.day else list(DAYS.values())
    day = replace(DAYS[options.day or "quiet"], **changes)
    troubles = [outage(text, day.workflows) for text in options.outage]
    day = replace(day, troubles=(*day.troubles, *troubles))
    return [replace(day, name=described(day))]


def described(day: Day) -> str:
    """Return a day in words."""
    parts = [
        f"{day.executions} executions of {format_duration(day.run)} in {day.workflows} workflows",
        f"{day.flaky:.1%} flake, {day.never:.1%} never succeed",
    ]
    for each in day.troubles:
        hours, minutes = divmod(each.begins // timedelta(minutes=1), 60)
        some = f"{each.share:.0%} of " if each.share < 1 else ""
        named = f"{len(each.workflows)} workflow{'' if len(each.workflows) == 1 else 's'}"
        parts.append(f"{some}{named} down from {hours:02}:{minutes:02} for {format_duration(each.lasts)}")
    return "; ".join(parts)


def outage(text: str, workflows: int) -> Trouble:
    """Read an outage.

    >>> trouble = outage("0-2,7@10:30+45m*0.5", 20)
    >>> sorted(trouble.workflows), str(trouble.begins), str(trouble.lasts), trouble.share
    ([0, 1, 2, 7], '10:30:00', '0:45:00', 0.5)
    """
    found = OUTAGE.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no outage; write 0-4@10:00+45m or all@10:00+30m*0.9")
    numbers = range(workflows) if found["workflows"] == "all" else numbers_of(found["workflows"])
    if not all(number < workflows for number in numbers):
        raise ValueError(f"{text!r}: there are {workflows} workflows, from 0 to {workflows - 1}")
    begins = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    part = float(found["share"] or 1)
    if not 0 < part <= 1:
        raise ValueError(f"{text!r}: a share is above 0 and at most 1")
    return Trouble(frozenset(numbers), begins, parse_duration(found["lasts"]), share=part)


def numbers_of(text: str) -> list[int]:
    """Read numbers and ranges of them.

    >>> numbers_of("1-3,7")
    [1, 2, 3, 7]
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        until = int(last) if dash else int(first)
        if until - int(first) > MOST_WORKFLOWS:
            raise ValueError(f"{part!r} are too many")
        numbers += range(int(first), until + 1)
    return numbers


def seeds(text: str) -> Sequence[int]:
    """Read seeds, for argparse."""
    numbers = numbers_of(text)
    if not 0 < len(numbers) <= MOST_SEEDS:
        raise ValueError
    return numbers


def duration(text: str) -> timedelta:
    """Read a duration, for argparse."""
    return parse_duration(text)


def share(text: str) -> float:
    """Read a share, for argparse."""
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError
    return number


class whole:  # noqa: N801  # argparse shows the name
    """A whole number from 1 to a limit, for argparse."""

    __name__ = "number"

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, text: str) -> int:
        number = int(text)
        if not 0 < number <= self._most:
            raise ValueError
        return number
