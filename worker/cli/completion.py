"""`completion`: what makes a shell complete commands, options and, where the ledger answers at once, names.

The scripts are click's own; they call `kinetic-retry` again for every press of the key, so that nothing here
may take long, print, or fail.
"""

from __future__ import annotations

import asyncio

import click

from worker.ledger import Connection, Ledger
from worker.ledger.listing import Filter, Listing

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_KINETIC_RETRY_COMPLETE"
"""Which click reads when the shell asks; its name follows from the program's."""
ANSWERS_WITHIN_S = 0.5
MOST_OFFERED = 200


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, states, reasons and names of workflows.

    \b
    Examples:
      eval "$(kinetic-retry completion bash)"     # put this line into ~/.bashrc
      eval "$(kinetic-retry completion zsh)"      # into ~/.zshrc, after compinit
      kinetic-retry completion fish | source      # into ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from worker.cli.app import cli

    made_by = get_completion_class(shell)
    assert made_by is not None  # noqa: S101  # click has all three
    click.echo(made_by(cli, {}, "kinetic-retry", VARIABLE).source())


def known(what: str) -> list[str]:
    """Return the `workflows` (names) or `reasons` that the ledger knows; none where it does not answer."""
    try:
        return asyncio.run(asyncio.wait_for(_known(what), ANSWERS_WITHIN_S))
    except Exception:  # noqa: BLE001  # someone is typing: whatever is wrong, the command itself will say it
        return []


async def _known(what: str) -> list[str]:
    from config.settings import load_settings

    config = load_settings(require_api=False)
    ledger = Ledger(Connection(config.redis_url.get_secret_value()), config.ledger.namespace, events_maxlen=1)
    try:
        if what == "workflows":
            found = set((await Listing(ledger).names()).values())
        else:
            found = {group.reason for group, _ in await Listing(ledger).counts(Filter())}
    finally:
        await ledger.aclose()
    return sorted(each for each in found if each and each.isprintable())[:MOST_OFFERED]
