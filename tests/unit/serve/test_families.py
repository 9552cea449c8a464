"""What a scrape shows: right, readable by Prometheus, documented, and bounded."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.serve.snapshots import NOW, exposed, parsed, snapshot, taken, values
from worker.domain.breaker import Breaker, Mode
from worker.domain.lineage import State
from worker.ledger.gate import GateState
from worker.ledger.groups import Group, Verdict
from worker.ledger.reports import Tick
from worker.serve import page

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = 'a"b\\c\nd{e="f"} 1\u202e\x1b[31m'


def test_both_formats_are_readable_and_say_the_same() -> None:
    """Whatever Prometheus asks for, the library's own parsers read it."""
    classic = page.metrics(taken(snapshot()), "", most_workflows=50, version="1.0")
    assert classic.content_type.startswith("text/plain; version=0.0.4")
    old = {family.name for family in text_string_to_metric_families(classic.body.decode())}
    assert old == set(parsed(exposed(snapshot())))


def test_names_follow_the_conventions() -> None:
    """Base units, `_total` for counters only, help for all, no label that Prometheus sets itself."""
    for family in parsed(exposed(snapshot())).values():
        assert family.documentation.endswith("."), family.name
        if not family.name.startswith("kinetic_retry_"):
            continue
        assert re.fullmatch(r"kinetic_retry(_[a-z]+)+", family.name)
        assert not re.search(r"(milli|minutes|hours|_ms|_count|_sum|_bucket)$", family.name)
        assert re.search(r"_(age|duration|timestamp)(?!_seconds)", family.name) is None, family.name
        for sample in family.samples:
            assert not {"job", "instance"} & sample.labels.keys(), sample
            assert (family.type == "counter") == sample.name.endswith("_total"), sample


