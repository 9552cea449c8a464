"""The benchmarks' loader: a copied lineage is the same in every key as one that lived."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta

from benchmarks.speed.lives import MOST_ATTEMPTS, Life, live
from benchmarks.speed.many import Names, multiply, traces_of
from tests.integration.test_groups import assert_grouped, lineages
from worker.domain.lineage import State
from worker.ledger import Ledger

NEEDS_A_CLONE = (State.RUNNING, State.RECOVERED, State.EXHAUSTED)
LIVES = [
    Life(state, attempts)
    for state in State
    for attempts in range(MOST_ATTEMPTS + 1)
    if attempts or state not in NEEDS_A_CLONE
]


async def test_copies_are_like_lineages_that_lived(ledger: Ledger, redis_url: str) -> None:
    """Whatever names one of them, anywhere in the ledger: but for the names it is there as often for each."""
    await ledger.begin(timedelta(days=2))
    dice = random.Random(7)
    lived = await live(ledger, LIVES, dice)
    assert [(each.state, each.made) for each in lived] == [(life.end, life.attempts) for life in LIVES]
    await multiply(ledger, redis_url, lived, 2 * len(lived), dice)
    found = await lineages(ledger)
    assert len(found) == 3 * len(lived)
    traces = await traces_of(ledger, found)
    alike = Counter(traces[each.root].renamed(Names.of(each)) for each in found)
    assert set(alike.values()) == {3}
    assert all(len(traces[each.root].places) >= 2 + each.made for each in found)
    await assert_grouped(ledger)
    owners = await ledger.owners([uuid for each in found for uuid in each.members])
    assert owners == {uuid: each.root for each in found for uuid in each.members}
