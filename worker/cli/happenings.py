"""One event of the stream on one line: in words for a person, as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from worker.cli.output import clock, iso, name, rough
from worker.cli.story import SENTENCES
from worker.ledger.stream import StoredEvent

Facts = Mapping[str, Any]
NAME_COLUMN = 30
MOST_FACTS = 6
_SAID_ALREADY = frozenset({"workflow_uuid", "workflow_name", "by", "why", "detail", "reason"})


def as_line(event: StoredEvent) -> str:
    """Return an event as a JSON object on one line."""
    told = {"at": iso(event.at), "event": event.name, "root": event.root or None, **event.facts}
    return json.dumps(told, separators=(",", ":"))


def as_words(event: StoredEvent, now: datetime) -> str:
    """Return an event as rich markup: when, of which workflow, what happened, and to which failure."""
    whose = str(event.facts.get("workflow_name") or event.facts.get("workflow_uuid") or "")
    shown = _padded(name(whose, NAME_COLUMN), NAME_COLUMN) if event.root or whose else ""
    root = f" [dim]{name(event.root, 200)}[/]" if event.root else ""
    return f"[dim]{clock(event.at, now)}[/] {f'[bold]{shown}[/] ' if shown else ''}{_in_words(event)}{root}"


def _in_words(event: StoredEvent) -> str:
    facts = {**event.facts, "at": event.at}
    sentence = WORDS.get(event.name) or SENTENCES.get(event.name)
    try:
        return sentence(facts) if sentence else _any(event)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):  # by another version
        return _any(event)


def _any(event: StoredEvent) -> str:
    """Return words for an event that has no sentence: its name, who, why, and a few facts."""
    facts = event.facts
    said = name(event.name.replace("_", " "), 60)
    if facts.get("by"):
        said = f"[bold]{name(str(facts['by']), 120)}[/]: {said}"
    others = [
        f"{name(key.replace('_', ' '), 40)} {name(str(value), 60)}"
        for key, value in facts.items()
        if key not in _SAID_ALREADY and isinstance(value, str | int | float)
    ]
    if others:
        said += f" ({', '.join(others[:MOST_FACTS])})"
    reasons = [name(str(facts[key]), 300) for key in ("reason", "detail", "why") if facts.get(key)]
    return f"{said}: {'; '.join(reasons)}" if reasons else said


def _recovered(facts: Facts) -> str:
    took = rough(timedelta(seconds=float(facts.get("duration", 0))))
    by = f"by attempt {name(str(facts['attempt']))}, " if facts.get("attempt") else ""
    return f"[green]✓ recovered[/] {by}{took} after it failed"


def _forced(facts: Facts) -> str:
    to = str(facts.get("to", ""))
    until = f" until {name(str(facts['until']), 30)}" if facts.get("until") else ""
    words = {"auto": "ended the pause, or what was forced", "open": f"paused the workflow{until}"}
    what = words.get(to, f"forced the breaker {name(to)}")
    return f"[bold]{name(str(facts.get('by', '')), 120)}[/] {what}: {name(str(facts.get('why', '')), 300)}"


def _breaker(word: str, colour: str) -> Callable[[Facts], str]:
    def said(facts: Facts) -> str:
        detail = name(str(facts.get("detail", "")), 300)
        return f"[{colour}]breaker {word}[/]" + (f": {detail}" if detail else "")

    return said


def _padded(shown: str, columns: int) -> str:
    from rich.text import Text

    return shown + " " * max(0, columns - Text.from_markup(shown).cell_len)


WORDS: Mapping[str, Callable[[Facts], str]] = {
    "execution_discovered": lambda _: "[red]✗ failed[/]",
    "execution_recovered": _recovered,
    "workflow_breaker_opened": _breaker("opened", "bold red"),
    "workflow_breaker_closing": _breaker("closing", "yellow"),
    "workflow_breaker_closed": _breaker("closed", "green"),
    "workflow_canary_failed": _breaker("stays open: the clone that tried failed as well", "red"),
    "workflow_breaker_forced": _forced,
}
"""Where the words of a story, which is about one failure alone, would not do."""
