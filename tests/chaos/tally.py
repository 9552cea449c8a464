"""What became of the calls whose outcome nobody knew: counted from the ledger's stream of events. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Told = tuple[str, str, Mapping[str, Any]]
"""Root, name and facts of an event."""

LATE = "the answer came late (201)"
FOUND = "the clone was found in the list"
NONE = "no clone was made"
HELD = "held for a person"
OPEN = "still open"
ENDS = (LATE, FOUND, NONE, HELD, OPEN)


def ambiguous_calls(events: Iterable[Told]) -> tuple[Counter[str], Counter[str]]:
    """Return how calls became unclear (by reason), and how each was resolved (by one of `ENDS`).

    >>> unclear = ("root", "retry_unresolved", {"reason": "http_500"})
    >>> ambiguous_calls([unclear, ("root", "retry_accepted", {"evidence": "201"})])
    (Counter({'http_500': 1}), Counter({'the answer came late (201)': 1}))
    """
    reasons: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    open_calls: set[str] = set()
    for root, name, facts in events:
        if name == "retry_unresolved":
            if root not in open_calls:
                reasons[str(facts.get("reason", ""))] += 1
            open_calls.add(root)
        elif root in open_calls and (end := _end(name, facts)):
            ends[end] += 1
            open_calls.discard(root)
    ends[OPEN] += len(open_calls)
    return reasons, +ends


def _end(name: str, facts: Mapping[str, Any]) -> str | None:
    match name:
        case "retry_accepted":
            return LATE if facts.get("evidence") == "201" else FOUND
        case "retry_not_delivered":
            return NONE
        case "retry_held":
            return HELD
        case _:
            return None
