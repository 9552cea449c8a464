"""Counts of calls to the API, by how they ended and how long they took: of all workers, ever.

Owns how they are written and read. Who makes calls counts them in its own process (`Counts`) and adds them
now and then; what a process had not added when it was killed is not counted. They are figures for people:
nothing is decided by them.
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from worker.ledger.ledger import Ledger
from worker.ledger.scripts import Call, run, script

BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram; behind the last one is what took longer, which timeouts do by default."""
_ENDED, _WITHIN, _SPENT = "ended", "within", "spent_ms"
_SEPARATOR = "\n"


class Counts:
    """What one process counted and has not added to the ledger yet."""

    def __init__(self) -> None:
        self._fresh: Counter[str] = Counter()
        self._sent: tuple[str, Counter[str]] | None = None  # until the ledger confirms it: it may be there

    @property
    def counted(self) -> dict[str, int]:
        """What was counted since it was added last, as the ledger's hash has it."""
        return dict(self._fresh)

    def __bool__(self) -> bool:
        """Whether there is anything to add."""
        return bool(self._fresh or self._sent)

    def note(self, method: str, outcome: str, took_s: float) -> None:
        """Count a call that has ended."""
        bound = next((bound for bound in BOUNDS_S if took_s <= bound), float("inf"))
        self._fresh[_SEPARATOR.join((_ENDED, method, outcome))] += 1
        self._fresh[_SEPARATOR.join((_WITHIN, method, str(bound)))] += 1
        self._fresh[_SEPARATOR.join((_SPENT, method))] += round(took_s * 1000)

    async def add_to(self, ledger: Ledger) -> None:
        """Add what was counted; a report whose answer was lost is sent again as it was.

        Raises:
            LedgerError: it is not known to be added; the next time it is tried again.
        """
        while self:
            if self._sent is None:
                self._sent, self._fresh = (secrets.token_hex(6), self._fresh), Counter()
            token, counted = self._sent
            pairs = [item for pair in counted.items() for item in pair]
            await run(ledger.connection, Call(script("count_calls"), _keys(ledger), [token, *pairs]))
            self._sent = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long calls took.

    Attributes:
        within: upper bound in seconds (the last is infinite) → calls that took no longer, and longer than the
            bound before.
        spent_s: all of them together.
    """

    within: Mapping[float, int]
    spent_s: float


@dataclass(frozen=True, slots=True)
class CallReport:
    """What is known of calls to the API.

    Attributes:
        ended: method and outcome → how many calls.
        took: method → how long they took.
    """

    ended: Mapping[tuple[str, str], int] = field(default_factory=dict)
    took: Mapping[str, Histogram] = field(default_factory=dict)


def read_calls(stored: Mapping[str, str]) -> CallReport:
    """Return the report from the ledger's hash; fields of another version are passed over."""
    ended: dict[tuple[str, str], int] = {}
    within: defaultdict[str, dict[float, int]] = defaultdict(
        lambda: dict.fromkeys((*BOUNDS_S, float("inf")), 0)
    )
    spent_ms: dict[str, int] = {}
    for name, count in stored.items():
        match name.split(_SEPARATOR):
            case [kind, method, outcome] if kind == _ENDED:
                ended[method, outcome] = int(count)
            case [kind, method, bound] if kind == _WITHIN and float(bound) in within[method]:
                within[method][float(bound)] = int(count)
            case [kind, method] if kind == _SPENT:
                spent_ms[method] = int(count)
    took = {method: Histogram(counts, spent_ms.get(method, 0) / 1000) for method, counts in within.items()}
    return CallReport(ended, took)


def _keys(ledger: Ledger) -> list[str]:
    return [ledger.keys.calls, ledger.keys.call_reports]
