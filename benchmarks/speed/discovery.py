"""Reading a list of 100,000 failures that are all known: a whole sweep, against merely fetching its pages.

Both read the same pages by the same client in the same process, one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import structlog

from benchmarks.speed.figures import Figure
from benchmarks.speed.list_server import PAGE, VERSION, WORKFLOW, list_server, uuid_of
from tests.support.redis_server import redis_server
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage
from worker.domain.policy import Policy, PolicyBook, RetryAt
from worker.domain.transitions import discover as discovered
from worker.engine import discover
from worker.engine.context import Context, Options
from worker.kinetic import Endpoint, KineticClient, ListContract
from worker.ledger import Connection, Ledger, Outcome, records

KNOWN = 100_000
CLONE_EVERY = 4
"""One in so many is a failed clone of the execution before it in the list; the others are roots."""
AT_ONCE = 5000
ALWAYS_A_SWEEP = Options(discovery_interval=timedelta(0), discovery_sweep=timedelta(0))


class Spent(NamedTuple):
    """What a walk through the list took."""

    wall_s: float
    cpu_s: float
    pages: int = 0


class CountedConnection(Connection):
    """A connection that counts its round trips."""

    round_trips = 0

    async def pipelined(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        self.round_trips += 1
        return await super().pipelined(commands)

    async def command(self, *command: Any) -> Any:
        self.round_trips += 1
        return await super().command(*command)


def measure(runs: int) -> Iterator[Figure]:
    """Yield what a sweep costs beyond its pages, in time, in round trips and in writes."""
    with list_server(KNOWN) as api_url, redis_server() as server:
        redis_url = f"redis://127.0.0.1:{server.port}/0"
        yield from asyncio.run(_measure(api_url, redis_url, runs))


async def _measure(api_url: str, redis_url: str, runs: int) -> list[Figure]:
    async with _world(api_url, redis_url) as (ctx, connection, client):
        await _fill(ctx.ledger)
        await _sweep(ctx)  # connects, and warms up all sides
        fetched = await _timed(_fetch(client))
        ratios, trips, writes = list[float](), list[float](), list[float]()
        pages = written = 0
        swept = Spent(0, 0)
        for _ in range(runs):
            # Held against what came before and after it: a machine that others use is not steady.
            before = fetched
            trips_before, written_before = connection.round_trips, await _writes(connection)
            swept = await _timed(_sweep(ctx))
            trips_after, written = connection.round_trips, await _writes(connection) - written_before
            fetched = await _timed(_fetch(client))
            pages = swept.pages
            ratios.append(2 * swept.wall_s / (before.wall_s + fetched.wall_s))
            trips.append((trips_after - trips_before) / pages)
            # The turn is begun, kept up by time and given back: that goes by seconds and not by pages.
            writes.append(written // pages)
        return [
            Figure(
                f"sweep over {KNOWN:,} known failures, against fetching and parsing its pages",
                tuple(ratios),
                at_most=1.25,
                detail=f"{swept.wall_s:.2f} s against {fetched.wall_s:.2f} s for {pages} pages; "
                f"of CPU {swept.cpu_s:.2f} s against {fetched.cpu_s:.2f} s",
            ),
            Figure("its round trips to Redis per page", tuple(trips), at_most=2),
            Figure(
                "its writes per page",
                tuple(writes),
                at_most=0,
                detail=f"{written} in all: the turn, begun, kept up by time and given back",
                digits=0,
            ),
        ]


@asynccontextmanager
async def _world(
    api_url: str, redis_url: str
) -> AsyncIterator[tuple[Context, CountedConnection, KineticClient]]:
    connection = CountedConnection(redis_url)
    ledger = Ledger(connection, "bench", events_maxlen=1000)
    client = KineticClient(
        Endpoint(api_url, "bench", timedelta(seconds=30), timedelta(seconds=5), max_connections=10),
        ListContract(page_size=PAGE),
        now=ledger.clock.now,
    )
    try:
        await ledger.begin(timedelta(days=1))  # all of them failed after the first start
        quiet = structlog.wrap_logger(
            None, wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
        )
        policies = PolicyBook(Policy())
        yield (
            Context(ledger, client, policies, ALWAYS_A_SWEEP, random=lambda: 0.5, log=quiet),
            connection,
            client,
        )
    finally:
        await client.aclose()
        await ledger.aclose()


async def _timed(work: Awaitable[int]) -> Spent:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    pages = await work
    return Spent(time.perf_counter() - began_s, time.process_time() - began_cpu_s, pages)


async def _fetch(client: KineticClient) -> int:
    """Fetch and parse every page; return how many there were."""
    pages = executions = 0
    async for page in client.pages(status=Status.FAILED):
        pages += 1
        executions += len(page.executions)
    assert executions == KNOWN
    return pages


async def _sweep(ctx: Context) -> int:
    """Read the list as the worker does, all of it and without any news; return how many pages it has."""
    counts = await discover(ctx)
    assert counts is not None
    assert (counts["discovered"], counts["joined"], counts["left_alone"]) == (0, 0, 0), counts
    assert counts["pages"] == KNOWN // PAGE + 1  # the last one is empty
    return counts["pages"]


async def _fill(ledger: Ledger) -> None:
    """Let the ledger own every execution of the list.

    The first is stored by the worker's own commit; the records of the others are copies of what that wrote.
    """
    lineage = await _committed(ledger)
    connection, keys = ledger.connection, ledger.keys
    written = await connection.command("GET", keys.lineage(lineage.root))
    assert records.load(lineage.root, written) == lineage
    root, commands = lineage.root, list[tuple[str, ...]]()
    for number in range(1, KNOWN):
        if number % CLONE_EVERY == 0:
            commands.append(("HSET", keys.clones, uuid_of(number), root))
        else:
            root = uuid_of(number)
            commands.append(("SET", keys.lineage(root), records.dump(replace(lineage, root=root), "bench")))
        if len(commands) == AT_ONCE or number == KNOWN - 1:
            await connection.pipelined(commands)
            commands.clear()
    some = [uuid_of(number) for number in range(2 * CLONE_EVERY)]
    owners = await ledger.owners([*some, "unknown"])
    assert owners == {
        uuid: some[n - 1] if n and n % CLONE_EVERY == 0 else uuid for n, uuid in enumerate(some)
    }


async def _committed(ledger: Ledger) -> Lineage:
    now = ledger.clock.now()
    failed = Execution(
        uuid=uuid_of(0),
        workflow_version_uuid=VERSION,
        status=Status.FAILED,
        fingerprint="0123456789abcdef012345",
        workflow_uuid=WORKFLOW,
        workflow_name="Prior authorisation, Northwind Health",
    )
    change = discovered(
        failed,
        failed_at=now,
        seen_at=now,
        source="list",
        dated=True,
        decision=RetryAt(1, now + timedelta(hours=1), timedelta(hours=1)),
        policy=Policy(),
        policy_name="default",
    )
    assert await ledger.commit(change) is Outcome.COMMITTED
    written = (await ledger.read([failed.uuid]))[failed.uuid]
    assert isinstance(written, Lineage)
    return written


async def _writes(connection: CountedConnection) -> int:
    """Return how many commands that write the server has run, those of scripts included."""
    before = connection.round_trips
    stats: dict[str, dict[str, Any]] = await connection.command("INFO", "commandstats")
    writing = await connection.command("COMMAND LIST", "FILTERBY", "ACLCAT", "write")
    connection.round_trips = before
    names = {f"cmdstat_{name}" for name in writing}
    return sum(int(each["calls"]) for name, each in stats.items() if name.partition("|")[0] in names)
