"""`report`: the return on retries for a period, by workflow and attempt, and where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import reduce
from operator import add
from typing import Any

import click

from worker.cli.filters import MOMENT, at, complete_workflows
from worker.cli.output import console, echo_json, iso, name, rough
from worker.cli.session import settings, with_ledger
from worker.domain.policy import PolicyBook
from worker.domain.worth import RULE, Counts, Suggestion, suggest
from worker.ledger import Ledger
from worker.ledger.reports import Reports
from worker.ledger.return_reports import Return, ReturnReports, Returns

PERIOD = timedelta(days=7)
MOST_SHOWN = 10
BAR = 24
"""Characters of the longest bar."""


@dataclass(frozen=True, slots=True)
class Whose:
    """The return of one workflow, or of all of them.

    Attributes:
        key: what the workflow is counted under; "" for all of them.
        attempts: by attempt number; 0 is what recovered without a clone of ours.
        most: the attempts that its policy allows now; None for all workflows together.
    """

    key: str
    name: str
    attempts: Mapping[int, Return]
    most: int | None

    @property
    def total(self) -> Return:
        """All clones together."""
        return reduce(add, (each for number, each in self.attempts.items() if number), Return())

    @property
    def alone(self) -> int:
        """How many recovered without a clone of ours."""
        return self.attempts[0].recovered if 0 in self.attempts else 0

    @property
    def suggestion(self) -> Suggestion | None:
        """A lower maximum than is allowed, where there is evidence for one; of a single workflow only."""
        if self.most is None:
            return None
        found = suggest({n: Counts(each.ended, each.recovered) for n, each in self.attempts.items()})
        return found if found and found.maximum < self.most else None


@click.command()
@click.option("--workflow", metavar="NAME|UUID", shell_complete=complete_workflows,
              help="Only this workflow: its uuid, or its name with * and ?.")  # fmt: skip
@click.option(
    "--since",
    type=MOMENT,
    metavar="WHEN",
    default=PERIOD,
    show_default="7d",
    help="Begin there: 24h (ago), 2026-03-01.",
)
@click.option(
    "--until", type=MOMENT, metavar="WHEN", default=timedelta(0), show_default="now", help="End there."
)
@click.option("--limit", type=click.IntRange(min=1), default=MOST_SHOWN, show_default=True,
              help="At most so many workflows, those with most wasted clones first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print an object, with every workflow.")
def report(
    workflow: str | None,
    since: datetime | timedelta,
    until: datetime | timedelta,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """Show the return on retries: the clones made, recovered and wasted, and how long recoveries took.

    By workflow and attempt number, in the hours in which it became known. Where attempts recover next to
    nothing a lower maximum is suggested; RETRY_MAX_ATTEMPTS or the policy file sets it, and `policy backtest`
    tries it first.

    \b
    Examples:
      kinetic-retry report --since 30d
      kinetic-retry report --workflow 'Eligibility*' --since 2026-03-01 --until 2026-04-01
      kinetic-retry report --json | jq '.workflows[] | select(.suggested_max_attempts != null)'
    """
    config = settings()

    async def read(ledger: Ledger) -> Returns:
        now = await Reports(ledger).now()
        begins, ends = at(since, now), at(until, now)
        assert begins is not None  # noqa: S101  # both have a default
        assert ends is not None  # noqa: S101
        if begins > ends:
            raise click.UsageError("--until is before --since")
        return await ReturnReports(ledger).read(begins, min(ends, now))

    returns = with_ledger(read, config)
    found = _sorted(_workflows(returns, config.policies, workflow))
    everything = Whose("", "all workflows", _together(each.attempts for each in found), None)
    if as_json:
        echo_json(_object(returns, everything, found))
        return
    screen = console()
    for line in _lines(returns, everything, found, limit):
        screen.print(line)


def _workflows(returns: Returns, policies: PolicyBook, wanted: str | None) -> list[Whose]:
    found = []
    for key, attempts in returns.of.items():
        stored = returns.names.get(key, "")
        called = "" if stored == key else stored
        if wanted and key != wanted and not fnmatchcase(called.casefold(), wanted.casefold()):
            continue
        policy, _ = policies.for_workflow(key, called)
        found.append(Whose(key, called, attempts, policy.max_attempts))
    return found


def _sorted(found: Iterable[Whose]) -> list[Whose]:
    totals = [(each.total, each) for each in found]
    return [
        each for _, each in sorted(totals, key=lambda pair: (-pair[0].wasted, -pair[0].made, pair[1].key))
    ]


def _together(all_attempts: Iterable[Mapping[int, Return]]) -> dict[int, Return]:
    together: dict[int, Return] = {}
    for attempts in all_attempts:
        for number, each in attempts.items():
            together[number] = together.get(number, Return()) + each
    return together


def _lines(returns: Returns, everything: Whose, found: list[Whose], limit: int) -> list[Any]:
    period = f"{returns.since:%Y-%m-%d %H:%M} to {returns.until:%Y-%m-%d %H:%M} UTC"
    total = everything.total
    if not total.made and not total.ended and not everything.alone:
        return [f"no clone was made, and nothing recovered, from {period}"]
    share = f", {total.recovered / total.ended:.0%} of those that ended" if total.ended else ""
    lines: list[Any] = [
        f"[bold]The return on retries[/], {period}",
        f"{total.made} clones made, {total.recovered} recovered a failure{share}; {total.wasted} wasted",
    ]
    if everything.alone:
        lines.append(f"{everything.alone} failures recovered without a clone of ours")
    shown = found[:limit]
    lines.append(_table([everything, *shown] if len(found) > 1 else shown))
    if len(found) > limit:
        lines.append(
            f"[dim]the {limit} of {len(found)} workflows with most wasted clones; --limit for more[/]"
        )
    suggested = [(each, each.suggestion) for each in shown]
    lines += [_advice(whose, each) for whose, each in suggested if each]
    return [*lines, f"[dim]{RULE}[/]"]


def _table(shown: list[Whose]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("workflow", "attempt", "made", "recovered", "wasted", "", "median"):
        grid.add_column(title, justify="left" if title in ("workflow", "") else "right", no_wrap=title == "")
    for whose in shown:
        numbers = sorted(number for number in whose.attempts if number)
        most = max((whose.attempts[number].made for number in numbers), default=0)
        title = name(whose.name or whose.key, 40)
        for place, number in enumerate(numbers):
            each = whose.attempts[number]
            grid.add_row(
                f"[bold]{title}[/]" if place == 0 else "",
                str(number),
                str(each.made),
                f"{each.recovered} [dim]{_share(each)}[/]",
                str(each.wasted),
                _bar(each, most),
                rough(each.median) if each.median else "",
                end_section=place == len(numbers) - 1,
            )
    return grid


def _share(each: Return) -> str:
    return f"{each.recovered / each.ended:4.0%}" if each.ended else "    "


def _bar(each: Return, most: int) -> str:
    """Return a bar as long as clones were made: what recovered, what was wasted, and what is under way."""
    whole = max(most, each.made, each.ended, 1)
    ends = [round(BAR * count / whole) for count in (each.recovered, each.ended, max(each.made, each.ended))]
    good, bad, rest = ends[0], ends[1] - ends[0], ends[2] - ends[1]
    return f"[green]{'█' * good}[/][red]{'▒' * bad}[/][dim]{'·' * rest}[/]"


def _advice(whose: Whose, found: Suggestion) -> str:
    title, share = name(whose.name or whose.key, 40), f"{found.recovered_after} of {found.ended_after}"
    if found.maximum == 0:
        return (
            f"[yellow]{title}[/]: {share} clones recovered: look at why it fails before it is retried "
            "(kinetic-retry dead --sort reason)"
        )
    fewer = f"max_attempts {found.maximum} instead of {whose.most}"
    return f"[yellow]{title}[/]: {fewer}: the attempts after it recovered {share}"


def _object(returns: Returns, everything: Whose, found: list[Whose]) -> dict[str, Any]:
    return {
        "since": iso(returns.since),
        "until": iso(returns.until),
        "all": _whose_object(everything),
        "workflows": [
            {
                "workflow": each.key,
                "workflow_name": each.name or None,
                **_whose_object(each),
                "max_attempts": each.most,
                "suggested_max_attempts": each.suggestion.maximum if each.suggestion else None,
            }
            for each in found
        ],
        "rule": RULE,
    }


def _whose_object(whose: Whose) -> dict[str, Any]:
    return {
        **_return_object(whose.total),
        "recovered_without_clone": whose.alone,
        "attempts": [
            {"attempt": number, **_return_object(each)}
            for number, each in sorted(whose.attempts.items())
            if number
        ],
    }


def _return_object(each: Return) -> dict[str, Any]:
    return {
        "made": each.made,
        "recovered": each.recovered,
        "wasted": each.wasted,
        "failed": each.failed,
        "lost": each.lost,
        "median_s": round(each.median.total_seconds(), 1) if each.median else None,
    }
