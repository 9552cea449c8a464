"""A ledger with something of everything, and what an exposition of it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from worker.domain.breaker import Breaker, Forced, Mode
from worker.domain.lineage import State
from worker.ledger import records
from worker.ledger.calls import Counts, read_calls
from worker.ledger.gate import Closed, GateState, Halt
from worker.ledger.groups import Group, Verdict
from worker.ledger.metrics import Alerting, Due, Snapshot
from worker.ledger.reports import Tick
from worker.serve import page
from worker.serve.collector import Taken

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def snapshot(**changes: Any) -> Snapshot:
    """Return a snapshot in which every family has a value."""
    facts: dict[str, Any] = {
        "now": NOW,
        "format": records.FORMAT,
        "started_at": NOW - timedelta(days=3),
        "states": dict.fromkeys(State, 2),
        "due": {State.SCHEDULED: Due(3, timedelta(seconds=7)), State.RUNNING: Due()},
        "held_for": timedelta(minutes=5),
        "waiting": 4,
        "tracked": 1,
        "gate": GateState(
            closed=Closed.DOWN,
            since=NOW - timedelta(minutes=1),
            paused_until=NOW + timedelta(minutes=1),
            halt=Halt("ann", "release day", NOW, None),
        ),
        "groups": {Group(State.SCHEDULED, "w1", "", 0): 3, Group(State.EXHAUSTED, "w2", "useless", 2): 1},
        "verdicts": {Verdict(State.EXHAUSTED, "w2", "useless"): 1},
        "names": {"w1": "Nightly", "w2": "Hourly"},
        "events": {"execution_discovered": 9, "retry_accepted": 5, "retry_submitted": 6},
        "calls": read_calls(some_calls()),
        "ticks": {"submit": Tick(NOW - timedelta(seconds=2), timedelta(seconds=0.25), {})},
        "alerting": Alerting(NOW - timedelta(seconds=3), 2),
        "breakers": {
            "w1": Breaker(Mode.OPEN, NOW, workflow_name="Nightly"),
            "w2": Breaker(Mode.CLOSED, NOW, workflow_name="Hourly"),
            "w3": Breaker(Mode.CLOSED, NOW, forced=Forced.OPEN, workflow_name="Weekly"),
        },
    }
    return Snapshot(**(facts | changes))


def some_calls() -> dict[str, str]:
    """Return the ledger's hash after three calls."""
    counts = Counts()
    for method, outcome, took_s in (("retry", "ok", 0.3), ("retry", "http_502", 31.0), ("get", "ok", 0.02)):
        counts.note(method, outcome, took_s)
    return {name: str(count) for name, count in counts.counted.items()}


def taken(of: Snapshot | None) -> Taken:
    return Taken(of, answered=of is not None, trouble="" if of else "away", took_s=0.01, at_s=0)


def exposed(of: Snapshot | None, *, most_workflows: int = 50) -> str:
    answer = page.metrics(taken(of), OPEN_METRICS, most_workflows=most_workflows, version="1.0")
    return answer.body.decode()


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]  # the library leaves it so


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of one sample name by their labels' values, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in parsed(text).values()
        for sample in family.samples
        if sample.name == name
    }
