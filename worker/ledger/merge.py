"""The indexes of many groups read as if they were one, lazily. Changes nothing.

Must not know why these groups were chosen (`listing`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from worker.ledger.clock import from_ms
from worker.ledger.groups import Group
from worker.ledger.ledger import Ledger
from worker.ledger.scripts import Call, run_all, script

READ_AT_ONCE = 500
"""Members that one index is asked for at once, at most."""
INDEXES_AT_ONCE = 250
"""Indexes read in one step of the server, which does nothing else meanwhile: some milliseconds."""
MOST_READY = 16_000
"""Members of all indexes together that are kept ready while everything is walked through."""
FEWEST = 4


class Found(NamedTuple):
    """A lineage that was found.

    Attributes:
        at: since when it was in its state.
        group: what was known of it then.
    """

    root: str
    at: datetime
    group: Group


@dataclass(slots=True)
class _Run:
    """One index on its way.

    Attributes:
        ready: what was read of it and is not taken yet, the next one last.
        last: the one after which it is read on.
        size: how many are read at once.
        ended: whether there is nothing more to read.
    """

    group: Group
    last: tuple[int, str] | None
    ready: list[tuple[int, str]] = field(default_factory=list)
    size: int = 1
    ended: bool = False


class Merge:
    """Takes lineages from the indexes of several groups in one order.

    Args:
        groups: whose indexes are read.
        bounds: the lowest score (ms, or "-inf"), and the score that all are below (or "+inf").
        after: score and root of the one they come after; None = from the beginning.
        newest: from the highest score down, else from the lowest up.
        ahead: how many will be taken at most; None = all that there are.
    """

    def __init__(
        self,
        ledger: Ledger,
        groups: Sequence[Group],
        bounds: tuple[int | str, int | str],
        after: tuple[int, str] | None,
        *,
        newest: bool,
        ahead: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._bounds = bounds
        self._newest = newest
        self._runs = [_Run(group, after) for group in groups]
        self._ahead = ahead
        self._heads: list[tuple[tuple[int, str], int]] | None = None

    async def take(self, count: int) -> list[Found]:
        """Return the next `count`, fewer at the end. The indexes are read as far as that needs."""
        if self._heads is None:
            await self._begin()
            self._heads = sorted((run.ready[-1], i) for i, run in enumerate(self._runs) if run.ready)
        heads = self._heads
        taken: list[Found] = []
        while heads and len(taken) < count:
            (at_ms, root), number = heads.pop() if self._newest else heads.pop(0)
            run = self._runs[number]
            run.ready.pop()
            taken.append(Found(root, from_ms(at_ms), run.group))
            if not run.ready and not run.ended and (self._ahead is None or len(taken) < count):
                await self._read_on([run])
            if run.ready:
                insort(heads, (run.ready[-1], number))
        return taken

    async def _begin(self) -> None:
        """Make something ready of every index that can have a place among those that will be taken."""
        if self._ahead is None:
            size = MOST_READY // max(1, len(self._runs))
        else:
            # One whose own first comes after the firsts of `ahead` others has none: there may be thousands.
            firsts = await self._ask([(run, 1) for run in self._runs])
            heads = sorted((found[0], number) for number, found in enumerate(firsts) if found)
            heads = heads[-self._ahead :] if self._newest else heads[: self._ahead]
            self._runs = [self._runs[number] for _, number in heads]
            size = 2 * self._ahead // max(1, len(self._runs))
        for run in self._runs:
            run.size = min(max(FEWEST, size), READ_AT_ONCE)
        await self._read_on(self._runs)

    async def _read_on(self, runs: Sequence[_Run]) -> None:
        for run, found in zip(runs, await self._ask([(run, run.size) for run in runs]), strict=True):
            run.ready = found[::-1]
            run.ended = len(found) < run.size
            run.last = found[-1] if found else run.last

    async def _ask(self, wanted: Sequence[tuple[_Run, int]]) -> list[list[tuple[int, str]]]:
        """Return the next so many of each index, in one round trip."""
        calls = [self._call(wanted[i : i + INDEXES_AT_ONCE]) for i in range(0, len(wanted), INDEXES_AT_ONCE)]
        found: list[list[tuple[int, str]]] = []
        for answer in await run_all(self._ledger.connection, calls) if calls else []:
            if isinstance(answer, Exception):
                raise answer
            for flat in answer[1:]:
                scores = map(int, map(float, flat[1::2]))
                found.append(list(zip(scores, flat[::2], strict=True)))
        return found

    def _call(self, wanted: Sequence[tuple[_Run, int]]) -> Call:
        arguments: list[int | str] = ["newest" if self._newest else "oldest", *self._bounds]
        for run, count in wanted:
            arguments += [count, *(run.last or ("", ""))]
        return Call(
            script("page"), [self._ledger.keys.group(run.group.field) for run, _ in wanted], arguments
        )
