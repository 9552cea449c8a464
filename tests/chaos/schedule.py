"""What goes wrong and when: drawn from a seed before anything starts, so that a run can be asked for again.

Pure. The kinds are cards of a deck that is dealt to its end before it is shuffled anew: a short run meets
most kinds, a long one meets all of them again and again in other company.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

SECOND_CARD = 0.5
THIRD_CARD = 0.2
LATEST_START_S = 1.0
LONGEST_CALM_S = 1.0


class Family(StrEnum):
    """What a fault happens to. A step has at most one fault of each, so that none undoes another."""

    WORKERS = "workers"
    BEATS = "beats"
    REDIS = "redis"
    API = "api"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault.

    Attributes:
        cards: how many of it are in the deck.
        shortest_s, longest_s: from its begin to its end.
        alone: whether what is asserted of it holds only while nothing else is broken.
    """

    name: str
    family: Family
    cards: int
    shortest_s: float
    longest_s: float
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault of a step; `dice` decides what is left to chance inside it (which worker, which status)."""

    kind: Kind
    begins_s: float
    ends_s: float
    dice: int


@dataclass(frozen=True, slots=True)
class Step:
    """Faults that overlap, after a calm. What comes next begins when work goes on again."""

    calm_s: float
    faults: tuple[Planned, ...]

    @property
    def lasts_s(self) -> float:
        """From the calm's end to the last fault's."""
        return max(each.ends_s for each in self.faults)


def steps(seed: int, kinds: Sequence[Kind]) -> Iterator[Step]:
    """Yield steps without end; the same seed and kinds yield the same steps."""
    rng = random.Random(seed)
    deck: list[Kind] = []
    while True:
        if not deck:
            deck = [kind for kind in kinds for _ in range(kind.cards)]
            rng.shuffle(deck)
        drawn = [deck.pop()]
        for chance in (SECOND_CARD, THIRD_CARD):
            if rng.random() < chance:
                drawn += _companion(deck, drawn)
        yield Step(rng.uniform(0, LONGEST_CALM_S), tuple(_planned(kind, rng) for kind in drawn))


def _companion(deck: list[Kind], drawn: list[Kind]) -> list[Kind]:
    """Take the next card that can happen together with those drawn."""
    if drawn[0].alone:
        return []
    taken = {kind.family for kind in drawn}
    for kind in reversed(deck):
        if kind.family not in taken and not kind.alone:
            deck.remove(kind)
            return [kind]
    return []


def _planned(kind: Kind, rng: random.Random) -> Planned:
    begins_s = rng.uniform(0, LATEST_START_S)
    ends_s = begins_s + rng.uniform(kind.shortest_s, kind.longest_s)
    return Planned(kind, begins_s, ends_s, rng.getrandbits(32))
