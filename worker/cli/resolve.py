"""`resolve`: a person's decision about a retry call whose outcome nobody else can tell."""

from __future__ import annotations

import shlex
from typing import Any

import click

from config.settings import Settings
from worker.cli.decisions import adopt, declare_not_delivered, suspected_clones, undecided
from worker.cli.errors import NO, WRONG, CommandError
from worker.cli.output import ago, console, echo_json, iso, name
from worker.cli.person import MAX_WHO_CHARS, MAX_WHY_CHARS, Person
from worker.cli.session import settings, with_ledger
from worker.domain.lineage import Lineage, State
from worker.domain.policy import PolicyBook, may_start
from worker.domain.text import clean_text
from worker.domain.transitions import Change
from worker.kinetic import KineticClient
from worker.kinetic.wire import usable_uuid
from worker.ledger import Ledger
from worker.ledger.reports import Reports
from worker.runtime import endpoint, list_contract


@click.command()
@click.argument("uuid")
@click.option("--clone", metavar="UUID", help="The call made this execution: check it, then watch it.")
@click.option("--not-delivered", is_flag=True, help="The call made no clone: the next one is due now.")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for colleagues; kept on record with who.")
@click.option(
    "--force",
    is_flag=True,
    help="Take a clone with another payload; or call again beside failures held as perhaps its clone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
def resolve(
    *, uuid: str, clone: str | None, not_delivered: bool, reason: str, force: bool, as_json: bool
) -> None:
    """Decide about a lineage that is `held` or `unresolved`; UUID is any execution of it.

    Look first: `kinetic-retry show UUID`, and in Kinetic whether a second execution of the same case
    exists. Saying "not delivered" where a clone exists makes a second one. For a failure that is held
    because it may be a clone, --not-delivered says that it is a failure of its own; for one that a rule
    about its log holds, that it is retried whatever its log says.

    \b
    Examples:
      kinetic-retry resolve 5f0c2b6e-… --clone 77aa01b3-… --reason 'same claim number, seen in Kinetic'
      kinetic-retry resolve 5f0c2b6e-… --not-delivered --reason 'no execution in Kinetic after 10:42'
    """
    if (clone is None) is not not_delivered:
        raise click.UsageError("say either --clone UUID or --not-delivered")
    if clone is not None and not usable_uuid(clone):
        raise CommandError(f"cannot be an execution's uuid: {clean_text(clone, 200)!r}", WRONG)
    config = settings(require_api=clone is not None)
    try:
        person = Person.here(reason, config.secrets)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--reason") from None

    async def work(ledger: Ledger) -> tuple[Change, list[str]]:
        await Reports(ledger).summary()  # brings the time of the Redis server, by which everything is dated
        lineage = await undecided(ledger, uuid)
        if clone is not None:
            return await _adopt(ledger, config, lineage, clone, person, force=force), []
        suspects = await suspected_clones(ledger, lineage)
        if suspects and not force:
            raise CommandError(_may_be_its_clone(lineage.root, suspects), NO)
        return await declare_not_delivered(ledger, lineage, person, config.policies), suspects

    change, suspects = with_ledger(work, config)
    if as_json:
        echo_json(_as_object(change, config.policies, suspects))
        return
    screen = console()
    for line in _lines(change, config.policies, suspects):
        screen.print(line)


def _may_be_its_clone(root: str, suspects: list[str]) -> str:
    first = shlex.quote(suspects[0])  # to be copied into a shell
    return (
        f"nothing is decided: {len(suspects)} held failures may be the clone of this call, the first is "
        f"{suspects[0]}.\nIf one is: kinetic-retry resolve {shlex.quote(root)} --clone {first} --reason …\n"
        f"If none is: kinetic-retry resolve {first} --not-delivered --reason … for each, then this "
        "again; or --force"
    )


async def _adopt(
    ledger: Ledger, config: Settings, lineage: Lineage, clone: str, person: Person, *, force: bool
) -> Change:
    client = KineticClient(endpoint(config), list_contract(config), now=ledger.clock.now)
    try:
        return await adopt(ledger, client, lineage, clone, person, force=force)
    finally:
        await client.aclose()


def _as_object(change: Change, policies: PolicyBook, suspects: list[str]) -> dict[str, Any]:
    after, facts = change.after, change.events[0].facts
    return {
        "root": after.root,
        "state": after.state.value,
        "decision": facts["decision"],
        "by": facts["by"],
        "why": facts["why"],
        "clone": facts.get("clone_uuid"),
        "due_at": iso(after.due_at),
        "next": _next(after, policies),
        "may_be_its_clone": suspects,
    }


def _lines(change: Change, policies: PolicyBook, suspects: list[str]) -> list[str]:
    after, facts = change.after, change.events[0].facts
    title = name(after.workflow_name) or name(after.workflow_uuid) or "a workflow without a name"
    words = {
        "clone": f"its clone is {name(str(facts.get('clone_uuid')), 200)}",
        "not_delivered": "the call made no clone",
        "stands_alone": "it is a failure of its own, to be retried",
        "release": "it goes on",
    }[str(facts["decision"])]
    said = name(f"{facts['by']}: {facts['why']}", MAX_WHO_CHARS + MAX_WHY_CHARS)
    lines = [
        f"[bold]{title}[/]  execution {name(after.root, 200)}",
        f"  on record: {words} [dim]({said})[/]",
        f"  next: {name(_next(after, policies), 400)}",
    ]
    also = "[yellow]held, for it may be the clone of this call; decide about it, too:[/]"
    return lines + [f"  {also} {name(uuid, 200)}" for uuid in suspects]


def _next(after: Lineage, policies: PolicyBook) -> str:
    """Say what the workers will do now. Their own policy counts; the one known here is the best guess."""
    attempt, (policy, _) = after.next_attempt, policies.for_workflow(after.workflow_uuid, after.workflow_name)
    if after.state is State.RUNNING:
        return (
            "the clone is looked at at once; if it completes the failure has recovered, "
            f"if it fails the policy decides on attempt {attempt} of {policy.max_attempts}"
        )
    if after.state is State.HELD:  # a person wanted that while the call was in doubt
        return f"it stays held, until someone releases it ({after.detail})"
    if after.state is State.CANCELLED:
        return f"nothing: it is cancelled ({after.detail})"
    due_at = after.due_at or after.since
    objection = may_start(after.history, policy, due_at)
    if objection:
        return f"no further attempt, if the workers' policy is the one here: {objection.detail}"
    when = "now" if due_at <= after.since else ago(due_at, after.since)
    return f"attempt {attempt} of {policy.max_attempts} is due {when}"
