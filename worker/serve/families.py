"""From a snapshot of the ledger to metric families: every name, unit and label is here.

`docs/metrics.md` lists them. Three rules: a gauge is what is so now; a counter comes from a count of the
ledger, so that it only grows, whatever becomes of `serve`; and a label has a bounded number of values. Ages
are worked out by the Redis server's clock, as everything is: the clock of the monitoring may differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from worker.ledger.calls import CallReport
from worker.ledger.gate import Closed, GateState
from worker.ledger.metrics import Alerting, Snapshot
from worker.ledger.reports import Tick
from worker.serve.by_workflow import workflow_families
from worker.serve.shapes import PREFIX, WORD, counter, gauge

MOST_ATTEMPTS = 10
"""Lineages with more clones than this are counted together."""
ALWAYS_TICKING = ("submit", "watch")
"""Jobs that leave a tick every few seconds while a worker and a beat live, whatever the gate says."""
PAUSED = "paused"
EVENTS = (
    *("execution_discovered", "retry_submitted", "retry_accepted", "retry_unresolved", "retry_held"),
    *("execution_recovered", "retries_exhausted", "retry_rejected", "retry_cancelled"),
)
"""Shown as zero before they happen first: a rate needs a value from before."""


def families(snapshot: Snapshot, most_workflows: int) -> Iterator[Metric]:
    """Yield everything that the ledger tells; up to `most_workflows` have a label value of their own."""
    yield from _lineages(snapshot)
    yield from _due(snapshot)
    yield from workflow_families(snapshot, most_workflows)
    yield from _events(snapshot.events)
    yield from _calls(snapshot.calls)
    yield from _gate(snapshot.gate)
    yield from _ticks(snapshot.ticks, snapshot.now)
    yield from _alerting(snapshot.alerting)
    yield from _ledger(snapshot)


def _lineages(snapshot: Snapshot) -> Iterator[Metric]:
    states = [((state.value,), count) for state, count in snapshot.states.items()]
    yield gauge("lineages", "Failed executions on record, by the state of their lineage.", ["state"], states)
    by_attempts: Counter[tuple[str, str]] = Counter()
    for group, count in snapshot.groups.items():
        attempts = str(group.attempts) if group.attempts <= MOST_ATTEMPTS else f"more than {MOST_ATTEMPTS}"
        by_attempts[group.state.value, attempts] += count
    text = "Failed executions on record, by state and by how many clones were made for them."
    yield gauge("lineages_by_attempts", text, ["state", "attempts"], by_attempts.items())
    yield gauge(
        "waiting_lineages",
        "Lineages that are due and wait for their workflow, or a limit, to have room.",
        values=[((), snapshot.waiting)],
    )
    yield gauge("tracked_executions", "Executions watched by name.", values=[((), snapshot.tracked)])


def _due(snapshot: Snapshot) -> Iterator[Metric]:
    text = "Lineages whose time has come and that no worker has taken yet: the backlog."
    counts = [((state.value,), due.count) for state, due in snapshot.due.items()]
    yield gauge("due_lineages", text, ["state"], counts)
    text = "For how long the first of them has been due; 0 when there is none."
    ages = [((state.value,), due.oldest.total_seconds()) for state, due in snapshot.due.items()]
    yield gauge("oldest_due_age_seconds", text, ["state"], ages)
    held = snapshot.held_for.total_seconds() if snapshot.held_for else 0
    text = "How long the lineage held longest has waited for a person; 0 when none is held."
    yield gauge("oldest_held_age_seconds", text, values=[((), held)])


def _events(counted: Mapping[str, int]) -> Iterator[Metric]:
    events = dict.fromkeys(EVENTS, 0) | {
        name: count for name, count in counted.items() if WORD.fullmatch(name)
    }
    text = "Events ever recorded, by name; docs/events.md says what each one means."
    values = [((name,), count) for name, count in sorted(events.items())]
    yield counter("events", text, ["event"], values)
    text = "Clones ever made: attempts that were spent."
    yield counter("attempts", text, (), [((), counted.get("retry_accepted", 0))])


def _calls(calls: CallReport) -> Iterator[Metric]:
    text = "Calls to the Kinetic API by kind (`retry`, `get`, `list`, `probe`) and by how they ended."
    ended = sorted(calls.ended.items())
    yield counter("api_calls", text, ["method", "outcome"], ended)
    text = "How long calls to the Kinetic API took, failed ones included."
    family = HistogramMetricFamily(f"{PREFIX}_api_call_duration_seconds", text, labels=["method"])
    for method, took in sorted(calls.took.items()):
        so_far, buckets = 0, []
        for bound, count in sorted(took.within.items()):
            so_far += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(so_far)))
        family.add_metric([method], buckets=buckets, sum_value=took.spent_s)
    yield family


def _gate(gate: GateState) -> Iterator[Metric]:
    closed = {kind.value: float(gate.closed is kind) for kind in Closed}
    closed[PAUSED] = float(gate.paused_until is not None)
    text = (
        "1 while no call leaves: our key is refused (`suspended`), the API is `down`, or it asked for a rest."
    )
    yield gauge("gate_closed", text, ["kind"], [((kind,), value) for kind, value in closed.items()])
    text = "1 while calls are let through in growing numbers after the API came back."
    yield gauge("gate_opening", text, values=[((), float(gate.opening_since is not None))])
    text = "Since when the gate has been closed for a refused key or an API that is down."
    since = [((), _seconds(gate.since))] if gate.closed and gate.since else []
    yield gauge("gate_closed_since_timestamp_seconds", text, values=since)
    text = "Until when the API asked for a rest; absent when it did not."
    until = [((), _seconds(gate.paused_until))] if gate.paused_until else []
    yield gauge("gate_paused_until_timestamp_seconds", text, values=until)
    text = "1 while a person lets no retry call leave for any workflow."
    yield gauge("halted_by_person", text, values=[((), float(gate.halt is not None))])


def _ticks(ticks: Mapping[str, Tick], now: datetime) -> Iterator[Metric]:
    """Tell when each job ran last; one that never did although it always should has an infinite age.

    The label is `task`: Prometheus has a `job` of its own.
    """
    known = {job: tick for job, tick in sorted(ticks.items()) if WORD.fullmatch(job)}
    ages = dict.fromkeys(ALWAYS_TICKING, float("inf"))
    ages |= {job: max(0.0, (now - tick.finished_at).total_seconds()) for job, tick in known.items()}
    text = "How long ago a task last finished; +Inf when it never has."
    yield gauge("tick_age_seconds", text, ["task"], [((job,), age) for job, age in ages.items()])
    text = "When a task last finished, by the Redis server's clock."
    finished = [((job,), _seconds(tick.finished_at)) for job, tick in known.items()]
    yield gauge("tick_timestamp_seconds", text, ["task"], finished)
    text = "How long a task took when it last ran."
    took = [((job,), tick.duration.total_seconds()) for job, tick in known.items()]
    yield gauge("tick_duration_seconds", text, ["task"], took)


def _alerting(alerting: Alerting | None) -> Iterator[Metric]:
    text = "When somebody last looked for what people have to be told; absent where nobody ever did."
    looked = [((), _seconds(alerting.looked_at))] if alerting else []
    yield gauge("alert_looked_timestamp_seconds", text, values=looked)
    text = "Messages that not every address has yet; absent where nobody ever alerted."
    waiting = [((), alerting.waiting)] if alerting else []
    yield gauge("alerts_waiting", text, values=waiting)


def _ledger(snapshot: Snapshot) -> Iterator[Metric]:
    text = "The Redis server's time: what every other time and age goes by."
    yield gauge("ledger_timestamp_seconds", text, values=[((), _seconds(snapshot.now))])
    started = [((), _seconds(snapshot.started_at))] if snapshot.started_at else []
    yield gauge("started_timestamp_seconds", "When a worker first reached this ledger.", values=started)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
