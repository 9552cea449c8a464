"""From which attempt on retries of a workflow are not worth their clones, by what they came to.

Pure. Knows nothing of where the counts come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

WORTH = 0.05
"""An attempt of which fewer than this share recovers wastes twenty clones for one recovery."""
_Z = 1.645
"""Of the normal distribution: one-sided, 95 %."""
RULE = (
    "a maximum is suggested where the attempts after it recovered fewer than 1 in 20: each number of them by "
    "what was counted, all of them together with 95% confidence (none of 52 is enough to say so, or 1 of 87)"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the clones of one attempt number: those that ended, and those of them that recovered."""

    ended: int
    recovered: int


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A maximum of attempts, and what the attempts after it came to.

    Attributes:
        maximum: 0 = retries of it recover nothing worth mentioning.
    """

    maximum: int
    ended_after: int
    recovered_after: int


def suggest(attempts: Mapping[int, Counts]) -> Suggestion | None:
    """Return a lower maximum where the last attempts were not worth it; None where there is no such evidence.

    Attempts are left out from the last one down, as long as each recovered too few by itself: one that pays
    is never hidden behind many that do not.

    >>> suggest({1: Counts(100, 60), 2: Counts(40, 10), 3: Counts(30, 0), 4: Counts(30, 1)})
    >>> suggest({1: Counts(100, 60), 2: Counts(40, 10), 3: Counts(60, 0), 4: Counts(60, 1)})
    Suggestion(maximum=2, ended_after=120, recovered_after=1)
    """
    found = None
    ended = recovered = 0
    for number in sorted((each for each in attempts if each > 0), reverse=True):
        counts = attempts[number]
        if counts.recovered >= WORTH * max(1, counts.ended):
            break
        ended, recovered = ended + counts.ended, recovered + counts.recovered
        if ended and at_most(recovered, ended) < WORTH:
            found = Suggestion(number - 1, ended, recovered)
    return found


def at_most(successes: int, tries: int) -> float:
    """Return how large the true share is at most, with 95% confidence (the upper end of Wilson's interval).

    >>> [round(at_most(*counts), 3) for counts in ((0, 10), (0, 52), (1, 87), (5, 10))]
    [0.213, 0.049, 0.05, 0.731]
    """
    share = successes / tries
    spread = _Z * math.sqrt(share * (1 - share) / tries + _Z**2 / (4 * tries**2))
    return (share + _Z**2 / (2 * tries) + spread) / (1 + _Z**2 / tries)
