"""Metric families that have a label for the workflow, and the few that go with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from worker.domain.breaker import Breaker, Mode
from worker.domain.lineage import State
from worker.domain.policy import GiveUpReason
from worker.ledger.metrics import Snapshot
from worker.serve.shapes import WORD, counter, gauge
from worker.serve.workflows import OTHER, OTHERS, Label, choose, common, label

MOST_REASONS = 80
"""There are some forty; each new HTTP status that an API makes up would be one more."""
_LABELS = ("workflow", "workflow_name")
_NO_REASON = "none"
_SHOWN_AS_ZERO = tuple(
    (State.EXHAUSTED.value, reason) for reason in (*(each.value for each in GiveUpReason), "watch_timeout")
)
"""Dead letters of every workflow, before there are any: a rate needs a value from before the first."""


def workflow_families(snapshot: Snapshot, most: int) -> Iterator[Metric]:
    """Yield the families; up to `most` workflows have a label value of their own."""
    chosen = choose(snapshot.groups, snapshot.names, most)
    reasons = _reasons(snapshot)
    yield from _lineages(snapshot, chosen, reasons)
    yield from _verdicts(snapshot, chosen, reasons)
    yield from _breakers(snapshot.breakers, most)


def _lineages(snapshot: Snapshot, chosen: Mapping[str, Label], reasons: frozenset[str]) -> Iterator[Metric]:
    counts: Counter[tuple[str, ...]] = Counter()
    for group, count in snapshot.groups.items():
        whose = chosen.get(group.workflow, OTHERS)
        counts[(*whose, group.state.value, _reason(group.reason, reasons))] += count
    text = "Failed executions on record, by workflow, state and reason. Beyond METRICS_WORKFLOWS: `other`."
    yield gauge("workflow_lineages", text, [*_LABELS, "state", "reason"], counts.items())


def _verdicts(snapshot: Snapshot, chosen: Mapping[str, Label], reasons: frozenset[str]) -> Iterator[Metric]:
    total: Counter[tuple[str, ...]] = Counter()
    # No `other` here: a workflow that moves out of it would make that counter fall, which reads as a restart.
    by_workflow: Counter[tuple[str, ...]] = Counter(
        {(*whose, *verdict): 0 for whose in chosen.values() for verdict in _SHOWN_AS_ZERO}
    )
    for verdict, count in snapshot.verdicts.items():
        reason = _reason(verdict.reason, reasons)
        total[verdict.state.value, reason] += count
        if verdict.workflow in chosen:
            by_workflow[(*chosen[verdict.workflow], verdict.state.value, reason)] += count
    text = "Verdicts ever given, by state and reason."
    yield counter("verdicts", text, ["state", "reason"], total.items())
    text = "Verdicts ever given for the workflows that have a label value of their own, by state and reason."
    yield counter("workflow_verdicts", text, [*_LABELS, "state", "reason"], by_workflow.items())


def _breakers(breakers: Mapping[str, Breaker], most: int) -> Iterator[Metric]:
    counts = Counter(
        {f"forced_{forced}": 0 for forced in ("open", "closed")} | {mode.value: 0 for mode in Mode}
    )
    del counts[Mode.CLOSED.value]
    not_closed: dict[tuple[str, ...], float] = {}
    for key, each in sorted(breakers.items()):
        mode = f"forced_{each.forced}" if each.forced else each.mode.value
        if mode == Mode.CLOSED.value:
            continue
        counts[mode] += 1
        if len(not_closed) < most:
            not_closed[(*label(key, each.workflow_name), mode)] = 1
    text = "Workflows whose breaker is not closed by itself, by what it does."
    yield gauge("breakers", text, ["mode"], [((mode,), count) for mode, count in counts.items()])
    text = "1 for each workflow whose breaker is not closed by itself; absent for all others."
    yield gauge("workflow_breaker", text, [*_LABELS, "mode"], not_closed.items())


def _reasons(snapshot: Snapshot) -> frozenset[str]:
    counted: Counter[str] = Counter()
    for group, count in snapshot.groups.items():
        counted[group.reason] += count
    for verdict, count in snapshot.verdicts.items():
        counted[verdict.reason] += count
    return common({word: count for word, count in counted.items() if WORD.fullmatch(word)}, MOST_REASONS)


def _reason(reason: str, known: frozenset[str]) -> str:
    return reason if reason in known else OTHER if reason else _NO_REASON
