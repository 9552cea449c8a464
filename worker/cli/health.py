"""`health`: for container health checks. Costs milliseconds: it imports nothing and asks nobody."""

from __future__ import annotations

import json

import click

from worker.health import STALE_AFTER_S, age_s


@click.command()
@click.argument("role", type=click.Choice(["worker", "beat"]))
@click.option("--json", "as_json", is_flag=True, help="Print an object instead of a line.")
def health(role: str, as_json: bool) -> int:
    """Say whether the worker or beat of this container is alive: exit code 0, or 1.

    Worker and beat touch a file every few seconds; this reads its age. Whether work gets done is shown by
    `kinetic-retry status`.

    \b
    Example: kinetic-retry health worker
    """
    age = age_s(role)
    alive = age is not None and age < STALE_AFTER_S
    if as_json:
        click.echo(
            json.dumps({"role": role, "alive": alive, "age_s": None if age is None else round(age, 1)})
        )
    elif age is None:
        click.echo(f"{role}: no sign of life in this container")
    else:
        click.echo(f"{role}: {'alive' if alive else 'stale'}, last sign of life {age:.0f} s ago")
    return 0 if alive else 1
