"""What the log of a failed run says about retrying it: rules with patterns, the first match counts. Pure.

Owns the order of the rules and the shape of a log's text. The text may hold patient data: it comes in, is
searched, and goes. Nothing here keeps, returns or shows any of it; what people see is the rule's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

LOG_RULE = "log_rule"
"""The reason of a lineage that a rule about its failed run's log stopped or holds."""


class Then(StrEnum):
    """What happens to a failure whose log a rule matches."""

    RETRY = "retry"
    """It is known to pass: retry as usual."""
    STOP = "stop"
    """It is known not to pass: no further attempt."""
    HOLD = "hold"
    """A person has to do something first."""


class LinePattern(Protocol):
    """A pattern that is searched line by line: no match spans two lines, `^` and `$` are the ends of one."""

    def search(self, text: str, /) -> object | None:
        """Return something true when any line of `text` matches, in time linear in its length."""


@dataclass(frozen=True, slots=True)
class LogRule:
    """One rule.

    Attributes:
        name: shown to people, in place of what was found.
        pattern: see `LinePattern`.
        then: see `Then`.
    """

    name: str
    pattern: LinePattern
    then: Then


def first_match(rules: Iterable[LogRule], text: str) -> LogRule | None:
    """Return the first rule, in their order, that matches any line; None when none does.

    The order of the rules decides and not the order of the lines: a specific rule stands before a general
    one.
    """
    return next((rule for rule in rules if rule.pattern.search(text)), None)


def log_text(body: bytes, *, cut: bool) -> str:
    r"""Return a log's bytes as text whose lines end with `\n`.

    Bytes that are not UTF-8 become U+FFFD. A log that came as one JSON text has its line ends escaped: it is
    split there. What a cut left of the first line is dropped, for `^` would match in the middle of it; unless
    it is all.

    >>> log_text(b'{"log": "one\\ntwo"}', cut=False).split("\n")
    ['{"log": "one', 'two"}']
    >>> log_text(b"d of a line\r\nwhole\r\n", cut=True)
    'whole\n'
    """
    text = body.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in text.strip("\n"):
        text = text.replace("\\r\\n", "\n").replace("\\n", "\n")
    if cut:
        _, _, whole = text.partition("\n")
        return whole or text
    return text
