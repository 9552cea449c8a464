"""What the tests of breakers, budgets and climates share: runs at made-up times, and strategies for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from worker.domain.breaker import Rule
from worker.domain.health import Ended, Run

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def runs_of(letters: str, *, ending: datetime = NOON, apart: timedelta = MINUTE) -> tuple[Run, ...]:
    """Return runs that ended one after the other, the last of them at `ending`; letters as in `Ended`."""
    first = ending - apart * (len(letters) - 1)
    return tuple(Run(first + apart * number, Ended(letter)) for number, letter in enumerate(letters))


def runs(before: datetime, within: timedelta = 3 * HOUR, most: int = 40) -> st.SearchStrategy[Sequence[Run]]:
    """Runs that ended at most so long before a moment, in any order, some at the same time."""
    seconds = st.integers(1, int(within / SECOND))
    ended = st.builds(lambda ago, how: Run(before - ago * SECOND, how), seconds, st.sampled_from(Ended))
    return st.lists(ended, max_size=most)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Rules that a person may set."""
    first, longest = sorted((draw(st.integers(1, 86_400)), draw(st.integers(1, 86_400))))
    return Rule(
        failures=draw(st.integers(1, 10)),
        memory=draw(st.integers(1, 86_400)) * SECOND,
        first_pause=first * SECOND,
        longest_pause=longest * SECOND,
        full_after=draw(st.integers(1, 20)),
    )
