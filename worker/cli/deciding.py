"""What every command takes with which a person decides: why, who, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from worker.cli.forcing import person_here
from worker.cli.person import MAX_WHO_CHARS, MAX_WHY_CHARS, Person

if TYPE_CHECKING:
    from config.settings import Settings

MAX_SAID_CHARS = 3 * MAX_WHO_CHARS + MAX_WHY_CHARS
"""Who, with the name they gave, and why."""


def deciding(action: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--reason`, `--by` and `--json`."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--by", metavar="NAME", help="Who decided, beside who runs the command."),
        click.option("--reason", required=True, metavar="TEXT", help="Why; kept on record with who."),
    ):
        action = decorate(action)
    return action


def decider(reason: str, by: str | None, config: Settings) -> Person:
    """Return who decides and why; words that nobody can read end the command."""
    try:
        return person_here(reason, by, config.secrets)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--reason or --by") from None
