"""`retry`, `hold`, `release` and `cancel`: a person's word about lineages, one or thousands of them."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from worker.cli import outcomes
from worker.cli.deciding import MAX_SAID_CHARS, decider, deciding
from worker.cli.errors import AWAY, NO, WRONG, CommandError
from worker.cli.ordering import Came, Ordering, Wanted, named
from worker.cli.outcomes import Now
from worker.cli.output import console
from worker.cli.paused import paused_workflows
from worker.cli.session import settings, with_ledger
from worker.domain.policy import PolicyBook
from worker.domain.text import clean_text
from worker.ledger import Ledger, LedgerUnavailable
from worker.ledger.reports import Reports

ASKS_FROM = 21
"""So many at once are said first, and asked about."""
SHOWN_ALL = 50
"""Where there are more, only those that are not done are shown one by one."""
MOST = 100_000
MOST_READ = 300 * MOST
"""Characters of standard input."""
MOST_REASONS = 5
_VERBS = {
    Wanted.RETRY: "retry now, whatever their policies and breakers say:",
    Wanted.HOLD: "hold until someone releases them:",
    Wanted.CANCEL: "cancel:",
    Wanted.RELEASE: "release:",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options of one of the commands say."""

    wanted: Wanted
    uuids: tuple[str, ...]
    reason: str
    by: str | None
    as_json: bool
    yes: bool
    beside: bool = False


