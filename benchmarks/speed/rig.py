"""Real processes for a measurement: an embedded Redis, worker and beat as the Procfile starts them.

All of them share the machine: what is measured is the worker, so everything else is as cheap as can be.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.speed.api import VERSION, WORKFLOW
from tests.support.daemons import ALONE, Daemons, daemons
from tests.support.redis_server import redis_server
from worker.domain.executions import Execution, Status
from worker.domain.policy import Policy, RetryAt
from worker.domain.transitions import Change, discover
from worker.ledger import Connection, Ledger, Outcome

NAMESPACE = "bench"
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Rig:
    """What a measurement runs on."""

    redis_url: str
    processes: Daemons


@contextmanager
def rig(api_url: str, **env: str) -> Iterator[Rig]:
    """Hold a Redis and an environment for daemons that do nothing but retries, unless `env` says so."""
    with tempfile.TemporaryDirectory() as directory, redis_server() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        settings = ALONE | {
            "KINETIC_BASE_URL": api_url,
            "KINETIC_API_KEY": "bench",
            "REDIS_URL": url,
            "LEDGER_NAMESPACE": NAMESPACE,
            "DISCOVERY_MODE": "track",
            "WATCH_INTERVAL": "1h",
            "WORKER_CONCURRENCY": "1",
        }
        with daemons(Path(directory), **settings | env) as processes:
            yield Rig(url, processes)


async def fill_due(redis_url: str, count: int, *, within_s: float = 0.0) -> dict[str, float]:
    """Put failures into the ledger as discovery commits them, each with a first retry that falls due.

    Args:
        redis_url: of the ledger.
        count: how many.
        within_s: from now, at random times; 0 = at once.

    Returns:
        when each execution is due, in seconds since the epoch.
    """
    ledger = Ledger(Connection(redis_url), NAMESPACE, events_maxlen=100_000)
    try:
        await ledger.begin(timedelta(hours=1))
        dice = random.Random(7)
        changes = [due(ledger, timedelta(seconds=within_s * dice.random())) for _ in range(count)]
        for start in range(0, count, AT_ONCE):
            outcomes = await asyncio.gather(*map(ledger.commit, changes[start : start + AT_ONCE]))
            assert set(outcomes) == {Outcome.COMMITTED}
        return {each.after.root: each.after.due_at.timestamp() for each in changes if each.after.due_at}
    finally:
        await ledger.aclose()


def due(ledger: Ledger, delay: timedelta) -> Change:
    """Return the discovery of a failure that is retried after `delay`."""
    now = ledger.clock.now()
    failed = Execution(
        uuid=str(uuid.uuid4()),
        status=Status.FAILED,
        workflow_version_uuid=VERSION,
        workflow_uuid=WORKFLOW,
        workflow_name="Eligibility, Harbor",
        fingerprint=uuid.uuid4().hex,
        created_at=now - timedelta(minutes=2),
        updated_at=now,
    )
    return discover(
        failed,
        failed_at=now,
        seen_at=now,
        source="list",
        dated=True,
        decision=RetryAt(1, now + delay, delay),
        policy=Policy(),
        policy_name="default",
    )
