"""Reading the return on retries for a period: what clones of each workflow and attempt came to.

Reads a hash for each hour (`returns`), however many lineages there were. Changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.ledger.clock import from_ms
from worker.ledger.gate import as_mapping
from worker.ledger.ledger import Ledger
from worker.ledger.returns import HOUR, KEEP_RETURNS_MS, STEPS, Returned, end_of, hour_of
from worker.ledger.scripts import Call, run_all, script

MS = timedelta(milliseconds=1)
AT_ONCE = 24
"""Hours that are added up in one step of the server, which does nothing else meanwhile: some milliseconds."""


@dataclass(slots=True)
class Return:
    """What became of clones: of one workflow and attempt number, or of several taken together.

    Attributes:
        made: clones made.
        recovered, failed, lost: how they ended; lost are those never seen to end.
        took: how many took so long from the first failure to the recovery, by step (`returns.end_of`).
    """

    made: int = 0
    recovered: int = 0
    failed: int = 0
    lost: int = 0
    took: Counter[int] = field(default_factory=Counter)

    @property
    def wasted(self) -> int:
        """Clones that recovered nothing."""
        return self.failed + self.lost

    @property
    def ended(self) -> int:
        """Clones of which it is known what became of them."""
        return self.recovered + self.wasted

    @property
    def median(self) -> timedelta | None:
        """The median time to recovery, right within a tenth; None when nothing recovered."""
        left = (sum(self.took.values()) + 1) // 2
        for step in sorted(self.took):
            left -= self.took[step]
            if left <= 0:
                return end_of(step) / 2 ** (1 / (2 * STEPS)) if step else end_of(step)
        return None

    def __add__(self, other: Return) -> Return:
        """Return both together."""
        return Return(
            self.made + other.made,
            self.recovered + other.recovered,
            self.failed + other.failed,
            self.lost + other.lost,
            self.took + other.took,
        )


@dataclass(frozen=True, slots=True)
class Returns:
    """The return on retries for a period.

    Attributes:
        since, until: whole hours, the last one excluded; the hour that is under way may be the last.
        of: by workflow, and then by attempt number; attempt 0 is what recovered without a clone of ours.
        names: workflow → its name.
    """

    since: datetime
    until: datetime
    of: Mapping[str, Mapping[int, Return]]
    names: Mapping[str, str]


class ReturnReports:
    """Reads the returns of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self, since: datetime, until: datetime) -> Returns:
        """Return what became known in the hours from that of `since` to that of `until`, both included.

        Nothing is known that is older than `KEEP_RETURNS_MS`.
        """
        last = hour_of(until)
        hours = range(max(hour_of(since), last - KEEP_RETURNS_MS // (HOUR // MS)), last + 1)
        keys, connection = self._ledger.keys, self._ledger.connection
        found: defaultdict[str, defaultdict[int, Return]] = defaultdict(lambda: defaultdict(Return))
        parts = [hours[start : start + AT_ONCE] for start in range(0, len(hours), AT_ONCE)]
        calls = [Call(script("sum_returns"), [keys.returns(hour) for hour in part]) for part in parts]
        for answer in await run_all(connection, calls):
            if isinstance(answer, Exception):
                raise answer
            for name, count in zip(answer[1::2], answer[2::2], strict=True):
                _count(found, name, count)
        names = as_mapping(await connection.command("HGETALL", keys.names))
        return Returns(_begin_of(hours.start), _begin_of(hours.stop), found, names)


def _count(found: defaultdict[str, defaultdict[int, Return]], name: str, number: int) -> None:
    """Take in one counter; one that this version does not know is passed over."""
    try:
        counted = Returned.parse(name)
        into = found[counted.workflow][counted.attempt]
        if counted.what in ("made", "recovered", "failed", "lost"):
            setattr(into, counted.what, getattr(into, counted.what) + number)
        elif counted.what.startswith("t"):
            into.took[int(counted.what[1:])] += number
    except ValueError:
        return


def _begin_of(hour: int) -> datetime:
    return from_ms(hour * (HOUR // MS))
