"""What one Redis carries: `python -m benchmarks.redis_capacity`.

Client processes put failures through the ledger with the worker's own scripts as fast as they can, each with
as many at a time as a worker process has calls in the air. A failure that its first retry recovers takes four
commits: it is begun, the intent, the clone, the verdict. The server is an embedded one, on the same cores as
the clients: commits per second are what this machine does; the server's processor time for each says what a
server with a core of its own could do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from statistics import median
from typing import Any

import redis

from benchmarks.speed.figures import Figure, table
from benchmarks.speed.rig import AT_ONCE, NAMESPACE, due
from tests.support.redis_server import redis_server
from worker.domain import transitions
from worker.domain.budget import Caps
from worker.domain.executions import Execution, Status
from worker.domain.lineage import State
from worker.domain.policy import Policy
from worker.ledger import Connection, Ledger, Outcome
from worker.ledger.commits import Admission

FSYNCS: dict[str, dict[str, Any]] = {
    "always": {"appendonly": "yes", "appendfsync": "always"},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "nothing written": {"appendonly": "no"},
}
CLIENTS = (1, 2, 4)
IN_THE_AIR = 20
"""Failures that one process has under way: the default of `SUBMIT_CONCURRENCY`."""
COMMITS_EACH = 4
DAY_S = 86_400
MANY = 10**9
ADMISSION = Admission(
    workflow="bench",
    caps=Caps(in_flight=MANY, all_in_flight=MANY, made=MANY, all_made=MANY, made_lately=MANY, floor=0),
    window=timedelta(hours=1),
    longest_pause=timedelta(hours=1),
)
"""Limits that are all asked for, and never reached."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis_capacity", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each is measured (2)")
    parser.add_argument("--runs", type=int, default=1, help="how often each is measured (1)")
    parser.add_argument("--client", metavar="URL", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.client:
        print(asyncio.run(_carry(wanted.client, wanted.seconds)))
        return
    print(*table(measure(wanted.seconds, wanted.runs)), sep="\n")
    print(f"{wanted.runs} runs of {wanted.seconds:g} s each; server and clients share {os.cpu_count()} cores")


@dataclass(frozen=True, slots=True)
class Carried:
    """What was carried once.

    Attributes:
        rate: commits per second, of all clients together.
        server_ms, client_ms: processor time for each commit, whoever else used the machine meanwhile.
    """

    rate: float
    server_ms: float
    client_ms: float


def measure(seconds: float, runs: int) -> Iterator[Figure]:
    """Yield commits by fsync and number of clients, what they cost, and claims."""
    for fsync, directives in FSYNCS.items():
        carried = {
            clients: [_carried(directives, clients, seconds) for _ in range(runs)] for clients in CLIENTS
        }
        for clients, measured in carried.items():
            rates = tuple(each.rate for each in measured)
            retries = median(rates) / COMMITS_EACH
            yield Figure(
                f"commits, {clients} client{'s' if clients > 1 else ''}, fsync {fsync}",
                rates,
                "/s",
                detail=f"{retries:,.0f} recovered failures/s, {retries * DAY_S / 1e6:,.1f} million a day",
                digits=0,
            )
        everything = [each for measured in carried.values() for each in measured]
        costs_ms = tuple(each.server_ms for each in everything)
        core = 1000 / (median(costs_ms) * COMMITS_EACH)
        yield Figure(
            f"server's processor per commit, fsync {fsync}",
            costs_ms,
            " ms",
            detail=f"a core of its own: {core:,.0f} failures/s, {core * DAY_S / 1e6:,.0f} million a day",
            digits=3,
        )
        client_ms = tuple(each.client_ms for each in everything)
        yield Figure(f"client's processor per commit, fsync {fsync}", client_ms, " ms", digits=3)
    claims = tuple(_claims(seconds) for _ in range(runs))
    yield Figure("claims, 100 at a time", claims, "/s", detail="1 client", digits=0)


def _carried(directives: dict[str, Any], clients: int, seconds: float) -> Carried:
    """Let so many clients put failures through at the same time."""
    with tempfile.TemporaryDirectory() as directory, redis_server(dir=directory, **directives) as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        admin: Any = redis.Redis.from_url(url)
        command = [sys.executable, "-m", "benchmarks.redis_capacity", "--client", url]
        command += ["--seconds", str(seconds)]
        running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(clients)
        ]
        for each in running:
            assert each.stdout
            each.stdout.readline()  # it is connected, and its code is loaded
        before_s = _processor_s(admin)
        for each in running:
            assert each.stdin
            each.stdin.write("\n")
            each.stdin.flush()
        done = [json.loads(each.communicate(timeout=60)[0]) for each in running]
        spent_s = _processor_s(admin) - before_s
    commits = sum(each["commits"] for each in done)
    return Carried(
        rate=sum(each["commits"] / each["seconds"] for each in done),
        server_ms=1000 * spent_s / commits,
        client_ms=1000 * sum(each["processor_s"] for each in done) / commits,
    )


