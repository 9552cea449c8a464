"""When the API counts as down, and how it is met again. Pure; the counting is atomic in the ledger.

A single failure says nothing: executions fail in their own ways. Several failures of all workers together
with hardly an answer between them say that calling on makes it worse, for the platform and for us.
"""

from __future__ import annotations

from datetime import timedelta

from worker.domain.delivery import Delivery, NotDelivered, Unclear

MEMORY = timedelta(seconds=10)
"""What was heard of calls longer ago than this says nothing about the next one."""
FIRST_PROBE_IN = timedelta(seconds=1)
LONGEST_PROBE_PAUSE = timedelta(seconds=15)
"""Between two probes of an API that is down: work goes on within this much of its return, and an outage of
ten minutes costs some forty requests."""
SLOW_START_AFTER = timedelta(seconds=10)
"""A process that has heard no answer for this long sends one call before it sends many."""
_OUR_OWN_TROUBLE = frozenset({"pool_timeout", "too_late", "lease_too_short", "not_durable"})
SERVICE_UNAVAILABLE = 503
ABSENT = "api_absent"
"""The reason of a 404 that was answered to everything that was asked."""


def speaks_of_outage(delivery: Delivery) -> bool:
    """Whether the end of a retry call is one that an API which is down would give.

    >>> speaks_of_outage(NotDelivered("connect_error")), speaks_of_outage(NotDelivered("pool_timeout"))
    (True, False)
    >>> speaks_of_outage(NotDelivered("rate_limited", http_status=429)), speaks_of_outage(Unclear("http_500"))
    (False, True)
    """
    if isinstance(delivery, NotDelivered):
        if delivery.http_status is None:
            return delivery.reason not in _OUR_OWN_TROUBLE
        return delivery.http_status == SERVICE_UNAVAILABLE or delivery.reason == ABSENT
    return isinstance(delivery, Unclear)


def looks_at_once(opening_for: timedelta | None, most: int) -> int:
    """Return how many looks a process may have under way: doubled each second while the gate opens.

    Args:
        opening_for: since when the gate has been opening; None when it is open.
        most: how many it may have otherwise.

    >>> [looks_at_once(timedelta(seconds=s), 20) for s in (0, 1, 2, 5, 10**6)], looks_at_once(None, 20)
    ([1, 2, 4, 20, 20], 20)
    """
    if opening_for is None:
        return most
    seconds = min(max(int(opening_for.total_seconds()), 0), 30)
    return min(most, 1 << seconds)
