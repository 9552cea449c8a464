"""`alert`: what is wrong now, what people were told, and whether messages reach them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from worker.cli.errors import NO, WRONG, CommandError
from worker.cli.output import ago, clock, console, echo_json, iso, name, rough
from worker.cli.session import settings, with_ledger

if TYPE_CHECKING:
    from config.settings import Settings
    from worker.alerting.courier import Courier
    from worker.domain.alerts import Memory
    from worker.ledger import Ledger
    from worker.ledger.alerts import Said

SHOWN = 20
TITLE_CHARS = 160
SEVERITY_COLOURS = {"failure": "red", "warning": "yellow", "success": "green", "info": "dim"}


@click.group()
def alert() -> None:
    """Show what is wrong now and what people were told, or send a test message.

    \b
    Examples:
      kinetic-retry alert test
      kinetic-retry alert list
    """


@alert.command("test")
@click.option("--json", "as_json", is_flag=True, help="Print a list of addresses and what became of each.")
def test(as_json: bool) -> int:
    """Send a test message to every address of ALERT_URLS; exit code 1 if one does not take it.

    It goes out from this machine, and says nothing about the ledger: nothing is read or written there.

    \b
    Example: kinetic-retry alert test
    """
    config = settings()
    carrier = _courier(config)
    if not carrier.positions:
        raise CommandError(
            "ALERT_URLS is not set: nobody is told anything. "
            "Set it to addresses such as mailto://user:password@example.com",
            WRONG,
        )
    complaints = asyncio.run(_send_test(carrier, config.ledger.namespace))
    if as_json:
        echo_json(
            [
                {"address": carrier.name(position), "taken": complaint is None, "complaint": complaint}
                for position, complaint in zip(carrier.positions, complaints, strict=True)
            ]
        )
    else:
        for position, complaint in zip(carrier.positions, complaints, strict=True):
            click.echo(complaint or f"{carrier.name(position)} took it: look whether it has arrived")
    return NO if any(complaints) else 0


@alert.command("list")
@click.option("--limit", type=click.IntRange(1, 200), default=SHOWN, show_default=True, help="Most messages.")
@click.option("--json", "as_json", is_flag=True, help="Print an object: wrong, gathered, waiting, said, …")
def list_alerts(limit: int, as_json: bool) -> None:
    """Show what is wrong now, what is about to be said, and what was said when.

    \b
    Examples:
      kinetic-retry alert list
      kinetic-retry alert list --json | jq .wrong
    """
    config = settings()

    async def read(ledger: Ledger) -> tuple[datetime, Memory | None, list[Said]]:
        from worker.ledger.alerts import Alerts
        from worker.ledger.reports import Reports

        stored = Alerts(ledger)
        return await Reports(ledger).now(), await stored.memory(), await stored.said(limit)

    now, memory, said = with_ledger(read, config)
    carrier = _courier(config)
    if as_json:
        echo_json(_as_object(now, memory, said, carrier))
        return
    screen = console()
    for line in _lines(now, memory, said, carrier):
        screen.print(line)


def _courier(config: Settings) -> Courier:
    from worker.alerting.courier import Courier

    return Courier(config.alert.addresses)


async def _send_test(carrier: Courier, namespace: str) -> list[str | None]:
    from worker.domain.alerts import Message, Severity

    body = (
        "This is a test of kinetic-retry: whoever reads it would hear of dead letters, and of a worker that "
        "stands still.\nNext: nothing.\nWhat you can do: nothing."
    )
    message = Message("test", datetime.now(UTC), "test", Severity.INFO, f"[{namespace}] test message", body)
    return await asyncio.gather(*(carrier.send(position, message) for position in carrier.positions))


def _as_object(now: datetime, memory: Memory | None, said: list[Said], carrier: Courier) -> dict[str, Any]:
    return {
        "now": iso(now),
        "addresses": [carrier.name(position) for position in carrier.positions],
        "looked_at": iso(memory.turned_at) if memory else None,
        "wrong": [
            {"key": key, "what": each.what, "since": iso(each.since), "told_at": iso(each.told_at)}
            for key, each in (memory.open.items() if memory else ())
        ],
        "gathered": [
            {
                "kind": each.kind.value,
                "workflow_uuid": each.workflow,
                "workflow_name": each.name,
                "count": each.count,
                "reasons": each.reasons,
                "told_at": iso(each.told_at),
            }
            for each in (memory.gathered.values() if memory else ())
            if each.count
        ],
        "waiting": [
            {"about": each.about, "title": each.title, "at": iso(each.at)}
            for each in (memory.outbox if memory else ())
        ],
        "failing_addresses": {
            str(position): {"tries": each.tries, "next_at": iso(each.next_at)}
            for position, each in (memory.addresses.items() if memory else ())
            if each.tries
        },
        "said": [
            {
                "at": iso(each.at),
                "about": each.about,
                "severity": each.severity.value,
                "title": each.title,
                "address": each.address or None,
            }
            for each in said
        ],
    }


def _lines(now: datetime, memory: Memory | None, said: list[Said], carrier: Courier) -> list[str]:
    unset = "[yellow]ALERT_URLS is not set here[/]: this is what processes that have it know"
    lines = [] if carrier.positions else [unset]
    if memory is None:
        return [*lines, "nobody has looked yet: `serve` does, and `worker` with `beat`"]
    lines += [f"looked     {ago(memory.turned_at, now)}", *_wrong_lines(now, memory)]
    lines += [
        f"gathered   {group.count} {group.kind.value.replace('_', ' ')} of "
        + (name(group.name) or name(group.workflow) or "other workflows")
        for group in memory.gathered.values()
        if group.count
    ]
    lines += [
        f"[yellow]waiting[/]    {name(message.title, TITLE_CHARS)}, made {ago(message.at, now)}"
        for message in memory.outbox
    ]
    lines += [
        f"[red]failing[/]    address {position}: {address.tries} tries in a row"
        + (f", tried again {ago(address.next_at, now)}" if address.next_at else "")
        for position, address in memory.addresses.items()
        if address.tries
    ]
    return [*lines, *(_said_line(now, each) for each in said)]


def _wrong_lines(now: datetime, memory: Memory) -> list[str]:
    if not memory.open:
        return ["[green]nothing is wrong[/] with the whole"]
    return [
        f"[red]wrong[/]      {name(each.what, TITLE_CHARS)}, for {rough(now - each.since)}; "
        + (f"told {ago(each.told_at, now)}" if each.told_at else "not told yet")
        for each in memory.open.values()
    ]


def _said_line(now: datetime, said: Said) -> str:
    where = f"address {said.address}" if said.address else "given up"
    colour = SEVERITY_COLOURS[said.severity.value]
    return f"{clock(said.at, now)}   [{colour}]{name(said.title, TITLE_CHARS)}[/] [dim]({where})[/]"