def _ordering(action: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what all of these take."""
    for decorate in (
        click.option("--yes", is_flag=True, help="Do not ask, however many there are."),
        deciding,
        click.argument("uuids", nargs=-1, required=True, metavar="UUID…"),
    ):
        action = decorate(action)
    return action


@click.command()
@_ordering
@click.option(
    "--beside-clone",
    "beside",
    is_flag=True,
    help="Although a clone that was never seen to end may still be running: there may be two then.",
)
def retry(*, beside: bool, **options: Any) -> None:
    """Retry failures now, once, whatever policy, breaker and budgets say; dead letters as well.

    A person's pause still holds it up, and so do a closed gate and what is in flight. If the clone fails the
    policy decides again. Any execution of a failure names it; - reads them from standard input. Where a clone
    was never seen to end, look in Kinetic first: with --beside-clone a second one is made.

    \b
    Examples:
      kinetic-retry retry 5f0c2b6e-… --reason 'the payer fixed the account'
      kinetic-retry list --state exhausted --uuids | kinetic-retry retry - --yes --reason 'payer is back'
    """
    _order(Asked(Wanted.RETRY, beside=beside, **options))


@click.command()
@_ordering
def hold(**options: Any) -> None:
    """Let no further attempt of these failures start before someone releases them.

    A clone that is running is followed to its end first. The deadline goes on: one that is released after it
    is not retried by its policy any more. Any execution of a failure names it; - reads them from standard
    input.

    \b
    Example: kinetic-retry hold 5f0c2b6e-… --reason 'asking the payer first'
    """
    _order(Asked(Wanted.HOLD, **options))


@click.command()
@_ordering
def release(**options: Any) -> None:
    """Let held failures go on, or take back a hold or an end that was asked for and is not done yet.

    One that a person held keeps the time of its next attempt; one that is held as a possible clone, or by a
    rule about its log, is retried when its policy says. Where a call is in doubt, `resolve` decides. Any
    execution of a failure names it; - reads them from standard input.

    \b
    Examples:
      kinetic-retry release 5f0c2b6e-… --reason 'the payer says it is fine'
      kinetic-retry list --state held --uuids | kinetic-retry release - --yes --reason 'all are fine'
    """
    _order(Asked(Wanted.RELEASE, **options))


@click.command()
@_ordering
def cancel(**options: Any) -> None:
    """End these failures: no further attempt is made, and dead letters among them are put away.

    A clone that is running is followed to its end first, and if it completes the failure has recovered. Any
    execution of a failure names it; - reads them from standard input. `retry` takes it back.

    \b
    Example: kinetic-retry cancel 5f0c2b6e-… --reason 'done by hand at the payer'
    """
    _order(Asked(Wanted.CANCEL, **options))


def _order(asked: Asked) -> None:
    config = settings()
    person = decider(asked.reason, asked.by, config)
    uuids = _uuids(asked.uuids)
    several = len(uuids) >= ASKS_FROM and not asked.yes
    asks = several and "-" not in asked.uuids and sys.stdin.isatty()

    async def work(ledger: Ledger, *, rehearse: bool) -> Counter[Came]:
        ordering = Ordering(ledger, asked.wanted, person, config.policies, asked.beside)
        now = await _now(ledger, config.policies)
        if rehearse:
            await _say_what_comes(ordering, uuids)
            return Counter()
        return await _carry_out(ordering, uuids, now, as_json=asked.as_json)

    if several:
        with_ledger(lambda ledger: work(ledger, rehearse=True), config)
        if not asks:
            raise CommandError("nothing is done yet: add --yes", WRONG)
        click.confirm("Do it?", abort=True, err=True)
    came = with_ledger(lambda ledger: work(ledger, rehearse=False), config)
    on_record = clean_text(str(person), MAX_SAID_CHARS)
    said = f" (on record: {on_record})" if came[Came.DONE] else ""
    click.echo(f"{outcomes.in_words(came)}{said}", err=asked.as_json)
    if came[Came.UNCLEAR] or came[Came.UNTRIED]:
        raise CommandError("Redis is not available; give the rest again when it is back", AWAY)
    if sum(came.values()) > came[Came.DONE] + came[Came.SAME]:
        raise click.exceptions.Exit(NO)


def _uuids(words: tuple[str, ...]) -> list[str]:
    """Return the executions that are named, each once; `-` stands for those on standard input."""
    from worker.kinetic.wire import usable_uuid

    found: list[str] = []
    for each in words:
        found += sys.stdin.read(MOST_READ).split() if each == "-" else [each]
    uuids = named(found)
    unusable = [each for each in uuids if not usable_uuid(each)]
    if unusable:
        shown = clean_text(unusable[0], 200)
        raise CommandError(f"cannot be an execution's uuid: {shown!r}; nothing is done", WRONG)
    if not uuids:
        raise CommandError("no execution is named; nothing is done", NO)
    if len(uuids) > MOST:
        raise CommandError(f"{len(uuids)} at once are too many: {MOST} at most; nothing is done", WRONG)
    return uuids


async def _now(ledger: Ledger, policies: PolicyBook) -> Now:
    summary = await Reports(ledger).summary()  # brings the time of the Redis server as well
    paused = paused_workflows(summary.breakers, summary.now)
    return Now(summary.now, summary.gate, paused, policies)


async def _say_what_comes(ordering: Ordering, uuids: list[str]) -> None:
    """Say what would be done and what not, on standard error: standard output is for what was."""
    workflows: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    async for item in ordering.rehearse(uuids):
        if item.came is Came.DONE and item.lineage:
            workflows[outcomes.title(item.lineage)] += 1
        elif item.came is not Came.SAME:
            refused[outcomes.kind(item)] += 1
    for_all = [f"about to {_VERBS[ordering.wanted]} {workflows.total()} failures"]
    for_all += [f"  {count} of {title}" for title, count in workflows.most_common(MOST_REASONS)]
    if len(workflows) > MOST_REASONS:
        for_all.append(f"  the others of {len(workflows) - MOST_REASONS} more workflows")
    for_all += [f"  not {count}: {why}" for why, count in refused.most_common(MOST_REASONS)]
    click.echo("\n".join(for_all), err=True)


async def _carry_out(ordering: Ordering, uuids: list[str], now: Now, *, as_json: bool) -> Counter[Came]:
    came: Counter[Came] = Counter()
    screen = console()
    try:
        async for item in ordering.carry_out(uuids):
            came[item.came] += 1
            if as_json:
                click.echo(json.dumps(outcomes.as_object(item)))
            elif len(uuids) <= SHOWN_ALL or not item.is_well:
                screen.print(outcomes.line(item, ordering.wanted, now))
    except LedgerUnavailable:
        if not came:
            raise  # nothing is done yet: there is nothing to tell but that
        came[Came.UNTRIED] = len(uuids) - came.total()
    return came
