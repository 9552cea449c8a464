"""Records of lineages in files: written as JSON Lines or CSV, and read again.

JSON Lines hold whole records (`docs/ledger.md`), which `policy backtest` reads; CSV is for spreadsheets.
What is read may be anything: lines that are no record are said by number, never what is in them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from worker.cli.errors import WRONG, CommandError
from worker.cli.output import iso
from worker.domain.lineage import Lineage, State
from worker.domain.text import clean_text
from worker.ledger import LedgerFormatError, records

LONGEST_LINE = 1_048_576
LARGEST_ARRAY = 1 << 30
MOST_LINEAGES = 1_000_000
MOST_CELL_CHARS = 1000
COLUMNS = (
    *("execution_uuid", "workflow_uuid", "workflow_name", "workflow_version_uuid", "failed_at", "seen_at"),
    *("state", "since", "reason", "detail", "attempts", "attempts_failed", "joined", "last_clone_uuid"),
    *("last_outcome", "recovered_after_s", "policy"),
)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001  # their wide forms count as well
"""With these a spreadsheet takes a cell for something to be computed."""


def as_json(lineage: Lineage) -> str:
    """Return a record on one line."""
    return f'{{"root":{json.dumps(lineage.root)},{records.dump(lineage, "")[1:]}'


def write_jsonl(file: TextIO, lineages: Iterable[Lineage]) -> None:
    """Write records, a line each."""
    file.writelines(f"{as_json(each)}\n" for each in lineages)


def write_csv_head(file: TextIO) -> None:
    """Write the names of the columns."""
    csv.writer(file, lineterminator="\n").writerow(COLUMNS)


def write_csv(file: TextIO, lineages: Iterable[Lineage]) -> None:
    """Write lineages and their outcomes, a line each."""
    csv.writer(file, lineterminator="\n").writerows(map(_row, lineages))


def _row(lineage: Lineage) -> list[str | int | float | None]:
    newest = lineage.newest if lineage.attempts else None
    recovered = lineage.state is State.RECOVERED
    ended = (newest.ended_at if newest else None) or lineage.since
    return [
        _cell(lineage.root),
        _cell(lineage.workflow_uuid),
        _cell(lineage.workflow_name),
        _cell(lineage.workflow_version_uuid),
        iso(lineage.root_failed_at),
        iso(lineage.seen_at),
        lineage.state.value,
        iso(lineage.since),
        _cell(lineage.reason),
        _cell(lineage.detail),
        lineage.made,
        sum(each.outcome == "failed" and not each.joined for each in lineage.attempts),
        len(lineage.attempts) - lineage.made,
        _cell(newest.clone) if newest else "",
        newest.outcome if newest else "",
        max(0.0, (ended - lineage.root_failed_at).total_seconds()) if recovered else None,
        _cell(lineage.policy),
    ]


def _cell(text: str) -> str:
    """Return untrusted text for a cell: one line, and never a formula."""
    shown = clean_text(text, MOST_CELL_CHARS)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


@dataclass(slots=True)
class Export:
    """What a file gave.

    Attributes:
        lineages: by root; of two records of one the newer counts.
        odd: numbers of the lines that are no record, and why.
    """

    lineages: dict[str, Lineage] = field(default_factory=dict)
    odd: list[tuple[int, str]] = field(default_factory=list)


def read_export(path: Path) -> Export:
    """Return the records of a file; lines that are none are counted."""
    export = Export()
    try:
        with path.open("rb") as file:
            first = file.read(1)
            file.seek(0)
            if first == b"e":
                _refuse_csv(file, path)
            entries = _array(file.read(LARGEST_ARRAY)) if first == b"[" else _lines_of(file)
            for number, entry in entries:
                _take(export, number, entry)
                if len(export.lineages) >= MOST_LINEAGES:
                    break
    except OSError as error:
        reason = (error.strerror or "it cannot be opened").lower()
    except ValueError:
        reason = "it begins like an array, and is no JSON"
    else:
        return export
    raise CommandError(f"cannot read {clean_text(str(path), 200)!r}: {reason}", WRONG) from None


def _refuse_csv(file: BinaryIO, path: Path) -> None:
    """End the command where a file is what `write_csv` wrote."""
    if file.readline(LONGEST_LINE).startswith(COLUMNS[0].encode() + b","):
        shown = clean_text(str(path), 200)
        raise CommandError(
            f"{shown!r} is CSV, without the times of attempts: kinetic-retry export --format jsonl",
            WRONG,
        )
    file.seek(0)


def _array(text: bytes) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(json.loads(text), 1)
    except RecursionError:
        raise ValueError from None


def _lines_of(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        whole = len(line) <= LONGEST_LINE
        while not line.endswith(b"\n") and (rest := file.readline(LONGEST_LINE)):
            line = rest
        if not whole:
            yield number, ValueError("longer than 1 MiB")
        elif line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, ValueError("not JSON")


def _take(export: Export, number: int, entry: Any) -> None:
    """Add a record, or why it is none. Never what it holds: nobody knows what that is."""
    if isinstance(entry, ValueError):
        export.odd.append((number, str(entry)))
        return
    root = entry.get("root") if isinstance(entry, dict) else None
    if not isinstance(root, str) or not root:
        export.odd.append((number, "no object with a root"))
        return
    try:
        lineage = _checked(records.load(root, json.dumps(entry)))
    except LedgerFormatError:
        export.odd.append((number, "no lineage's record, or of a newer worker"))
    except (AttributeError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        export.odd.append((number, "no lineage's record"))
    else:
        known = export.lineages.get(root)
        if known is None or known.version <= lineage.version:
            export.lineages[root] = lineage


def _checked(lineage: Lineage) -> Lineage:
    """Return it when what is replayed has the right types: a hand-made file may say anything."""
    texts = (lineage.workflow, lineage.workflow_name, lineage.reason)
    if not all(isinstance(each, str) for each in texts) or not isinstance(lineage.version, int):
        raise TypeError
    if not all(isinstance(each.outcome, str) for each in lineage.attempts):
        raise TypeError
    if lineage.signature and not lineage.signature.same_as(lineage.signature):  # compares all of its numbers
        raise TypeError
    return lineage
