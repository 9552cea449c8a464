"""Which lineages somebody means, and in which order: values that ask nothing of Redis."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from worker.domain.lineage import Lineage, State
from worker.ledger.groups import Group

_MOST_ATTEMPTS = 9999


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lineages are meant: those for which everything that is said holds.

    Attributes:
        states: any of them; empty = all.
        workflows: any of them, each a uuid or a name with `*` and `?` in any case; empty = all.
        reasons: any of them, each with `*` and `?`; empty = all.
        attempts_min, attempts_max: clones that we made.
        since, until: when it came into its state: at `since` or later, before `until`.
    """

    states: tuple[State, ...] = ()
    workflows: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    attempts_min: int | None = None
    attempts_max: int | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, group: Group, name: str) -> bool:
        """Whether lineages of a group are meant, as far as that is not a matter of time.

        `name` is the workflow's.
        """
        return (
            (not self.states or group.state in self.states)
            and (not self.workflows or any(_is_called(each, group.workflow, name) for each in self.workflows))
            and (not self.reasons or any(_matches(group.reason, each) for each in self.reasons))
            and (self.attempts_min is None or group.attempts >= self.attempts_min)
            and (self.attempts_max is None or group.attempts <= self.attempts_max)
        )

    def matches(self, lineage: Lineage) -> bool:
        """Whether a lineage is meant, by its record."""
        in_time = (self.since is None or lineage.since >= self.since) and (
            self.until is None or lineage.since < self.until
        )
        return in_time and self.takes(Group.of(lineage), lineage.workflow_name)

    @property
    def is_timed(self) -> bool:
        """Whether it says when."""
        return self.since is not None or self.until is not None


class By(StrEnum):
    """In which order lineages are found. All but the first two are newest first among equals."""

    NEWEST = "newest"
    """By when they came into their state, the last first."""
    OLDEST = "oldest"
    STATE = "state"
    """In the order of the life cycle."""
    WORKFLOW = "workflow"
    """By its name."""
    REASON = "reason"
    ATTEMPTS = "attempts"
    """Most first."""


class Cursor(NamedTuple):
    """A place in an order: the last lineage of a page. It stays valid whatever moves meanwhile.

    Attributes:
        by: the order.
        bucket: what lineages are ordered by before their time; "" where that is nothing.
        at_ms: since when the lineage was in its state.
    """

    by: str
    bucket: str
    at_ms: int
    root: str

    def __str__(self) -> str:
        """Return it as one word that a person can paste."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor that a word means; raises ValueError when it means none."""
        try:
            by, bucket, at_ms, root = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise ValueError("is no place in a list") from None
        whole = isinstance(at_ms, int) and not isinstance(at_ms, bool)
        if not (whole and isinstance(bucket, str) and isinstance(root, str)):
            raise ValueError("is no place in a list")
        return cls(By(by).value, bucket, at_ms, root)


def bucket_of(by: By, group: Group, names: Mapping[str, str]) -> str:
    """Return what a group's lineages are ordered by before their time; as text it sorts as they do."""
    buckets: Mapping[By, Callable[[], str]] = {
        By.STATE: lambda: f"{list(State).index(group.state):02}",
        By.WORKFLOW: lambda: f"{names.get(group.workflow, '').casefold()}\n{group.workflow}",
        By.REASON: lambda: group.reason,
        By.ATTEMPTS: lambda: f"{max(0, _MOST_ATTEMPTS - group.attempts):04}",
    }
    return buckets[by]() if by in buckets else ""


def _is_called(wanted: str, key: str, name: str) -> bool:
    return key == wanted or _matches(name, wanted)


def _matches(text: str, pattern: str) -> bool:
    return fnmatchcase(text.casefold(), pattern.casefold())
