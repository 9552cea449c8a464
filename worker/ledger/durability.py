"""How safe a write must be before it is relied upon: on so many replicas, on disk.

Redis answers a write when it has it in memory. What its crash or a failover can still lose then depends on
its configuration; this is the wait for those who cannot, or do not want to, pay for `appendfsync always`
with every write, and for those whose server can be replaced by a replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

LONGEST_WAIT = timedelta(seconds=3)
"""Shorter than the socket's timeout, or the wait would be taken for a lost connection; longer than the
second that `appendfsync everysec` takes."""


@dataclass(frozen=True, slots=True)
class Durability:
    """What a write must have reached; nothing beyond the server's own answer by default.

    Attributes:
        replicas: how many replicas must have it.
        disk: whether it must be on disk, of the server and of that many replicas.
        longest_wait: after this it counts as not reached; in whole milliseconds.
    """

    replicas: int = 0
    disk: bool = False
    longest_wait: timedelta = LONGEST_WAIT

    def __bool__(self) -> bool:
        """Whether there is anything to wait for."""
        return self.replicas > 0 or self.disk

    def __str__(self) -> str:
        """What is waited for, in words.

        >>> str(Durability(1)), str(Durability(2, disk=True)), str(Durability(disk=True))
        ('1 replica', 'disk, its own and that of 2 replicas', 'disk')
        """
        replicas = f"{self.replicas} replica{'' if self.replicas == 1 else 's'}"
        if not self.disk:
            return replicas
        return f"disk, its own and that of {replicas}" if self.replicas else "disk"

    @property
    def wait(self) -> tuple[str | int, ...]:
        """The command that waits for the writes of the connection it is sent on."""
        return self._command(self.longest_wait // timedelta(milliseconds=1))

    @property
    def probe(self) -> tuple[str | int, ...]:
        """The same command with next to no wait: whether the server knows it."""
        return self._command(1)

    def is_reached(self, answer: Any) -> bool:
        """Return whether the answer to `wait` says so; an error does not.

        >>> Durability(1).is_reached(0), Durability(1).is_reached(2)
        (False, True)
        >>> [Durability(1, disk=True).is_reached(answer) for answer in ([1, 0], [0, 1], [1, 1])]
        [False, False, True]
        """
        wanted = (1, self.replicas) if self.disk else (self.replicas,)
        got = answer if isinstance(answer, Sequence) and not isinstance(answer, str) else (answer,)
        if len(got) != len(wanted) or not all(isinstance(count, int) for count in got):
            return False
        return all(count >= least for count, least in zip(got, wanted, strict=True))

    def _command(self, longest_ms: int) -> tuple[str | int, ...]:
        if self.disk:
            return ("WAITAOF", 1, self.replicas, longest_ms)
        return ("WAIT", self.replicas, longest_ms)


NO_WAIT = Durability()
"""The server's own answer is enough."""
