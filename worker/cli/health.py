"""`health`: for container health checks. Costs milliseconds: it imports next to nothing and asks nobody."""

from __future__ import annotations

import click

from worker.health import PATIENCE_S, ROLES, report


@click.command()
@click.argument("role", type=click.Choice(ROLES))
@click.option("--json", "as_json", is_flag=True, help="Print an object instead of a line.")
@click.option("--patience", "patience_s", type=float, default=PATIENCE_S, hidden=True)
def health(role: str, as_json: bool, patience_s: float) -> int:
    """Say whether the worker or beat of this container is well: exit code 0, or 1 if it should be restarted.

    Red: the process has ended or stands still, one of its processes hangs, or it takes or sends no ticks
    although it could. A worker that is busy is well, and so is one whose Redis is away: restarting it would
    not help. Without containers, give each worker of a host a TMPDIR of its own.

    \b
    Example: kinetic-retry health worker
    """
    code, said = report(role, as_json=as_json, patience_s=patience_s)
    click.echo(said)
    return code
