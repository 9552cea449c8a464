"""`config`: the settings in force and where each came from."""

from __future__ import annotations

import click

from worker.cli.output import console, echo_json, name
from worker.cli.session import settings


@click.command()
@click.option("--changed", is_flag=True, help="Only what differs from the defaults.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def config(changed: bool, as_json: bool) -> None:
    """Show every setting with its value and source; secrets are masked.

    \b
    Examples:
      kinetic-retry config --changed
      kinetic-retry config --json
    """
    from config.settings import rows

    shown = [row for row in rows(settings()) if not changed or row.source != "default"]
    if as_json:
        echo_json([row._asdict() for row in shown])
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("variable", "value", "from", "what it does"):
        grid.add_column(title, no_wrap=title == "variable", style="dim" if title == "what it does" else None)
    for row in shown:
        value = name(str(row.value), 120)
        mark = value if row.source == "default" else f"[bold]{value}[/]"
        grid.add_row(
            row.variable,
            mark,
            name(row.source),
            name(row.description.replace("**", "").replace("`", ""), 120),
        )
    console().print(grid)
