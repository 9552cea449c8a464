"""The judge's book: what happened to every chain, told from the side that cannot be fooled.

A chain is a root and everything cloned from it. Duplicates and losses are facts about chains, and only
the simulated system knows the chains; nothing of this is ever shown by the API itself.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from simulator.executions import Execution, Status
from simulator.world import World


def summary(world: World) -> dict[str, Any]:
    """Return the counts as JSON-ready data.

    `executions`, `failures` (now failed), `roots`, `failed_roots`, `clones`, `runs_again` (retries in
    place), `retries_of_unfailed`; `duplicates`: each execution cloned more than once, with its clones;
    `chain_ends` by `completed`, `failed`, `live` (chains without any failure are left out);
    `never_retried`: uuids of failed roots without a clone; `failed_ends`: uuids of failed executions
    that end their chain; `recovered`: chains that began with a failure and end in success;
    `attempts`: how many failed chains have how many retries; `max_attempts`: the largest of these.
    """
    now = world.now()
    everyone = list(world.executions())
    failed_roots = {each.uuid for each in everyone if _is_failed_root(each)}
    in_failed_chains = [each for each in everyone if each.root in failed_roots]
    attempts: Counter[str] = Counter(dict.fromkeys(failed_roots, 0))
    for each in in_failed_chains:
        attempts[each.root] += each.run - 1 + (each.parent is not None)
    ends = [each for each in in_failed_chains if not each.clones]
    recovered = {each.root for each in ends if each.settled is Status.COMPLETED}
    return {
        "executions": len(everyone),
        "failures": sum(each.settled is Status.FAILED for each in everyone),
        "roots": sum(each.parent is None for each in everyone),
        "failed_roots": len(failed_roots),
        "clones": sum(each.parent is not None for each in everyone),
        "runs_again": sum(each.run - 1 for each in everyone),
        "retries_of_unfailed": world.retries_of_unfailed,
        "duplicates": [
            {"execution_uuid": each.uuid, "clones": list(each.clones)}
            for each in everyone
            if len(each.clones) > 1
        ],
        "chain_ends": {
            name: sum(_end_of(each, now) == name for each in ends) for name in ("completed", "failed", "live")
        },
        "never_retried": [
            each.uuid for each in ends if each.settled is Status.FAILED and _is_unretried(each)
        ],
        "failed_ends": [each.uuid for each in ends if each.settled is Status.FAILED],
        "recovered": len(recovered),
        "attempts": {str(n): count for n, count in sorted(Counter(attempts.values()).items())},
        "max_attempts": max(attempts.values(), default=0),
    }


def every_execution(world: World) -> list[dict[str, Any]]:
    """Return each execution with its place in the clone relation, in order of creation."""
    now = world.now()
    return [
        {
            "execution_uuid": each.uuid,
            "workflow": each.workflow.name,
            "root": each.root,
            "parent": each.parent,
            "retry": each.retry,
            "runs": each.run,
            "clones": list(each.clones),
            "status": each.status(now).value,
            "created_at": each.created_at.isoformat(),
            "updated_at": each.updated_at(now).isoformat(),
        }
        for each in world.executions()
    ]


def _is_failed_root(execution: Execution) -> bool:
    """Whether a chain began with a failure: the root failed, or has run again since (in place)."""
    return execution.parent is None and (execution.settled is Status.FAILED or execution.run > 1)


def _is_unretried(execution: Execution) -> bool:
    return execution.parent is None and execution.run == 1


def _end_of(execution: Execution, now: datetime) -> str:
    status = execution.status(now)
    return status.value if status in (Status.COMPLETED, Status.FAILED) else "live"
