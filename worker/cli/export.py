"""Reads exported records of lineages. Says which lines are none; never shows what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from worker.cli.errors import WRONG, CommandError
from worker.domain.lineage import Lineage
from worker.domain.text import clean_text
from worker.ledger import LedgerFormatError, records

LONGEST_LINE = 1_048_576
LARGEST_ARRAY = 1 << 30
MOST_LINEAGES = 1_000_000


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
