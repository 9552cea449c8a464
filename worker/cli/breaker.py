"""`breaker`: which workflows are held back because they fail, and a person's word about one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from worker.cli.forcing import find, force, person_here
from worker.cli.output import clock, console, echo_json, name
from worker.cli.person import MAX_WHO_CHARS, MAX_WHY_CHARS
from worker.cli.session import settings, with_ledger
from worker.cli.workflows import Rules, Standing, as_object, sentence, stand, title
from worker.domain.breaker import Breaker, Forced
from worker.ledger import Ledger
from worker.ledger.reports import Reports
from worker.ledger.workflow_reports import Named, WorkflowReports


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said about a breaker, and what came of it.

    Attributes:
        breaker: as it is stored now.
        changed: False when it was so already.
        waiting: lineages that wait for the workflow.
    """

    workflow: Named
    breaker: Breaker
    changed: bool
    waiting: int
    by: str
    why: str


@click.group()
def breaker() -> None:
    """Show which workflows are held back because they fail, and force one either way.

    A breaker opens by itself when runs of its workflow fail too often: its failures then wait without
    spending attempts, and one clone tries now and then whether it works again.

    \b
    Examples:
      kinetic-retry breaker list
      kinetic-retry breaker open 'Eligibility*' --reason 'the payer site is down'
      kinetic-retry breaker auto 'Eligibility*' --reason 'it is back'
    """


@breaker.command("list", short_help="List the breakers, and who is waited for.")
@click.option("--json", "as_json", is_flag=True, help="Print an array.")
def list_breakers(as_json: bool) -> None:
    """List every workflow whose breaker was ever open or forced, and those that are waited for.

    \b
    Example: kinetic-retry breaker list
    """
    config = settings()
    rules = Rules.of(config)

    async def read(ledger: Ledger) -> tuple[list[Standing], datetime]:
        summary = await Reports(ledger).summary()
        reports, _ = await WorkflowReports(ledger).look(summary.breakers, rules.limits.window)
        return stand(reports, rules, summary.now), summary.now

    standings, now = with_ledger(read, config)
    if as_json:
        echo_json([as_object(each) for each in standings])
        return
    screen = console()
    for each in standings:
        screen.print(f"[bold]{title(each.workflow)}[/] [dim]{name(each.workflow.key, 200)}[/]")
        screen.print(f"  {sentence(each, now)}")
    if not standings:
        screen.print("every breaker is closed and no lineage waits for its workflow")


def _forcing(action: Callable[..., None]) -> Callable[..., None]:
    """Give a command what the three that force a breaker take."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print an object."),
        click.option("--by", metavar="NAME", help="Who decided, beside who runs the command."),
        click.option("--reason", required=True, metavar="TEXT", help="Why; kept on record with who."),
        click.argument("workflow"),
    ):
        action = decorate(action)
    return action


@breaker.command("open", short_help="Let every failure of a workflow wait.")
@_forcing
def force_open(workflow: str, reason: str, by: str | None, as_json: bool) -> None:
    """Let every failure of a workflow wait, until someone says otherwise; no attempts are spent.

    WORKFLOW is its uuid, or its name with * and ?. A lineage that waits still ends at its deadline.

    \b
    Example: kinetic-retry breaker open 'Eligibility*' --reason 'the payer site is down'
    """
    _force(workflow, Forced.OPEN, reason, by, as_json=as_json)


@breaker.command("close", short_help="Retry a workflow's failures although it fails.")
@_forcing
def force_closed(workflow: str, reason: str, by: str | None, as_json: bool) -> None:
    """Retry a workflow's failures although it fails, until someone says otherwise.

    Budget and pace still count. WORKFLOW is its uuid, or its name with * and ?.

    \b
    Example: kinetic-retry breaker close 'Eligibility*' --reason 'fixed, run them all'
    """
    _force(workflow, Forced.CLOSED, reason, by, as_json=as_json)


@breaker.command("auto", short_help="Let a breaker decide by itself again.")
@_forcing
def automatic(workflow: str, reason: str, by: str | None, as_json: bool) -> None:
    """Let a breaker decide by itself again; it begins closed and judges by what ends from now on.

    WORKFLOW is its uuid, or its name with * and ?.

    \b
    Example: kinetic-retry breaker auto 'Eligibility*' --reason 'it is back'
    """
    _force(workflow, None, reason, by, as_json=as_json)


def _force(wanted: str, to: Forced | None, reason: str, by: str | None, *, as_json: bool) -> None:
    config = settings()
    try:
        person = person_here(reason, by, config.secrets)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--reason or --by") from None

    async def work(ledger: Ledger) -> Said:
        await Reports(ledger).summary()  # brings the time of the Redis server, by which everything is dated
        workflow = find(await WorkflowReports(ledger).names(), wanted)
        found, changed = await force(ledger, workflow, to, person)
        waiting = [
            each.waiting
            for each in (await WorkflowReports(ledger).look({}, config.limits.window))[0]
            if each.workflow.key == workflow.key
        ]
        return Said(workflow, found, changed, sum(waiting), person.by, person.why)

    said = with_ledger(work, config)
    if as_json:
        echo_json(_as_object(said))
        return
    screen = console()
    for line in _lines(said):
        screen.print(line)


def _as_object(said: Said) -> dict[str, Any]:
    return {
        "workflow": said.workflow.key,
        "workflow_name": said.workflow.name or None,
        "forced": said.breaker.forced.value if said.breaker.forced else None,
        "mode": said.breaker.mode.value,
        "by": said.by,
        "why": said.why,
        "changed": said.changed,
        "waiting": said.waiting,
    }


def _lines(said: Said) -> list[str]:
    head = f"[bold]{title(said.workflow)}[/] [dim]{name(said.workflow.key, 200)}[/]"
    if not said.changed:
        since = f" since {clock(said.breaker.since, said.breaker.since)}" if said.breaker.since else ""
        return [head, f"  nobody forced it: it decides by itself, and is {said.breaker.mode.value}{since}"]
    on_record = name(f"{said.by}: {said.why}", 2 * MAX_WHO_CHARS + MAX_WHY_CHARS)
    waits = f"{said.waiting} lineage{' waits' if said.waiting == 1 else 's wait'} for it"
    match said.breaker.forced:
        case Forced.OPEN:
            words = "forced open: no clone of it is made until `breaker close` or `breaker auto`"
            then = f"{waits}; whoever fails from now on waits, too" if said.waiting else ""
        case Forced.CLOSED:
            words = "forced closed: its failures are retried although it fails, until `breaker auto`"
            then = f"{waits} and may go now, as budget and pace allow" if said.waiting else ""
        case _:
            words = "decides by itself again: closed, and judged by what ends from now on"
            then = f"{waits} and may go now, as budget and pace allow" if said.waiting else ""
    return [head, f"  {words} [dim]({on_record})[/]", *([f"  {then}"] if then else [])]
