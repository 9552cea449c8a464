"""Makes sentences of a lineage and its events. Everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from worker.cli.output import ago, clock, name, rough
from worker.domain.lineage import Lineage, State, Wish
from worker.domain.transitions import DECIDED_BY_PERSON
from worker.ledger.reports import StoredEvent

Facts = Mapping[str, Any]

VERDICTS = {
    State.SCHEDULED: "[cyan]waits for its next attempt[/]",
    State.SUBMITTING: "[blue]a retry call is under way[/]",
    State.RUNNING: "[blue]its clone is running[/]",
    State.UNRESOLVED: "[yellow]the outcome of a call is being found out; nothing is sent meanwhile[/]",
    State.HELD: "[bold yellow]held: a person decides[/]",
    State.RECOVERED: "[bold green]recovered[/]",
    State.EXHAUSTED: "[bold red]exhausted[/]",
    State.REJECTED: "[bold red]rejected[/]",
    State.CANCELLED: "[bold]cancelled[/]",
}


_WISHES = {
    Wish.RETRY: "a person wants this attempt now, whatever policy, breaker and budgets say",
    Wish.HOLD: "a person wants it held when its attempt has ended",
    Wish.CANCEL: "a person wants it cancelled when its attempt has ended, unless that completes",
}


def tell(lineage: Lineage, events: list[StoredEvent], now: datetime) -> list[str]:
    """Return the story as lines of rich markup, times in UTC.

    Told from the events as far as the stream still has them, else from the record.
    """
    title = name(lineage.workflow_name) or name(lineage.workflow_uuid) or "a workflow without a name"
    head = f"[bold]{title}[/]  execution {name(lineage.root, 200)}"
    whole = bool(events) and events[0].name == "execution_discovered"
    steps = _from_events(lineage, events) if whole else _from_record(lineage)
    body = [f"  [dim]{clock(at, now)}[/]  {words}" for at, words in steps]
    return [head, *body, *_ending(lineage, now)]


def _from_events(lineage: Lineage, events: list[StoredEvent]) -> list[tuple[datetime, str]]:
    steps = [(lineage.root_failed_at, "the execution failed")]
    joined = {attempt.clone for attempt in lineage.attempts if attempt.joined}
    for event in events:
        if event.name == "execution_discovered":
            late = rough(max(event.at - lineage.root_failed_at, timedelta(0)))
            how = "found in the list" if lineage.source == "list" else "seen by looking at it"
            steps.append((event.at, f"{how}, {late} later"))
        else:
            sentence = SENTENCES.get(event.name)
            facts = {**event.facts, "at": event.at, "joined": event.facts.get("execution_uuid") in joined}
            steps.append((event.at, sentence(facts) if sentence else name(event.name)))
    return steps


def _from_record(lineage: Lineage) -> list[tuple[datetime, str]]:
    steps = [(lineage.root_failed_at, "the execution failed"), (lineage.seen_at, "noticed")]
    number = 0
    for attempt in lineage.attempts:
        clone = f"{name(attempt.clone, 200)} [dim]({name(attempt.evidence, 300)})[/]"
        if attempt.joined:
            steps.append((attempt.accepted_at, f"someone else retried it: {clone}"))
        else:
            number += 1
            steps.append((attempt.submitted_at, f"attempt {number}: retry call sent"))
            steps.append((attempt.accepted_at, f"its clone is {clone}"))
        if attempt.ended_at:
            colour = "green" if attempt.outcome == "completed" else "red"
            steps.append((attempt.ended_at, f"[{colour}]the clone ended: {name(attempt.outcome)}[/]"))
    return steps


def _ending(lineage: Lineage, now: datetime) -> list[str]:
    attempts = f"{lineage.made} attempt{'' if lineage.made == 1 else 's'}"
    joined = len(lineage.attempts) - lineage.made
    if joined:
        attempts += f" and {joined} of someone else"
    words = VERDICTS[lineage.state]
    if lineage.state is State.RECOVERED:
        ended = lineage.newest.ended_at if lineage.attempts else None
        took = rough((ended or lineage.since) - lineage.root_failed_at)
        return [f"  → {words} after {attempts}, {took} after the first failure"]
    if lineage.state is State.SCHEDULED and lineage.due_at:
        since = " since" if lineage.due_at <= now else ""
        words += f", due{since} {clock(lineage.due_at, now)} ({ago(lineage.due_at, now)})"
    lines = [f"  → {words}; {attempts} so far"]
    if lineage.reason:
        detail = f": {name(lineage.detail, 400)}" if lineage.detail else ""
        lines.append(f"    reason: {name(lineage.reason)}{detail}")
    if lineage.order:
        lines.append(f"    {_WISHES[lineage.order.wish]} [dim]({name(lineage.order.detail, 600)})[/]")
    return lines


def _scheduled(facts: Facts) -> str:
    wait = rough(timedelta(seconds=facts.get("delay", 0)))
    if facts.get("rule") == DECIDED_BY_PERSON:  # the line before says who and why
        return f"attempt {facts.get('attempt')} scheduled for {_time(facts)}, {wait} after the failure"
    policy = name(str(facts.get("policy", "default")))
    which = f"attempt {facts.get('attempt')} of {facts.get('max_attempts')}"
    why = f"; {name(str(facts['why']), 300)}" if facts.get("why") else ""
    return f"{which} scheduled for {_time(facts)}, {wait} after the failure (policy {policy}{why})"


def _deferred(facts: Facts) -> str:
    until = f" until {_time(facts)}" if facts.get("due_at") else ""
    return f"[yellow]attempt {facts.get('attempt')} is due, and waits{until}[/] ({_because(facts)})"


def _joined(facts: Facts) -> str:
    clone, evidence = name(str(facts.get("clone_uuid", "")), 200), name(str(facts.get("evidence", "")), 300)
    detail = f"; {name(str(facts['detail']), 300)}" if facts.get("detail") else ""
    return f"someone else retried it: {clone} [dim]({evidence})[/]{detail}"


def _attempt_failed(facts: Facts) -> str:
    where = f" at {name(str(facts['failed_at_step']), 100)}" if facts.get("failed_at_step") else ""
    strikes = facts.get("strikes", 1)
    again = f"; the same failure {strikes} times in a row" if strikes > 1 else ""
    which = "the run of someone else" if facts.get("joined") else f"attempt {facts.get('attempt')}"
    return f"[red]{which} failed{where}[/]{again}"


def _recovered(facts: Facts) -> str:
    if facts.get("joined"):
        return "[green]the run of someone else completed[/]"
    return f"[green]{'the clone' if facts.get('attempt') else 'it'} completed[/]"


def _accepted(facts: Facts) -> str:
    clone, evidence = name(str(facts.get("clone_uuid", "")), 200), str(facts.get("evidence", ""))
    if evidence == "201":
        return f"Kinetic answered with the clone {clone}"
    if evidence.startswith(DECIDED_BY_PERSON):
        return f"the clone {clone} is watched as attempt {facts.get('attempt')}"
    return f"the clone is {clone} [dim]({name(evidence, 300)})[/]"


def _not_delivered(facts: Facts) -> str:
    again = f"no attempt is spent; again at {_time(facts)}"
    if facts.get("reason") == DECIDED_BY_PERSON:  # the line before says who and why
        return again
    return f"[yellow]no clone was made[/] ({_because(facts)}); {again}"


def _person_decided(facts: Facts) -> str:
    who, why = name(str(facts.get("by", "")), 120), name(str(facts.get("why", "")), 300)
    clone = name(str(facts.get("clone_uuid", "")), 200)
    what = {
        "clone": f"that {clone} is the clone",
        "not_delivered": "that the call made no clone",
        "stands_alone": "that it is a failure of its own, to be retried",
        "retry": "that it is retried now, whatever its policy says",
        "redrive": "that it is redriven",
        "hold": "that it is held",
        "release": "that it goes on",
        "cancel": "that no further attempt is made",
    }.get(str(facts.get("decision", "")), name(str(facts.get("decision", ""))))
    return f"[bold]{who}[/] decided {what}: {why}"


def _because(facts: Facts) -> str:
    reason, detail = name(str(facts.get("reason", ""))), name(str(facts.get("detail", "")), 300)
    return f"{reason}: {detail}" if detail else reason


def _time(facts: Facts) -> str:
    try:
        return clock(datetime.fromisoformat(str(facts.get("due_at", ""))), facts["at"])
    except (KeyError, ValueError):
        return name(str(facts.get("due_at", "")))


SENTENCES: Mapping[str, Callable[[Facts], str]] = {
    "retry_scheduled": _scheduled,
    "retry_deferred": _deferred,
    "retry_submitted": lambda facts: f"attempt {facts.get('attempt')}: intent on record, retry call sent",
    "retry_accepted": _accepted,
    "retry_not_delivered": _not_delivered,
    "retry_unresolved": lambda facts: (
        f"[yellow]whether a clone was made is not known[/] ({_because(facts)}); looking for it"
    ),
    "retry_held": lambda facts: f"[yellow]held[/] ({_because(facts)})",
    "person_decided": _person_decided,
    "retry_joined": _joined,
    "attempt_failed": _attempt_failed,
    "execution_recovered": _recovered,
    "retries_exhausted": lambda facts: f"[red]no further attempt[/] ({_because(facts)})",
    "retry_rejected": lambda facts: f"[red]no further attempt[/] ({_because(facts)})",
    "retry_cancelled": lambda _: "[bold]cancelled[/]: no further attempt",
}
"""Of everything but the discovery, which needs the lineage."""
