"""What was asked of the simulated API: counts by operation and outcome, and how many at a time."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from simulator.faults import Operation

CALLS_KEPT = 100_000


@dataclass(slots=True)
class Call:
    """One request: when it came (aware UTC), what it was about, and how it ended (None: not yet).

    `outcome` is the status code as text, or `closed`, `reset`, `hung` where no answer was given.
    """

    at: datetime
    operation: Operation
    execution_uuid: str
    outcome: str | None = None


class Traffic:
    """Counts the API's requests. Knows nothing of what they did."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=CALLS_KEPT)
        self._outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._in_flight: Counter[str] = Counter()
        self._most: Counter[str] = Counter()

    def begin(self, operation: Operation, execution_uuid: str) -> Call:
        """Note that a request came in."""
        call = Call(datetime.now(UTC), operation, execution_uuid)
        self._calls.append(call)
        for name in ("*", operation.value):
            self._in_flight[name] += 1
            self._most[name] = max(self._most[name], self._in_flight[name])
        return call

    def end(self, call: Call, outcome: str) -> None:
        """Note how it ended."""
        call.outcome = outcome
        self._outcomes[call.operation.value][outcome] += 1
        for name in ("*", call.operation.value):
            self._in_flight[name] -= 1

    def summary(self) -> dict[str, Any]:
        """Return `requests` (operation, outcome: count) and `most_concurrent` (operation or `*`: count)."""
        return {
            "requests": {operation: dict(counts) for operation, counts in sorted(self._outcomes.items())},
            "most_concurrent": dict(self._most),
        }

    def calls(self) -> list[dict[str, Any]]:
        """Return the newest requests, oldest first."""
        return [
            {
                "at": call.at.isoformat(),
                "operation": call.operation.value,
                "execution_uuid": call.execution_uuid,
                "outcome": call.outcome,
            }
            for call in self._calls
        ]
