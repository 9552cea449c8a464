"""What a lineage with two attempts and a verdict takes in Redis, everything that is kept of it included."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from benchmarks.speed.figures import Figure
from benchmarks.speed.lives import Life, live
from benchmarks.speed.many import multiply
from tests.support.redis_server import redis_server
from worker.domain.lineage import State
from worker.ledger import Connection, Ledger

LINEAGES = 100_000
EVENTS = 100_000
LIVED = 12_000
"""By commits of their own: their events fill the stream. The others are copies of some of them."""
AT_MOST = 1200
TWO_ATTEMPTS = Life(State.RECOVERED, 2)


def measure(_runs: int) -> Iterator[Figure]:
    """Yield bytes for each lineage. Measured once: bytes do not differ from run to run."""
    everything, kinds = asyncio.run(_measure())
    parts = ", ".join(f"{kind} {size:.0f}" for kind, size in kinds.most_common() if size >= 1)
    yield Figure(
        "of Redis for a recovered lineage with two attempts",
        (everything,),
        " bytes",
        at_most=AT_MOST,
        detail=f"{LINEAGES:,} lineages: {parts}",
        digits=0,
    )


async def _measure() -> tuple[float, Counter[str]]:
    with redis_server() as server:
        url, dice = f"redis://127.0.0.1:{server.port}/0", random.Random(7)
        ledger = Ledger(Connection(url), "kinetic-retry", events_maxlen=EVENTS)
        try:
            await ledger.begin(timedelta(days=2))
            empty = await _used(ledger)
            lived = await live(ledger, [TWO_ATTEMPTS] * LIVED, dice)
            await multiply(ledger, url, lived, LINEAGES - LIVED, dice)
            taken = (await _used(ledger) - empty) / LINEAGES
            kinds = await _kinds(ledger)
            return taken, Counter({kind: size / LINEAGES for kind, size in kinds.items()})
        finally:
            await ledger.aclose()


async def _used(ledger: Ledger) -> int:
    return int((await ledger.connection.command("INFO", "memory"))["used_memory"])


async def _kinds(ledger: Ledger) -> Counter[str]:
    """Return bytes by kind of key: by its name up to the first colon."""
    sizes: Counter[str] = Counter()
    keys = await ledger.connection.command("KEYS", "*")
    for start in range(0, len(keys), 10_000):
        some = keys[start : start + 10_000]
        answers = await ledger.connection.pipelined([("MEMORY", "USAGE", key, "SAMPLES", 0) for key in some])
        for key, size in zip(some, answers, strict=True):
            sizes[key.partition("}:")[2].partition(":")[0]] += size
    return sizes
