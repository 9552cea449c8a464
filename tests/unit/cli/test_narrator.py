"""Log lines in words, for someone watching `up`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.text import Text

from worker.cli.narrator import WORDS, narrate

FACTS: dict[str, Any] = {
    "timestamp": "2026-03-01T12:34:56.789Z",
    "level": "info",
    "root": "0123456789abcdef",
    "workflow_name": "Prior authorisation",
    "attempt": 2,
    "max_attempts": 4,
    "delay": 3.25,
    "duration": 12.0,
    "clone_uuid": "fedcba9876543210",
    "reason": "attempts_used_up",
}


def words(event: str, **facts: Any) -> str | None:
    line = narrate(json.dumps({"event": event, **FACTS, **facts}))
    return None if line is None else Text.from_markup(line).plain


@pytest.mark.parametrize("event", sorted(WORDS))
def test_every_event_has_a_line_with_time_workflow_and_execution(event: str) -> None:
    """What people look for in each line."""
    line = words(event)
    assert line is not None
    assert line.startswith("12:34:56 ")
    assert "Prior authorisation" in line
    assert line.endswith("01234567")


def test_the_words_say_what_happened() -> None:
    """Attempt, delay and clone, in words."""
    assert "attempt 2 of 4 in 3.2s" in str(words("retry_scheduled"))
    assert "clone fedcba98" in str(words("retry_accepted"))
    assert "recovered by attempt 2, 12s" in str(words("execution_recovered"))


def test_other_lines_show_from_warning_on() -> None:
    """An outage is shown, a tick is not."""
    assert words("list_read") is None
    assert "ledger_unavailable Redis is not available" in str(
        words("ledger_unavailable", level="error", detail="Redis is not available")
    )


@pytest.mark.parametrize("line", ["", "  ", "[1, 2]", '"text"', "null"])
def test_lines_that_are_no_events_say_nothing(line: str) -> None:
    """Not an error either: a reader that dies blocks the process it reads."""
    assert narrate(line) is None


@pytest.mark.parametrize("delay", [None, "soon", [], float("nan")])
def test_an_event_of_another_version_does_not_stop_the_reader(delay: Any) -> None:
    """Facts of another kind than expected."""
    assert narrate(json.dumps({"event": "retry_scheduled", **FACTS, "delay": delay})) is None


def test_hostile_values_stay_text() -> None:
    """No escape sequence and no markup, wherever it comes from."""
    hostile = "\x1b[31m[bold]x[/]\u202e\n"
    line = narrate(
        json.dumps(
            {"event": "retry_rejected", **FACTS, "workflow_name": hostile, "root": "ab[red]" + hostile}
        )
    )
    assert line is not None
    plain = Text.from_markup(line).plain
    assert "[bold]x[/]" in plain
    assert plain.endswith("ab[red][")
    assert not {"\x1b", "\u202e", "\n"} & set(line)
    assert "\x1b" not in str(narrate("\x1b[2J not JSON [red]"))
