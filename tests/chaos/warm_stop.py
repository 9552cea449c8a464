"""What a worker that was told to end has left behind: read from its own log and the ledger."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos.world import KEYS, World
from tests.support.daemons import Daemon
from worker.ledger.clock import from_ms

OUTCOMES = frozenset(
    {
        *("retry_accepted", "retry_not_delivered", "retry_unresolved", "retry_rejected"),
        *("execution_recovered", "outcome_not_recorded"),
    }
)
SAME_CALL = timedelta(seconds=2)
"""A line about an intent is written within this much of the intent: others are about another call."""


def left_submitting(world: World, worker: Daemon) -> list[str]:
    """Return the roots whose call this worker sent, told no outcome of, and left `submitting`.

    Calls from before a pool process of it was killed are not counted: nobody could tell of those.
    """
    since = world.harmed_at.get(worker.output.name, datetime.min.replace(tzinfo=UTC))
    untold: dict[str, datetime] = {}
    for line in worker.output.read_bytes().splitlines():
        event = json.loads(line)
        root, at = event.get("root", ""), datetime.fromisoformat(event["timestamp"])
        if event["event"] == "retry_submitted" and at > since:
            untold[root] = at
        elif event["event"] in OUTCOMES:
            untold.pop(root, None)
    return [root for root, at in untold.items() if _is_submitting(world, root, at)]


def _is_submitting(world: World, root: str, at: datetime) -> bool:
    stored: Any = world.client.get(KEYS.lineage(root))
    record = json.loads(stored) if stored else {}
    return record.get("state") == "submitting" and abs(from_ms(record["intent"]["at"]) - at) < SAME_CALL
