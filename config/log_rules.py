"""Reads the `[[log]]` and `[[policy.log]]` tables of the policy file: what a log's text says about retrying.

Owns the format of one table and the language of its patterns. That is RE2's, which searches in linear time
whatever it is given: the logs that the patterns meet are untrusted, and a backtracking engine can be kept
busy for hours by a line that was made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol

import re2  # type: ignore[import-untyped]

from config.problems import one_of, quoted
from config.redaction import printable
from worker.domain.logs import LogRule, Then
from worker.domain.text import clean_text

KEYS = ("pattern", "then", "name")
MOST_RULES = 100
"""In one list. Each costs a pass over the log."""

_LONGEST_PATTERN = 1_000
_LONGEST_NAME = 100
_PATTERN_TAKES = f"a regular expression (RE2) of up to {_LONGEST_PATTERN} characters on one line"
_NAME_TAKES = f"text of up to {_LONGEST_NAME} characters"
_THEN_TAKES = one_of(each.value for each in Then)


class Table(Protocol):
    """A table of the policy file, and where to complain of it."""

    table: Mapping[str, Any]

    def wrong(self, key: str, got: Any, takes: str) -> None:
        """Note that a key has a value that it does not take."""

    def complain(self, complaint: str) -> None:
        """Note what else is wrong with the table."""


class PatternError(ValueError):
    """The text is not a pattern; `str()` says why and, where it can be told, at which character."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that is searched line by line, in any case unless it says `(?-i)`.

    Raises:
        PatternError: when it is made from a text that is none.
    """

    text: str
    _regex: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        error = _error_of(self.text)
        if error:
            raise PatternError(_in_words(self.text, error))
        # One pass over the whole text instead of one per line: with `(?m)` a line's ends are `^` and `$`, and
        # `never_nl` keeps every match within one line, whatever the pattern says.
        object.__setattr__(self, "_regex", re2.compile(f"(?m){self.text}", _options(never_nl=True)))

    def search(self, text: str) -> bool:
        """Return whether any line matches."""
        return self._regex.search(text.encode("utf-8", "replace")) is not None


def read_log_rule(entry: Table) -> LogRule | None:
    """Return the rule that a table describes; None after a complaint."""
    sound = True
    for key in entry.table:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {one_of(KEYS)}"
            entry.complain(f"unknown key {quoted(key)}; {hint}")
            sound = False
    pattern, then = _read_pattern(entry), _read_then(entry)
    name = entry.table.get("name", clean_text(pattern.text, _LONGEST_NAME) if pattern else "?")
    if not _is_name(name, _LONGEST_NAME):
        entry.wrong("name", name, _NAME_TAKES)
        return None
    return LogRule(name.strip(), pattern, then) if sound and pattern and then else None


def _read_pattern(entry: Table) -> Pattern | None:
    if "pattern" not in entry.table:
        entry.complain(f"pattern is not set; it takes {_PATTERN_TAKES}")
        return None
    given = entry.table["pattern"]
    if not _is_name(given, _LONGEST_PATTERN):
        entry.wrong("pattern", given, _PATTERN_TAKES)
        return None
    try:
        return Pattern(given)
    except PatternError as exc:
        entry.wrong("pattern", given, f"a regular expression (RE2); this one has {exc}")
        return None


def _read_then(entry: Table) -> Then | None:
    if "then" not in entry.table:
        entry.complain(f"then is not set; it takes {_THEN_TAKES}")
        return None
    given = entry.table["then"]
    try:
        return Then(given.strip().lower())
    except (AttributeError, ValueError):
        entry.wrong("then", given, _THEN_TAKES)
        return None


def _is_name(value: Any, longest: int) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable() and len(value) <= longest


def _options(*, never_nl: bool = False) -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.never_nl = never_nl
    options.log_errors = False  # it would write to stderr by itself
    return options


def _error_of(pattern: str) -> str:
    """Return RE2's complaint of a pattern, `kind: culprit`; "" for none."""
    try:
        re2.compile(pattern, _options())
    except re2.error as exc:
        said = exc.args[0] if exc.args else b""
        return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    except UnicodeError:
        return "invalid text"
    return ""


def _in_words(pattern: str, error: str) -> str:
    """Return a complaint with the culprit's place: RE2 names the culprit and not where it stands.

    It stands at the end of the shortest beginning of the pattern that has the very same complaint.
    """
    kind, _, culprit = error.partition(": ")
    if culprit == pattern:  # a parenthesis too many or too few: the culprit is the whole
        return printable(kind)
    for end in range(1, len(pattern) + 1):
        if _error_of(pattern[:end]) == error:
            return printable(f"{kind} {culprit} at character {end - len(culprit) + 1}")
    return printable(error)
