"""When a running clone is looked at next."""

from __future__ import annotations

from datetime import timedelta

LONGEST_PAUSE = timedelta(minutes=1)


def next_look_in(age: timedelta, shortest: timedelta) -> timedelta:
    """Return the pause before the next look at a clone that has been running for `age`.

    A tenth of its age, within the shortest pause and a minute: an end is noticed late by at most a tenth
    of the run, and long runs cost few calls.

    >>> [next_look_in(timedelta(seconds=s), timedelta(seconds=5)).total_seconds() for s in (0, 200, 9000)]
    [5.0, 20.0, 60.0]
    """
    return max(shortest, min(age / 10, LONGEST_PAUSE))