def _processor_s(admin: Any) -> float:
    """Return the processor time that the server has taken, its threads for the disk included."""
    spent = admin.info("cpu")
    return float(spent["used_cpu_sys"] + spent["used_cpu_user"])


async def _carry(url: str, seconds: float) -> str:
    """Be a client: put failures through until the time is up; return what was done, as JSON."""
    ledger = Ledger(Connection(url), NAMESPACE, events_maxlen=100_000)
    try:
        await ledger.begin(timedelta(hours=1))
        await _put_through(ledger)
        print("ready", flush=True)
        sys.stdin.readline()
        began_s, spent_s = time.perf_counter(), time.process_time()
        counts = await asyncio.gather(
            *(_put_through_until(ledger, began_s + seconds) for _ in range(IN_THE_AIR))
        )
        done = {
            "commits": COMMITS_EACH * sum(counts),
            "seconds": time.perf_counter() - began_s,
            "processor_s": time.process_time() - spent_s,
        }
        return json.dumps(done)
    finally:
        await ledger.aclose()


async def _put_through_until(ledger: Ledger, until_s: float) -> int:
    count = 0
    while time.perf_counter() < until_s:
        await _put_through(ledger)
        count += 1
    return count


async def _put_through(ledger: Ledger) -> None:
    """Take one failure from its discovery to its verdict, as worker and API would."""
    now = ledger.clock.now()
    begun = due(ledger, timedelta(0))
    token = secrets.token_hex(8)
    intent = transitions.submit(
        begun.after, token=token, now=now, lease=timedelta(minutes=2), policy=Policy()
    )
    clone = Execution(
        uuid=secrets.token_hex(16),
        status=Status.QUEUED,
        workflow_version_uuid=begun.after.workflow_version_uuid,
        created_at=now,
    )
    taken = transitions.accept(intent.after, clone, now=now, evidence="201")
    end = transitions.recover(taken.after, now=now, ended_at=now)
    outcomes = [
        await ledger.commit(begun),
        await ledger.commit(intent, admission=replace(ADMISSION, workflow=begun.after.workflow)),
        await ledger.commit(taken, next_at=now),
        await ledger.commit(end),
    ]
    assert set(outcomes) == {Outcome.COMMITTED}, outcomes


def _claims(seconds: float) -> float:
    """Return how many due lineages one client claims per second."""
    with redis_server() as server:
        return asyncio.run(_claim(f"redis://127.0.0.1:{server.port}/0", seconds))


async def _claim(url: str, seconds: float) -> float:
    ledger = Ledger(Connection(url), NAMESPACE, events_maxlen=100_000)
    try:
        await ledger.begin(timedelta(hours=1))
        await asyncio.gather(*(ledger.commit(due(ledger, timedelta(0))) for _ in range(4 * AT_ONCE)))
        count, began_s = 0, time.perf_counter()
        while (spent_s := time.perf_counter() - began_s) < seconds:
            claim = await ledger.claim(State.SCHEDULED, limit=100, hide_for=timedelta(0))
            count += len(claim.members)
        return count / spent_s
    finally:
        await ledger.aclose()


if __name__ == "__main__":
    main()
