"""Executions, policies and lineages to test with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.domain import transitions
from worker.domain.breaker import Rule
from worker.domain.budget import Limits, WorkflowLimits
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage
from worker.domain.policy import GiveUp, History, Jitter, Policy, RetryAt, decide
from worker.domain.transitions import Change

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLAIN = Policy(base_delay=timedelta(seconds=10), jitter=Jitter.NONE, max_attempts=3)


def execution(uuid: str = "root", status: Status = Status.FAILED, **changes: Any) -> Execution:
    facts: dict[str, Any] = {
        "workflow_version_uuid": "version-1",
        "workflow_uuid": "workflow-1",
        "workflow_name": "Prior authorisation",
        "fingerprint": f"print-of-{uuid}",
        "created_at": NOW - timedelta(minutes=2),
        "updated_at": NOW - timedelta(seconds=1),
    }
    return Execution(uuid=uuid, status=status, **(facts | changes))


def discovered(
    failed: Execution | None = None,
    *,
    now: datetime = NOW,
    policy: Policy = PLAIN,
    decision: RetryAt | GiveUp | None = None,
) -> Change:
    failed = failed or execution()
    failed_at = min(failed.updated_at or now, now)
    return transitions.discover(
        failed,
        failed_at=failed_at,
        seen_at=now,
        source="list",
        dated=True,
        decision=decision or decide(History(0, failed_at, failed_at), policy, now, lambda: 0.5),
        policy=policy,
        policy_name="default",
    )


def submitting(
    lineage: Lineage, *, now: datetime = NOW, token: str = "call-1", policy: Policy = PLAIN
) -> Change:
    return transitions.submit(lineage, token=token, now=now, lease=timedelta(minutes=2), policy=policy)


def running(lineage: Lineage, clone: str = "clone-1", *, now: datetime = NOW) -> Change:
    sent = submitting(lineage, now=now).after
    made = execution(clone, Status.QUEUED, fingerprint=lineage.fingerprint)
    return transitions.accept(sent, made, now=now, evidence="201")


NO_LIMITS = Limits(share=0, pace=0)


def alone(policy: Policy) -> Policy:
    """Return the policy for a test about single lineages: others of its workflow make no difference."""
    limits = WorkflowLimits(share=0, floor=0, in_flight=0)
    return replace(policy, prompt=False, join=False, strikes=0, breaker=Rule(failures=0), limits=limits)
