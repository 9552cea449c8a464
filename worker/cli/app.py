"""The command group: names, lazy loading, and what every error looks like to a person."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from config.redaction import printable
from worker.cli.errors import CommandError

COMMANDS = {
    "worker": "worker.cli.daemons:worker",
    "beat": "worker.cli.daemons:beat",
    "up": "worker.cli.up:up",
    "check": "worker.cli.check:check",
    "config": "worker.cli.config:config",
    "status": "worker.cli.status:status",
    "list": "worker.cli.lineages:list_lineages",
    "dead": "worker.cli.lineages:dead",
    "show": "worker.cli.show:show",
    "tail": "worker.cli.tail:tail",
    "report": "worker.cli.report:report",
    "export": "worker.cli.export:export",
    "track": "worker.cli.track:track",
    "resolve": "worker.cli.resolve:resolve",
    "retry": "worker.cli.orders:retry",
    "hold": "worker.cli.orders:hold",
    "release": "worker.cli.orders:release",
    "cancel": "worker.cli.orders:cancel",
    "redrive": "worker.cli.redrive:redrive",
    "pause": "worker.cli.pause:pause",
    "resume": "worker.cli.pause:resume",
    "policy": "worker.cli.policy:policy",
    "breaker": "worker.cli.breaker:breaker",
    "serve": "worker.cli.serve:serve",
    "alert": "worker.cli.alert:alert",
    "health": "worker.cli.health:health",
    "completion": "worker.cli.completion:completion",
}
"""In the order of the help."""

EXIT_CODES = """\b
Exit codes: 0 fine · 1 the answer is no · 2 wrong usage or settings · 3 Redis or the API cannot be reached
"""


class LazyGroup(click.Group):
    """Imports a command's module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names, in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command; None for a name that there is not."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands without importing them, and the options of the group itself."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        found = [CompletionItem(name, help=SUMMARIES.get(name, "")) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))


SUMMARIES = {
    "worker": "Do the work: a Celery worker. Any number of them.",
    "beat": "Wake the workers: Celery beat. One is enough, two do no harm.",
    "up": "Run everything in one terminal, against a simulated Kinetic unless one is set.",
    "check": "Examine everything the worker depends on, with the cure for what is wrong.",
    "config": "Show the settings in force and where each came from.",
    "status": "Show states, counters, what is due next, and whether work is suspended.",
    "list": "List lineages: what failed, where it stands and why.",
    "dead": "List the dead letters: lineages whose attempts or deadline are used up.",
    "show": "Tell the story of one failure; any execution of it will do.",
    "tail": "Follow what happens, step by step.",
    "report": "Show the return on retries: clones made, recovered and wasted, by workflow and attempt.",
    "export": "Write lineages and their outcomes as JSON Lines or CSV.",
    "track": "Watch executions by uuid, whether or not a list shows them.",
    "resolve": "Decide what became of a retry call that nobody else can settle.",
    "retry": "Retry failures now, whatever their policies say; dead letters as well.",
    "hold": "Let no further attempt of failures start before someone releases them.",
    "release": "Let held failures go on.",
    "cancel": "End failures: no further attempt is made.",
    "redrive": "Retry many dead letters once more: a few first, then the rest at a rate.",
    "pause": "Let no retry call leave: of everything, or of one workflow, for a while or until resume.",
    "resume": "Let retry calls leave again.",
    "policy": "Explain which retry policy applies, or try another one on what is on record.",
    "breaker": "Show which workflows are held back for failing, and force one either way.",
    "serve": "Offer Prometheus metrics and health checks over HTTP.",
    "alert": "Show what is wrong now and what people were told, or send a test message.",
    "health": "Answer a container's health check.",
    "completion": "Print what makes a shell complete commands, options and names.",
}

INTERRUPTED, BUG = 130, 70
"""Exit codes besides those of `errors`: Ctrl-C, and a mistake of ours."""


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kinetic-retry-worker", prog_name="kinetic-retry")
def cli() -> None:
    """Retry failed Kinetic executions by policy: never twice, never forgotten, always with a reason.

    Start with `kinetic-retry up` to see it work, `kinetic-retry check` to set it up.
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. No traceback reaches a person for what can go wrong outside."""
    try:
        result: Any = cli.main(args=list(arguments), prog_name="kinetic-retry", standalone_mode=False)
    except (click.exceptions.Exit, click.ClickException, CommandError) as ending:
        # Both may quote an argument, and people paste what they were shown elsewhere.
        if isinstance(ending, click.ClickException):
            said = io.StringIO()
            ending.show(said)
            click.echo(printable(said.getvalue(), keep="\n"), nl=False, err=True)
        elif isinstance(ending, CommandError):
            click.echo(printable(str(ending), keep="\n"), err=True)
        return ending.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  # a traceback shows values, and helps nobody on a terminal
        click.echo(f"kinetic-retry: {_bug(error)}; this is a mistake of ours, please report it", err=True)
        return BUG
    return result if isinstance(result, int) else 0


def _bug(error: Exception) -> str:
    """Return which error came from where; never its message, which may quote what must not be shown."""
    step = error.__traceback__
    while step and step.tb_next:
        step = step.tb_next
    place = f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}" if step else "nowhere"
    return f"unexpected {type(error).__name__} at {place}"
