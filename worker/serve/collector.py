"""Takes the snapshots that metrics and readiness are made of: one at a time, and bounded in time.

A slow Redis must not pile up scrapes: whoever asks while one is under way gets its result. A server that does
not answer is said once when that begins and once when it is over, not at every scrape.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from worker.episodes import Episode
from worker.ledger import Ledger, LedgerError, LedgerFormatError, LedgerUnavailable
from worker.ledger.metrics import Metrics, Snapshot

ANSWER_WITHIN_S = 4.0
"""Less than the shortest usual scrape timeout leaves, so that a scrape without Redis is still a scrape."""
FRESH_FOR_S = 1.0
JOB = "serve"
_SILENT = "Redis did not answer in time"


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking the ledger.

    Attributes:
        snapshot: None when there is none.
        answered: whether Redis answered.
        trouble: what is wrong, in words for people; "" when nothing is.
        took_s, at_s: how long it took, and when it was over by this process's uptime.
    """

    snapshot: Snapshot | None
    answered: bool
    trouble: str
    took_s: float
    at_s: float

    @property
    def is_readable(self) -> bool:
        """Whether the ledger answered and this version understands all of it."""
        return self.snapshot is not None and self.snapshot.is_readable


class Collector:
    """Asks one ledger, on the event loop that the ledger belongs to."""

    def __init__(self, ledger: Ledger, log: Any, *, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._metrics = Metrics(ledger)
        self._namespace = ledger.keys.namespace
        self._log = log
        self._answer_within_s = answer_within_s
        self._asking = asyncio.Lock()
        self._last: Taken | None = None
        self._away, self._refused, self._too_new = Episode(), Episode(), Episode()

    async def look(self, fresh_for_s: float = FRESH_FOR_S) -> Taken:
        """Return what the ledger said no longer than `fresh_for_s` ago; ask it where that is too long ago."""
        async with self._asking:  # who comes second finds what the first was told
            if self._last is None or time.monotonic() - self._last.at_s > fresh_for_s:
                self._last = await self._ask()
            return self._last

    async def _ask(self) -> Taken:
        begun_s = time.monotonic()
        snapshot, answered, trouble = None, True, ""
        try:
            async with asyncio.timeout(self._answer_within_s):
                snapshot = await self._metrics.read()
        except (LedgerUnavailable, TimeoutError) as error:
            answered, trouble = False, str(error) or _SILENT
            if self._away.met():
                self._log.error("ledger_unavailable", job=JOB, detail=trouble, next="trying again when asked")
        except LedgerFormatError as error:
            trouble = str(error)
            self._say_too_new(trouble)
        except LedgerError as error:
            answered, trouble = False, str(error)
            if self._refused.met():
                self._log.error("ledger_refused", job=JOB, detail=trouble, next="trying again when asked")
        if snapshot and not snapshot.is_readable:
            trouble = f"the ledger {self._namespace} has format {snapshot.format}: start the newer version"
            self._say_too_new(trouble)
        elif snapshot:
            self._say_well()
        now_s = time.monotonic()
        return Taken(snapshot, answered, trouble, now_s - begun_s, now_s)

    def _say_well(self) -> None:
        for trouble in (self._away, self._refused, self._too_new):
            if trouble.well():
                self._log.info("ledger_back", job=JOB)

    def _say_too_new(self, trouble: str) -> None:
        if self._too_new.met():
            self._log.error("ledger_too_new", job=JOB, detail=trouble, next="metrics may be incomplete")
