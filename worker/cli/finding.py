"""One line of `check`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

MOST_SKEW = timedelta(seconds=30)
"""Clocks that differ by less are not worth a line of warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `ok`, `warning` or `wrong`, about what, what was found, and what to do about it."""

    verdict: str
    about: str
    found: str
    cure: str = ""
