"""What became of one retry call: the delivery classes that the whole design rests on.

The Kinetic API has no idempotency key, so "did the POST happen?" has three answers, not two:
it did (`Accepted`), it certainly did not (`NotDelivered`, `Conflict`, `Refused`), or nobody knows
(`Unclear`). Reading *unclear* as *not delivered* clones twice; the HTTP border decides which
it is, once, and everything inside acts on these values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from worker.domain.executions import Execution


@dataclass(frozen=True, slots=True)
class Accepted:
    """201 with a readable execution: the clone, or the same uuid where a deployment retries in place."""

    clone: Execution


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """Certainly no clone: never sent, or turned away before anything was done. Costs no attempt.

    Attributes:
        reason: short and stable, e.g. `connect_error`, `rate_limited`, `lease_too_short`.
        detail: one readable line, free of secrets and payloads.
        http_status: None when no answer came.
        pause: how long *all* calls should rest (429 or 503); None when only this one failed.
        suspend: 401 or 403: nobody may call until a GET succeeds.
    """

    reason: str
    detail: str = ""
    http_status: int | None = None
    pause: timedelta | None = None
    suspend: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """409: the execution is not in a state to be retried; look at it, then decide again."""

    detail: str = ""
    http_status: int = 409


@dataclass(frozen=True, slots=True)
class Refused:
    """The API will never retry this one (404, 422, another 4xx): final.

    Attributes:
        reason: `not_found`, `validation_error` or `refused`.
        detail: the API's own explanation, bounded and cleaned.
    """

    reason: str
    detail: str
    http_status: int


@dataclass(frozen=True, slots=True)
class Unclear:
    """The request may have been processed: lost connection, read timeout, 500, 502, 504, unreadable 201."""

    reason: str
    detail: str = ""
    http_status: int | None = None


Delivery = Accepted | NotDelivered | Conflict | Refused | Unclear

REDELIVERY_BASE = timedelta(seconds=2)
REDELIVERY_CAP = timedelta(minutes=1)


def redelivery_delay(undelivered: int, random: Callable[[], float]) -> timedelta:
    """Return how long to wait after a call that was not delivered, counted from 0 such calls before it.

    Doubles from 2 s to a minute, half of it left to chance. It is short and apart from the policy's
    backoff: nothing has happened at Kinetic yet and no attempt is spent.

    >>> [redelivery_delay(n, lambda: 1.0).total_seconds() for n in (0, 1, 2, 5, 1000)]
    [2.0, 4.0, 8.0, 60.0, 60.0]
    """
    delay = min(REDELIVERY_CAP, REDELIVERY_BASE * (1 << min(undelivered, 10)))
    return delay / 2 + delay / 2 * random()
