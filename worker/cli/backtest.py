"""`policy backtest`: what another policy would have made of the failures on record."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.errors import NO, WRONG, CommandError
from worker.cli.exports import Export, read_export
from worker.cli.output import console, duration_option, echo_json, name, rough
from worker.cli.session import settings, with_ledger
from worker.domain.lineage import Lineage
from worker.ledger import Ledger

if TYPE_CHECKING:
    from worker.replay.backtest import Backtest, Comparison
    from worker.replay.score import Score

MOST_WORKFLOWS = 10
MOST_NAMED = 10

NOTES = (
    "What a clone made at another time would have done is known only in part: it fails up to the last clone "
    "that failed, it completes from the one that completed on. In between, and after what never recovered, "
    "nobody knows: the two figures of a range are for all of those clones failing and all completing.",
    "Runs that completed by themselves are not on record. The breaker and the prompt attempt go by failures "
    "and clones alone (the breaker opens sooner than it would, fewer attempts come at once), and the budget "
    "and the pace, which are shares of all runs, are off. Nor are logs on record: log rules are not applied.",
)


@click.command("backtest")
@click.option("--policy", "policy_file", metavar="FILE", help="A policy file; default: the policy in force.")
@click.option(
    "--from", "source", metavar="FILE", help="Records as `export` writes them, or `list --json`; "
    "default: the ledger.",
)  # fmt: skip
@click.option(
    "--since", metavar="DURATION", callback=duration_option,
    help="Only failures of the last so long, such as 7d, before the newest one.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def backtest_command(
    policy_file: str | None, source: str | None, since: timedelta | None, as_json: bool
) -> None:
    """Replay recorded failures under another policy, and compare.

    Nothing is sent and nothing is changed. Variables count as they do for the worker: a new default is tried
    by setting it for this one command.

    \b
    Examples:
      kinetic-retry policy backtest --policy new.toml --since 7d
      RETRY_STRIKES=2 kinetic-retry policy backtest
      kinetic-retry export --since 30d --out failures.jsonl
      kinetic-retry policy backtest --policy new.toml --from failures.jsonl
    """
    from worker.replay.backtest import backtest

    config = settings_with(policy_file) if policy_file is not None else settings()
    export = read_export(Path(source)) if source is not None else _from_ledger(config)
    lineages = _since(list(export.lineages.values()), since)
    result = backtest(lineages, config.policies, config.limits)
    if not result.all.recorded.failures and not as_json:
        for line in _left_out(result, export):
            click.echo(line, err=True)
        raise CommandError("there is nothing to replay", NO)
    if as_json:
        echo_json(_object(result, export))
        return
    screen = console()
    for line in _lines(result, export, policy_file):
        screen.print(line)


def settings_with(policy_file: str) -> Any:
    """Return the settings with another policy file; what is wrong with it ends the command in words."""
    from config.settings import SettingsError, load_settings

    try:
        return load_settings({**os.environ, "RETRY_POLICY_FILE": policy_file}, require_api=False)
    except SettingsError as error:
        raise CommandError(str(error), WRONG) from None


def _from_ledger(config: Any) -> Export:
    from worker.ledger.reports import Reports

    async def read(ledger: Ledger) -> Export:
        return Export({each.root: each async for each in Reports(ledger).lineages()})

    return with_ledger(read, config)


def _since(lineages: list[Lineage], since: timedelta | None) -> list[Lineage]:
    if since is None or not lineages:
        return lineages
    newest = max(each.root_failed_at for each in lineages)
    return [each for each in lineages if newest - each.root_failed_at <= since]


def _lines(result: Backtest, export: Export, policy_file: str | None) -> list[Any]:
    other = f"with {name(Path(policy_file).name)}" if policy_file else "with the policy in force"
    told: list[Any] = [_table(result.all, other)]
    if len(result.workflows) > 1:
        told.append(_workflows(result.workflows[:MOST_WORKFLOWS], other))
        if len(result.workflows) > MOST_WORKFLOWS:
            told.append(f"[dim]the {MOST_WORKFLOWS} of {len(result.workflows)} workflows that differ most[/]")
    return [*told, *_left_out(result, export), "", *(f"[dim]{note}[/]" for note in NOTES)]


def _table(compared: Comparison, other: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column(f"{compared.recorded.failures} failures")
    grid.add_column("as recorded", justify="right")
    grid.add_column(other, justify="right")
    recorded, failing, completing = compared.recorded, compared.failing, compared.completing
    counts: dict[str, Callable[[Score], int]] = {
        "recovered": lambda each: each.recovered,
        "clones": lambda each: each.clones,
        "failed clones": lambda each: each.wasted,
        "most clones in 5 min": lambda each: each.busiest,
    }
    times: dict[str, Callable[[Score], timedelta | None]] = {
        "median to recovery": lambda each: each.median,
        "95% recover within": lambda each: each.late,
    }
    for title, count in counts.items():
        grid.add_row(title, str(count(recorded)), _band(count(failing), count(completing)))
    for title, took in times.items():
        grid.add_row(title, _took(took(recorded)), _took_band(took(failing), took(completing)))
    grid.add_row("clones nobody can know of", "", _band(*compared.unknown))
    return grid


def _workflows(compared: tuple[Comparison, ...], other: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("workflow", "failures", "recovered", other, "failed clones", other):
        grid.add_column(title, justify="left" if title == "workflow" else "right")
    for each in compared:
        grid.add_row(
            name(each.name) or "[dim]not named[/]",
            str(each.recorded.failures),
            str(each.recorded.recovered),
            _band(each.failing.recovered, each.completing.recovered),
            str(each.recorded.wasted),
            _band(each.failing.wasted, each.completing.wasted),
        )
    return grid


def _left_out(result: Backtest, export: Export) -> list[str]:
    lines = [f"left out: {count} {why.value}" for why, count in result.left_out.items()]
    if export.odd:
        named = ", ".join(f"{number} ({why})" for number, why in export.odd[:MOST_NAMED])
        more = f" and {len(export.odd) - MOST_NAMED} more" if len(export.odd) > MOST_NAMED else ""
        lines.append(f"not read: {len(export.odd)} of the file's lines: {named}{more}")
    return lines


def _band(one: int, other: int) -> str:
    return str(one) if one == other else f"at least {min(one, other)}, at most {max(one, other)}"


def _took(duration: timedelta | None) -> str:
    return "none" if duration is None else rough(duration)


def _took_band(one: timedelta | None, other: timedelta | None) -> str:
    shown = [_took(each) for each in sorted((one, other), key=lambda each: each or timedelta.max)]
    return shown[0] if shown[0] == shown[1] else " to ".join(shown)


def _object(result: Backtest, export: Export) -> dict[str, Any]:
    return {
        **_compared_object(result.all),
        "workflows": [{"workflow": each.name, **_compared_object(each)} for each in result.workflows],
        "left_out": {why.name.lower(): count for why, count in result.left_out.items()},
        "not_read": [{"line": number, "why": why} for number, why in export.odd],
        "notes": list(NOTES),
    }


def _compared_object(compared: Comparison) -> dict[str, Any]:
    return {
        "failures": compared.recorded.failures,
        "recorded": _figures(compared.recorded),
        "policy": {
            "unknown_clones_fail": {**_figures(compared.failing), "unknown_clones": compared.unknown[0]},
            "unknown_clones_complete": {
                **_figures(compared.completing),
                "unknown_clones": compared.unknown[1],
            },
        },
    }


def _figures(of: Score) -> dict[str, Any]:
    return {
        "recovered": of.recovered,
        "clones": of.clones,
        "failed_clones": of.wasted,
        "median_s": of.median,
        "late_s": of.late,
        "most_clones_in_5_min": of.busiest,
    }
