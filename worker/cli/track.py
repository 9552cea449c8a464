"""`track`: executions to watch by uuid, from the command line or by the thousand from standard input."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import click

from worker.cli.errors import NO, WRONG, CommandError
from worker.cli.output import echo_json
from worker.cli.session import settings, with_ledger
from worker.cli.uuids import Given, Odd, batches, lines_of
from worker.domain.text import clean_text
from worker.ledger import Ledger
from worker.ledger.reports import Reports

STDIN = "-"
AT_ONCE = 1000
"""Executions put under watch in one round trip."""


@dataclass(slots=True)
class Tally:
    """What came of it.

    Attributes:
        tracked, known: executions that are new under watch, and that were before.
        odd: what was given and cannot be a uuid.
    """

    tracked: int = 0
    known: int = 0
    odd: Odd = field(default_factory=Odd)


@click.command()
@click.argument("uuids", nargs=-1, required=True, metavar="UUID…|-")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def track(uuids: tuple[str, ...], as_json: bool) -> None:
    """Watch executions by uuid: one that fails is retried by policy, one that completes is let go.

    Needs only documented calls, so it works where there is no list (DISCOVERY_MODE=track). Someone named
    these, so they are retried whenever they failed. With - they come from standard input, one a line: lines
    that cannot be uuids are counted and named, all others are tracked. Programs may send the Celery task
    kinetic_retry.track instead: docs/track.md.

    \b
    Examples:
      kinetic-retry track 5f0c2b6e-… 77aa01b3-…
      kinetic-retry track - <uuids.txt
    """
    config = settings()
    piped = STDIN in uuids
    if piped and len(uuids) > 1:
        raise click.UsageError("- stands for standard input, and takes no uuids beside it")
    given = lines_of(sys.stdin.buffer) if piped else iter([Given(*each) for each in enumerate(uuids, 1)])
    tally = Tally()
    known_batches = batches(given, AT_ONCE, tally.odd)
    if not piped:
        known_batches = iter(list(known_batches))
        if tally.odd.count:
            shown = clean_text(tally.odd.first[0].text, 200)
            raise CommandError(f"cannot be an execution's uuid: {shown!r}; nothing is tracked", WRONG)

    async def work(ledger: Ledger) -> None:
        await Reports(ledger).now()  # since when they are watched goes by the server's clock
        for batch in known_batches:
            new = await ledger.track(batch)
            tally.tracked, tally.known = tally.tracked + new, tally.known + len(batch) - new

    try:
        with_ledger(work, config)
    except CommandError as error:
        if not tally.tracked + tally.known:
            raise
        raise CommandError(
            f"{error}\n{_in_words(tally)}; give all of them again: known ones stay as they are",
            error.exit_code,
        ) from None
    _tell(tally, as_json=as_json)


def _tell(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        odd = {"unusable": tally.odd.count, "unusable_lines": [each.number for each in tally.odd.first]}
        echo_json({"tracked": tally.tracked, "known": tally.known, **(odd if tally.odd.count else {})})
    else:
        click.echo(_in_words(tally))
    if tally.odd.count:
        raise CommandError(f"cannot be uuids of executions, and are not tracked: {tally.odd}", NO)


def _in_words(tally: Tally) -> str:
    return f"{tally.tracked} under watch" + (f", {tally.known} were already" if tally.known else "")
