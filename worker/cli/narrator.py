"""One readable line for each log line that matters to someone watching."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from worker.cli.output import name, rough
from worker.domain.text import clean_text

Line = Mapping[str, Any]
COLUMN = 30


def narrate(line: str) -> str | None:
    """Return a log line (JSON) in words, as rich markup; None for what nobody watching needs."""
    try:
        entry = json.loads(line)
    except ValueError:
        return f"[yellow]{name(line, 300)}[/]" if line.strip() else None
    if not isinstance(entry, dict):
        return None
    event = str(entry.get("event", ""))
    words = _in_words(event, entry)
    if words:
        time = str(entry.get("timestamp", ""))[11:19]
        who = name(str(entry.get("workflow_name", "")), 44)
        return f"[dim]{name(time)}[/] {_padded(words)} [bold]{who}[/] [dim]{_short(entry.get('root'))}[/]"
    if entry.get("level") in ("warning", "error", "critical"):
        detail = name(str(entry.get("detail", "")), 200)
        return f"[yellow]{name(event, 200)}[/] {detail}"
    return None


def _in_words(event: str, entry: Line) -> str | None:
    try:
        return WORDS[event](entry)
    except (KeyError, TypeError, ValueError):  # not one of ours, or not by this version
        return None


def _padded(markup: str) -> str:
    from rich.text import Text

    return markup + " " * max(0, COLUMN - Text.from_markup(markup).cell_len)


def _scheduled(entry: Line) -> str:
    wait = rough(timedelta(seconds=float(entry.get("delay", 0))))
    most = f" of {entry['max_attempts']}" if "max_attempts" in entry else ""  # a person's order knows none
    return f"  attempt {entry.get('attempt')}{most} in {wait}"


def _recovered(entry: Line) -> str:
    took = rough(timedelta(seconds=float(entry.get("duration", 0))))
    return f"[green]✓ recovered[/] by attempt {entry.get('attempt')}, {took}"


def _short(uuid: object) -> str:
    return name(clean_text(str(uuid or ""), 200)[:8])


WORDS: Mapping[str, Callable[[Line], str]] = {
    "execution_discovered": lambda _: "[red]✗ failed[/]",
    "retry_scheduled": _scheduled,
    "retry_accepted": lambda entry: f"  [blue]→ clone[/] {_short(entry.get('clone_uuid'))}",
    "attempt_failed": lambda entry: f"  [red]attempt {entry.get('attempt')} failed[/]",
    "execution_recovered": _recovered,
    "retries_exhausted": lambda entry: f"[bold red]gave up[/] {name(str(entry.get('reason', '')))}",
    "retry_rejected": lambda entry: f"[bold red]rejected[/] {name(str(entry.get('reason', '')))}",
    "retry_not_delivered": lambda entry: f"  [yellow]not delivered[/] {name(str(entry.get('reason', '')))}",
    "retry_unresolved": lambda entry: f"  [yellow]outcome unknown[/] {name(str(entry.get('reason', '')))}",
    "retry_deferred": lambda entry: f"  [dim]waits:[/] {name(str(entry.get('reason', '')))}",
    "retry_cancelled": lambda _: "[bold]cancelled[/] by a person",
    "workflow_breaker_opened": lambda _: "[bold red]held back[/] it fails",
    "workflow_breaker_closing": lambda _: "[green]let go[/] by steps",
    "workflow_breaker_closed": lambda _: "[green]let go[/] it works",
    "retries_paused": lambda entry: f"[bold red]paused[/] by {name(str(entry.get('paused_by', '')), 20)}",
    "retries_resumed": lambda _: "[green]goes on[/] after a pause",
    "retry_held": lambda entry: f"[yellow]held[/] {name(str(entry.get('reason', '')))}",
}
