"""Makes any value plain: text, numbers, lists and dicts that every renderer can write.

Owns what becomes of values that are too large, too deep, cyclic or broken. Nothing in here raises,
whatever the value's own methods do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from itertools import islice
from typing import Any

from config.redaction import printable
from worker.domain.durations import format_duration

LONGEST_VALUE = 2_000
"""Characters of one text in a log line; an untrusted name may have ten million."""

_DEEPEST = 6
_MOST_ITEMS = 100
_MOST_VALUES = 1_000
"""In all, for one value: a list of lists of lists may be small in memory and endless on paper."""

_LONGEST_INTEGER = 128
"""Bits. Thousands of digits are refused by `int.__str__`, and nobody reads dozens."""


def plain(value: Any) -> Any:
    """Return `value` as text, number, boolean, None, or lists and dicts of those.

    >>> plain({"a": (1, float("nan")), 2: timedelta(seconds=90)})
    {'a': [1, 'nan'], '2': '1m30s'}
    """
    return _Walk().plain(value, depth=0)


def cut(value: Any, *, keep_end: int = 0) -> Any:
    """Return plain `value` with every text in it cut to `LONGEST_VALUE` characters.

    Args:
        value: what `plain` returned.
        keep_end: how many of these characters are taken from the end of the text.
    """
    if isinstance(value, dict):
        return {cut(key): cut(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [cut(inner) for inner in value]
    if not isinstance(value, str) or len(value) <= LONGEST_VALUE:
        return value
    start, end = value[: LONGEST_VALUE - keep_end], value[len(value) - keep_end :]
    return f"{start}… ({len(value) - LONGEST_VALUE} characters left out) {end}".rstrip()


def without_controls(value: Any, *, keep: str = "") -> Any:
    """Return plain `value` with what could act on a terminal spelt out, except the characters in `keep`."""
    if isinstance(value, dict):
        return {without_controls(key): without_controls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_controls(inner) for inner in value]
    return printable(value, keep=keep) if isinstance(value, str) else value


class _Walk:
    """One walk through one value, with an end to its patience."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            return "…"
        try:
            return self._plain(value, depth)
        except Exception:  # noqa: BLE001 - a value's __repr__ or __iter__ may raise anything
            return f"<{type(value).__name__} that cannot be shown>"

    def _plain(self, value: Any, depth: int) -> Any:
        for kinds, render in _SCALARS:
            if isinstance(value, kinds):
                return render(value)
        if not isinstance(value, _CONTAINERS):
            return repr(value)
        if depth >= _DEEPEST:  # a cycle ends here too
            return f"<{type(value).__name__} nested too deep>"
        return self._container(value, depth + 1)

    def _container(self, value: Any, depth: int) -> Any:
        left_out = len(value) - _MOST_ITEMS
        if isinstance(value, Mapping):
            items = islice(value.items(), _MOST_ITEMS)
            shown = {str(self.plain(key, depth)): self.plain(inner, depth) for key, inner in items}
            return shown | ({"…": f"{left_out} more"} if left_out > 0 else {})
        elements = [self.plain(inner, depth) for inner in islice(value, _MOST_ITEMS)]
        return elements + ([f"… {left_out} more"] if left_out > 0 else [])


def _integer(value: int) -> int | str:
    bits = value.bit_length()
    return int(value) if bits <= _LONGEST_INTEGER else f"<integer of {bits} bits>"


def _number(value: float) -> float | str:
    """Return what JSON can hold: it has neither NaN nor infinity."""
    return float(value) if math.isfinite(value) else repr(float(value))


_CONTAINERS = (Mapping, list, tuple, AbstractSet)
_SCALARS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((bool, type(None)), lambda value: value),
    (str, str.__str__),  # of an enum or another subclass: the text itself
    (int, _integer),
    (float, _number),
    (timedelta, format_duration),
    (date, lambda value: value.isoformat()),
)