def test_every_metric_is_documented_with_type_and_labels() -> None:
    """`docs/metrics.md` and the exposition agree, both ways."""
    rows = re.findall(
        r"^\| `(kinetic_\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    documented = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    shown = {}
    for family in parsed(exposed(snapshot())).values():
        if family.name.startswith("kinetic_retry_"):
            assert family.samples, f"{family.name}: the example has nothing of it"
            labels = {name for sample in family.samples for name in sample.labels} - {"le"}
            name = f"{family.name}_total" if family.type == "counter" else family.name
            shown[name] = (family.type, frozenset(labels))
    assert documented == shown


def test_without_the_ledger_nothing_is_made_up() -> None:
    """What is not known is absent, not zero; the process is still seen."""
    text = exposed(None)
    assert values(text, "kinetic_retry_ledger_up") == {(): 0}
    shown = set(parsed(text))
    assert "kinetic_retry_lineages" not in shown
    assert "process_resident_memory_bytes" in shown


def test_a_ledger_of_a_newer_version_is_said_to_be_one() -> None:
    """Its figures are shown as far as they go."""
    text = exposed(snapshot(format=1000))
    assert values(text, "kinetic_retry_ledger_up") == {(): 1}
    assert values(text, "kinetic_retry_ledger_readable") == {(): 0}


@pytest.mark.parametrize("text", [HOSTILE, "", "x" * 10_000])
def test_a_hostile_name_breaks_nothing(text: str) -> None:
    """Names of workflows and reasons come from others: quoted, cleaned, cut, or counted as `other`."""
    of = snapshot(
        groups={Group(State.HELD, text, text, 1): 2},
        verdicts={Verdict(State.RECOVERED, text, text): 1},
        names={text: text},
        events={text: 1},
        ticks={text: Tick(NOW, timedelta(0), {})},
        breakers={text: Breaker(Mode.OPEN, NOW, workflow_name=text)},
    )
    for family in parsed(exposed(of)).values():
        for sample in family.samples:
            assert all(value.isprintable() and len(value) <= 120 for value in sample.labels.values()), sample
    assert sum(values(exposed(of), "kinetic_retry_workflow_lineages").values()) == 2


def test_ten_thousand_workflows_cost_what_fifty_do() -> None:
    """Labels are bounded; nobody is left out of the counts."""
    many = range(10_000)
    of = snapshot(
        groups={Group(State.EXHAUSTED, f"w{n}", f"reason_{n % 500}", n % 40): 1 for n in many},
        verdicts={Verdict(State.EXHAUSTED, f"w{n}", f"reason_{n % 500}"): 1 for n in many},
        names={f"w{n}": f"Workflow {n}" for n in many},
        breakers={f"w{n}": Breaker(Mode.OPEN, NOW) for n in many},
    )
    text = exposed(of)
    assert len(text.splitlines()) < 1500
    lineages = values(text, "kinetic_retry_workflow_lineages")
    assert sum(lineages.values()) == 10_000
    assert len({workflow for _, _, workflow, _ in lineages}) == 51
    assert values(text, "kinetic_retry_breakers")["open",] == 10_000
    assert len(values(text, "kinetic_retry_workflow_breaker")) == 50
    assert sum(values(text, "kinetic_retry_verdicts_total").values()) == 10_000


def test_no_counter_falls_when_workflows_change_places() -> None:
    """A counter that falls reads as a restart, and its whole value as new: a burst that never was."""
    before = snapshot(
        groups={Group(State.SCHEDULED, "a", "", 0): 9, Group(State.SCHEDULED, "b", "", 0): 1},
        verdicts={Verdict(State.EXHAUSTED, "a", "useless"): 5, Verdict(State.EXHAUSTED, "b", "useless"): 7},
    )
    after = snapshot(
        groups={Group(State.SCHEDULED, "a", "", 0): 1, Group(State.SCHEDULED, "b", "", 0): 9},
        verdicts={Verdict(State.EXHAUSTED, "a", "useless"): 6, Verdict(State.EXHAUSTED, "b", "useless"): 7},
    )
    for name in ("kinetic_retry_verdicts_total", "kinetic_retry_workflow_verdicts_total"):
        old, new = (values(exposed(of, most_workflows=1), name) for of in (before, after))
        assert all(new[labels] >= count for labels, count in old.items() if labels in new)
        assert not any("other" in labels for labels in (*old, *new))


def test_dead_letters_are_zero_before_there_are_any() -> None:
    """Or the first one would be no increase."""
    shown = values(exposed(snapshot(verdicts={}, events={})), "kinetic_retry_workflow_verdicts_total")
    assert shown["attempts_used_up", "exhausted", "w1", "Nightly"] == 0
    assert values(exposed(snapshot(events={})), "kinetic_retry_events_total")["retries_exhausted",] == 0


def test_a_task_that_never_ran_is_infinitely_late() -> None:
    """Absent, it would look as if there were nothing to say."""
    ages = values(exposed(snapshot()), "kinetic_retry_tick_age_seconds")
    assert ages == {("submit",): 2, ("watch",): math.inf}


def test_what_is_over_is_not_shown() -> None:
    """An open gate has no time since when it is closed."""
    text = exposed(snapshot(gate=GateState()))
    assert values(text, "kinetic_retry_gate_closed") == {("suspended",): 0, ("down",): 0, ("paused",): 0}
    assert values(text, "kinetic_retry_gate_closed_since_timestamp_seconds") == {}
    assert values(text, "kinetic_retry_halted_by_person") == {(): 0}


def test_who_never_alerted_is_not_late_with_it() -> None:
    """Absent then, so that no rule takes it for something that stopped."""
    looked, waiting = "kinetic_retry_alert_looked_timestamp_seconds", "kinetic_retry_alerts_waiting"
    text = exposed(snapshot())
    assert values(text, looked) == {(): NOW.timestamp() - 3}
    assert values(text, waiting) == {(): 2}
    text = exposed(snapshot(alerting=None))
    assert values(text, looked) == values(text, waiting) == {}


def test_calls_are_a_histogram_of_all_of_them() -> None:
    """Cumulative, with what took longer than the last bound behind it."""
    text = exposed(snapshot())
    buckets = values(text, "kinetic_retry_api_call_duration_seconds_bucket")
    assert (buckets["0.25", "retry"], buckets["0.5", "retry"], buckets["+Inf", "retry"]) == (0, 1, 2)
    assert values(text, "kinetic_retry_api_call_duration_seconds_count")["retry",] == 2
    assert values(text, "kinetic_retry_api_call_duration_seconds_sum")["retry",] == 31.3
    assert values(text, "kinetic_retry_api_calls_total")["retry", "http_502"] == 1


def test_a_forced_breaker_is_told_from_one_that_opened_itself() -> None:
    """One that is closed by itself is not shown at all."""
    shown = values(exposed(snapshot()), "kinetic_retry_workflow_breaker")
    assert shown == {("open", "w1", "Nightly"): 1, ("forced_open", "w3", "Weekly"): 1}
