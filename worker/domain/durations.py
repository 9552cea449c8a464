"""Durations in words, the way people write them in settings: 90 seconds are `1m30s`."""

from __future__ import annotations

from datetime import timedelta

_SECOND = 1_000_000
"""Microseconds."""


def format_duration(duration: timedelta) -> str:
    """Return the usual spelling; `parse_duration` reads it back exactly. Days start at two: a day is 24h.

    >>> [format_duration(timedelta(seconds=s)) for s in (0, 0.5, 90, 5400, 86400, 1.25)]
    ['0s', '500ms', '1m30s', '1h30m', '24h', '1.25s']
    >>> format_duration(timedelta(days=1, hours=12)), format_duration(timedelta(days=30, minutes=1))
    ('36h', '30d1m')
    """
    if duration < timedelta(0):
        return f"-{format_duration(-duration)}"
    minutes, rest = divmod(duration, timedelta(minutes=1))
    micros = rest // timedelta(microseconds=1)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24) if hours >= 2 * 24 else (0, hours)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count]
    if micros and micros < _SECOND and micros % 1000 == 0:
        parts.append(f"{micros // 1000}ms")
    elif micros:
        seconds = f"{micros // _SECOND}.{micros % _SECOND:06d}".rstrip("0").rstrip(".")
        parts.append(f"{seconds}s")
    return "".join(parts) or "0s"
