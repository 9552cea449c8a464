"""Where the engine tells what it does to whoever draws it as spans.

Owns the port and its null object. Knows no tracing library: `worker.tracing` holds the one that does, and
whoever builds the context hands it in. A tracer only looks: it must not raise, wait, or change anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from worker.domain.delivery import Delivery
from worker.domain.lineage import Lineage
from worker.domain.transitions import Change


class Run(Protocol):
    """A run of a job that goes on."""

    def did(self, figures: Mapping[str, int] | None) -> None:
        """Take note of what it did, in numbers; None when it was not its turn."""


class Sending(Protocol):
    """A retry call that is under way."""

    def ended(self, delivery: Delivery) -> None:
        """Take note of what became of it."""


class Tracer(Protocol):
    """Sees jobs, retry calls and every step of a lineage that is on record."""

    def job(self, name: str) -> AbstractContextManager[Run]:
        """Return a block that is one run of a job."""

    def sending(self, lineage: Lineage) -> AbstractContextManager[Sending]:
        """Return a block that is the retry call of an intent on record."""

    def told(self, change: Change) -> None:
        """Take note of a step that was stored."""


class _Untold:
    """Hears everything and keeps nothing."""

    def did(self, figures: Mapping[str, int] | None) -> None:
        """Do nothing."""

    def ended(self, delivery: Delivery) -> None:
        """Do nothing."""


class _NoTracing:
    """The tracer of those who do not trace."""

    @contextmanager
    def job(self, name: str) -> Iterator[Run]:
        """Do nothing."""
        del name
        yield _UNTOLD

    @contextmanager
    def sending(self, lineage: Lineage) -> Iterator[Sending]:
        """Do nothing."""
        del lineage
        yield _UNTOLD

    def told(self, change: Change) -> None:
        """Do nothing."""


_UNTOLD = _Untold()
NO_TRACING: Tracer = _NoTracing()
