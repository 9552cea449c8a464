"""When a running clone is looked at next, and when a list is cheaper than a look at each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

LONGEST_PAUSE = timedelta(minutes=1)
MOST_LENGTHS = 20
"""Runs of a workflow by whose lengths its next ones are timed: the newest, for workflows change."""
FEWEST_LENGTHS = 3
LONGEST_FIRST_PAUSE = timedelta(minutes=10)
"""Where nobody else meets a run that fails long before its time, it is `LONGEST_PAUSE`."""
_ONE_IN = 10
NEVER_OVERDUE_BEFORE = timedelta(minutes=10)
LOOKS_PER_PAGE = 4
"""What a page of a list costs, in looks: it is a bigger answer."""
FEWEST_PAGES = 5
_DUE_PER_PAGE_IN_ADVANCE = 20
ENDS_PER_PAGE = 20
"""Ended clones that a page should show: a twentieth of a call for each."""
_SHARE_OF_AGE = 5
LONGEST_LIST_PAUSE = timedelta(minutes=5)


def next_look_in(age: timedelta, shortest: timedelta) -> timedelta:
    """Return the pause before the next look at a clone that has been running for `age`.

    A tenth of its age, within the shortest pause and a minute: an end is noticed late by at most a tenth
    of the run, and long runs cost few calls.

    >>> [next_look_in(timedelta(seconds=s), timedelta(seconds=5)).total_seconds() for s in (0, 200, 9000)]
    [5.0, 20.0, 60.0]
    """
    return max(shortest, min(age / 10, LONGEST_PAUSE))


def first_look_in(
    lengths: Sequence[timedelta], shortest: timedelta, longest: timedelta = LONGEST_FIRST_PAUSE
) -> timedelta:
    """Return the pause before the first look at a clone, by how long the newest runs of its workflow took.

    As long as all took but the quickest tenth: hardly any is over before, and what is looked at while it
    cannot be over is a call in vain. The quickest of a few, and the shortest pause where next to nothing is
    known.

    >>> lengths = [timedelta(seconds=s) for s in (90, 60, 100, 95, 3, 92, 91, 99, 97, 96, 93)]
    >>> [first_look_in(lengths[:n], timedelta(seconds=5)).total_seconds() for n in (2, 3, 11)]
    [5.0, 60.0, 60.0]
    """
    if len(lengths) < FEWEST_LENGTHS:
        return shortest
    return max(shortest, min(sorted(lengths)[len(lengths) // _ONE_IN], longest))


def is_overdue(age: timedelta, lengths: Sequence[timedelta]) -> bool:
    """Return whether a clone runs for so long that it has to be asked for by its name.

    That no list shows it as ended is no proof that it is there. Longer than twice the longest of the newest
    runs of its workflow, and than ten minutes.

    >>> hours = [timedelta(hours=h) for h in (1, 2, 2)]
    >>> is_overdue(timedelta(hours=3), hours), is_overdue(timedelta(hours=5), hours)
    (False, True)
    >>> is_overdue(timedelta(minutes=11), []), is_overdue(timedelta(minutes=9), [])
    (True, False)
    """
    known = 2 * max(lengths) if len(lengths) >= FEWEST_LENGTHS else timedelta(0)
    return age > max(known, NEVER_OVERDUE_BEFORE)


def list_is_cheaper(due: int, fewest: int, pages: int) -> bool:
    """Return whether a list is read for so many due looks.

    Args:
        due: looks.
        fewest: for which a list is read at all.
        pages: that were read the last time.

    >>> list_is_cheaper(19, 20, 2), list_is_cheaper(30, 20, 2), list_is_cheaper(30, 20, 100)
    (False, True, False)
    """
    return due >= max(fewest, pages)


def reads_on(pages: int, spared: int, due: int, usual: int) -> bool:
    """Return whether the next page of a list is likely to be worth its call.

    The first clone of ours may be far from the head, and where a platform is busy with other things there
    may be one on a page. So a page is given in advance for every twenty due looks (five at least), or a
    quarter more than a reading usually takes; from then on each has to have spared four looks.

    Args:
        pages: that were read.
        spared: looks that need not be made any more.
        due: looks that the list is read for.
        usual: pages of the last reading.

    >>> [reads_on(pages, 0, 60, 0) for pages in (4, 5)], [reads_on(pages, 0, 60, 20) for pages in (24, 25)]
    ([True, False], [True, False])
    >>> [reads_on(30, spared, 200, 0) for spared in (80, 83, 84)]
    [False, False, True]
    """
    advance = max(FEWEST_PAGES, due // _DUE_PER_PAGE_IN_ADVANCE, usual + usual // 4)
    return pages < advance + spared // LOOKS_PER_PAGE


def next_list_in(
    since_last: timedelta, pages: int, ended: int, age: timedelta, shortest: timedelta
) -> timedelta:
    """Return the pause between two readings of a list: until it shows twenty newly ended clones a page again.

    A clone's end is noticed late by a fifth of its age at most, and by a tenth on the average: no list waits
    for longer, whatever that costs. Few clones are looked at one by one and sooner.

    Args:
        since_last: the time in which those ended that were found.
        pages: that were read.
        ended: clones that were found to have ended.
        age: of the clones that were looked for, the median.
        shortest: pause between two looks.

    >>> second = timedelta(seconds=1)
    >>> [next_list_in(10 * second, 50, n, 100 * second, 5 * second).total_seconds() for n in (4000, 800, 1)]
    [5.0, 12.5, 20.0]
    """
    until_worth = since_last * (ENDS_PER_PAGE * pages / max(ended, 1))
    return max(shortest, min(until_worth, age / _SHARE_OF_AGE, LONGEST_LIST_PAUSE))
