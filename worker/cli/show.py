"""`show`: the story of one failure, with links to its runs."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any

import click

from worker.cli.errors import NO, CommandError
from worker.cli.output import console, echo_json, iso, name
from worker.cli.session import settings, with_ledger
from worker.cli.story import tell
from worker.domain.executions import Execution
from worker.domain.lineage import Lineage
from worker.domain.text import clean_text
from worker.ledger import Ledger, records
from worker.ledger.reports import Reports, StoredEvent

LINK_TIMEOUT = timedelta(seconds=3)


@click.command()
@click.argument("uuid")
@click.option("--json", "as_json", is_flag=True, help="Print the lineage's record and its events.")
@click.option("--links/--no-links", default=True, help="Ask Kinetic for the runs' videos and logs.")
def show(uuid: str, as_json: bool, links: bool) -> None:
    """Tell what happened to a failed execution, from the first failure to the verdict.

    UUID may be the failed execution or any clone of it. The links to videos and logs are fetched from
    Kinetic now; they are never stored.

    \b
    Example: kinetic-retry show 5f0c2b6e-…
    """
    config = settings()

    async def read(ledger: Ledger) -> tuple[Lineage | None, list[StoredEvent], datetime]:
        reports = Reports(ledger)
        now = (await reports.summary()).now
        lineage = await reports.find(uuid)
        return lineage, await reports.story(lineage) if lineage else [], now

    lineage, events, now = with_ledger(read, config)
    if lineage is None:
        shown = clean_text(uuid, 200)
        raise CommandError(
            f"no lineage has the execution {shown}: it did not fail while the worker watched,\n"
            f"or before its first start. To watch it by uuid: kinetic-retry track {shown}",
            NO,
        )
    if as_json:
        echo_json({"root": lineage.root, **json.loads(records.dump(lineage, "")), "events": _objects(events)})
        return
    screen = console()
    for line in tell(lineage, events, now):
        screen.print(line)
    if links and config.kinetic.base_url:
        for line in asyncio.run(_links(config, lineage)):
            screen.print(line)
    elif links:
        screen.print("[dim]set KINETIC_BASE_URL and KINETIC_API_KEY to see the links to videos and logs[/]")


async def _links(config: Any, lineage: Lineage) -> list[str]:
    from dataclasses import replace
    from datetime import UTC

    from worker.kinetic import KineticClient, KineticError
    from worker.runtime import endpoint, list_contract

    quick = replace(endpoint(config), timeout=LINK_TIMEOUT, connect_timeout=LINK_TIMEOUT)
    client = KineticClient(quick, list_contract(config), now=lambda: datetime.now(UTC))
    try:
        found = await asyncio.gather(*map(client.get, lineage.members), return_exceptions=True)
    finally:
        await client.aclose()
    lines = []
    for uuid, run in zip(lineage.members, found, strict=True):
        if isinstance(run, Execution):
            shown = [
                f"{what} {name(url, 2000)}"
                for what, url in (("video", run.video_url), ("logs", run.logs_url))
                if url
            ]
            lines.append(
                f"  [dim]{name(uuid, 200)}: {run.status.value}{'; ' + '; '.join(shown) if shown else ''}[/]"
            )
        elif isinstance(run, KineticError):
            lines.append(f"  [dim]{name(uuid, 200)}: no links now ({name(str(run), 200)})[/]")
        elif isinstance(run, BaseException):
            raise run
    return lines


def _objects(events: list[StoredEvent]) -> list[dict[str, Any]]:
    return [{"at": iso(event.at), "event": event.name, **event.facts} for event in events]
