"""The schedule is the seed's and nobody else's, and a deck leaves nothing out."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.chaos.faults import FAULTS, KINDS
from tests.chaos.schedule import Step, steps

SEEDS = [0, 1, 2, 12345]


def dealt(seed: int, count: int = 60) -> list[Step]:
    return list(islice(steps(seed, KINDS), count))


def test_the_same_seed_draws_the_same_faults() -> None:
    """Kinds, moments and dice: a red run can be asked for again."""
    assert dealt(7) == dealt(7)
    assert dealt(7) != dealt(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_deck_holds_every_kind(seed: int) -> None:
    """No kind waits for its luck: the first deck brings all of them."""
    cards = sum(kind.cards for kind in KINDS)
    first = [planned.kind.name for step in dealt(seed) for planned in step.faults][:cards]
    assert set(first) == set(FAULTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_that_would_undo_each_other_do_not_meet(seed: int) -> None:
    """One of each family in a step; a fault that must be alone is."""
    for step in dealt(seed):
        families = [planned.kind.family for planned in step.faults]
        assert len(families) == len(set(families))
        assert len(families) == 1 or not any(planned.kind.alone for planned in step.faults)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_fault_ends_and_within_its_kinds_bounds(seed: int) -> None:
    """A run has to come to an end."""
    for step in dealt(seed):
        for planned in step.faults:
            assert planned.begins_s >= 0
            lasts_s = planned.ends_s - planned.begins_s
            assert planned.kind.shortest_s - 1e-9 <= lasts_s <= planned.kind.longest_s + 1e-9
        assert step.lasts_s < 15
