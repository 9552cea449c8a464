"""`export`: lineages and their outcomes for a period, in a file or a pipe."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import click

from worker.cli.errors import NO, WRONG, CommandError
from worker.cli.exports import write_csv, write_csv_head, write_jsonl
from worker.cli.filters import Chosen, filter_options
from worker.cli.output import echo_json
from worker.cli.session import settings, with_ledger
from worker.domain.text import clean_text
from worker.ledger import Ledger
from worker.ledger.reports import Reports
from worker.ledger.sweep import Sweep

JSONL, CSV = "jsonl", "csv"


@click.command()
@filter_options()
@click.option(
    "--out",
    metavar="FILE",
    help="Into this file, which appears when it is complete. Default: standard output.",
)
@click.option(
    "--format", "form", type=click.Choice([JSONL, CSV]), help="Default: by the name of the file, else jsonl."
)
@click.option("--json", "as_json", is_flag=True, help="Say what was written as an object; it needs --out.")
def export(chosen: Chosen, out: str | None, form: str | None, *, as_json: bool) -> None:
    """Write lineages and what became of them, the oldest first: each once, whatever moves meanwhile.

    The period is that in which they came into their state: for those that have ended, when they ended. JSON
    Lines hold whole records (docs/ledger.md) and are what `policy backtest --from` reads; CSV has a line with
    the outcome of each, for spreadsheets. No payload is in either.

    \b
    Examples:
      kinetic-retry export --since 7d --out week.csv
      kinetic-retry export --state exhausted --since 2026-03-01 --until 2026-04-01 --out march.jsonl
      kinetic-retry export --workflow 'Eligibility*' | jq .reason
    """
    if as_json and out is None:
        raise click.UsageError(
            "--json says what was written to a file: add --out, or leave it out for JSON Lines"
        )
    chosen_form = form or (CSV if out and out.casefold().endswith(".csv") else JSONL)
    config = settings()

    async def work(ledger: Ledger, file: TextIO) -> tuple[int, int]:
        began = await Reports(ledger).now()
        sweep, count = Sweep(ledger, chosen.at(began), began), 0
        if chosen_form == CSV:
            write_csv_head(file)
        async for lineages in sweep.batches():
            (write_csv if chosen_form == CSV else write_jsonl)(file, lineages)
            count += len(lineages)
        file.flush()
        return count, sweep.unreadable

    with _opened(out) as file:
        count, unreadable = with_ledger(lambda ledger: work(ledger, file), config)
    if as_json:
        echo_json({"lineages": count, "unreadable": unreadable, "format": chosen_form, "file": out})
    elif out is not None:
        click.echo(f"{count} lineages written to {clean_text(out, 200)}", err=True)
    if unreadable:
        raise CommandError(f"{unreadable} records cannot be read by this version, and are left out", NO)


@contextmanager
def _opened(out: str | None) -> Iterator[TextIO]:
    """Open what is written to; a file appears under its name only when it is complete."""
    if out is None:
        yield sys.stdout
        return
    path = Path(out)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _refused(out, error) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except OSError as error:
        raise _refused(out, error) from None
    finally:
        with suppress(OSError):
            Path(name).unlink()  # it is not there any more when it got its name


def _refused(out: str, error: OSError) -> CommandError:
    why = (error.strerror or "it cannot be written").lower()
    return CommandError(f"cannot write {clean_text(out, 200)!r}: {why}", WRONG)


def _umask() -> int:
    """Return what permissions new files are to lack; there is no way to ask without setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
