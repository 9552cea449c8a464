"""Uuids of executions from people and pipes: read in batches, and none lost for a bad neighbour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from worker.domain.text import clean_text

LONGEST_LINE = 1000
MOST_NAMED = 10
"""Lines that are named when they are no uuids; the others are counted."""


class Given(NamedTuple):
    """One thing that somebody gave.

    Attributes:
        number: of its line, or of the argument; from 1.
        text: without the space around it.
    """

    number: int
    text: str


class Odd:
    """What cannot be the uuid of an execution: all counted, the first few named."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[Given] = []

    def add(self, given: Given) -> None:
        """Take one in."""
        self.count += 1
        if len(self.first) < MOST_NAMED:
            self.first.append(given)

    def __str__(self) -> str:
        """Say which lines, and what is in them."""
        named = ", ".join(f"{each.number} ({clean_text(each.text, 40)!r})" for each in self.first)
        more = f" and {self.count - len(self.first)} more" if self.count > len(self.first) else ""
        return f"line{'' if self.count == 1 else 's'} {named}{more}"


def lines_of(file: BinaryIO) -> Iterator[Given]:
    """Yield the lines of a file that are not blank; of one longer than any uuid only the beginning."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        rest = line
        while rest and not rest.endswith(b"\n") and (rest := file.readline(LONGEST_LINE)):
            pass
        text = line.decode("utf-8", "replace").removeprefix("\ufeff").strip()
        if text:
            yield Given(number, text)


def batches(given: Iterable[Given], size: int, odd: Odd) -> Iterator[list[str]]:
    """Yield uuids, each once in a batch; what cannot be one goes to `odd`."""
    from worker.kinetic.wire import usable_uuid

    batch: dict[str, None] = {}
    for each in given:
        if not usable_uuid(each.text) or "\ufffd" in each.text:
            odd.add(each)
            continue
        batch[each.text] = None
        if len(batch) == size:
            yield list(batch)
            batch.clear()
    if batch:
        yield list(batch)
