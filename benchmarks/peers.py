"""How others retry a failed run, as their documentation and sources have it. None looks at other runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from worker.replay.play import Stage
from worker.replay.world import Case, Original, Outcome

Delay = Callable[[int, datetime, datetime, random.Random], timedelta | None]
"""From the attempt's number, now and the first failure to the delay before it; None for no attempt."""


class FixedPolicy:
    """Retries by a rule that looks at nothing but the count and the clock."""

    def __init__(self, name: str, delay: Delay, seed: int) -> None:
        self.name = name
        self._delay = delay
        self._dice = random.Random(f"{seed} {name}")
        self._stage: Stage

    def begin(self, stage: Stage) -> None:
        """Take the stage."""
        self._stage = stage

    def completed(self, original: Original) -> None:
        """Not looked at."""

    def recovered(self, case: Case) -> None:
        """Not looked at."""

    def failed(self, case: Case, outcome: Outcome) -> None:  # noqa: ARG002  # Strategy's signature
        """Plan the next attempt."""
        now = self._stage.clock.now
        delay = self._delay(len(case.attempts) + 1, now, case.failed_at, self._dice)
        if delay is None:
            case.ended = "given_up"
        else:
            self._stage.clock.at(now + delay, lambda: self._stage.start(case))


def dagster(attempt: int, _now: datetime, _failed_at: datetime, _dice: random.Random) -> timedelta | None:
    """Dagster's run retries: at once, `max_retries` 3."""
    return timedelta(0) if attempt <= 3 else None


def temporal(attempt: int, now: datetime, failed_at: datetime, _dice: random.Random) -> timedelta | None:
    """Temporal's default (1 s, doubled, at most 100 s), with a schedule-to-close timeout of an hour."""
    delay = timedelta(seconds=min(100, 2 ** min(attempt - 1, 10)))
    return delay if now + delay - failed_at <= timedelta(hours=1) else None


def sidekiq(attempt: int, _now: datetime, _failed_at: datetime, dice: random.Random) -> timedelta | None:
    """Sidekiq: count**4 + 15 s and up to 10 s for each retry so far; here with 10 attempts.

    Counted from 1. Sidekiq itself counts from 0: the same curve, of which ten attempts end after 4 h 15 min
    instead of 7 h, so that it recovers less of what is broken for longer.
    """
    count = attempt
    return timedelta(seconds=count**4 + 15 + dice.randrange(10) * (count + 1)) if attempt <= 10 else None


def n8n(attempt: int, now: datetime, _failed_at: datetime, _dice: random.Random) -> timedelta | None:
    """n8n's community template: every hour it retries what has failed, five times at most."""
    at = now.astimezone(UTC)
    next_hour = at.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return next_hour - now if attempt <= 5 else None


def zapier(attempt: int, _now: datetime, _failed_at: datetime, _dice: random.Random) -> timedelta | None:
    """Zapier's autoreplay: 5 min, 30 min, 1 h, 3 h, 6 h."""
    waits = (5, 30, 60, 180, 360)
    return timedelta(minutes=waits[attempt - 1]) if attempt <= len(waits) else None


PEERS: dict[str, Delay] = {
    "Dagster (at once, 3)": dagster,
    "Temporal's default, one hour": temporal,
    "Sidekiq's curve, 10 attempts": sidekiq,
    "n8n's hourly template": n8n,
    "Zapier's schedule": zapier,
}
