"""Who is at the keyboard, and why they decided: what is put on record with a decision."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from config.redaction import Redactor
from worker.domain.text import clean_text

MAX_WHO_CHARS = 100
MAX_WHY_CHARS = 300


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who decides.

    Attributes:
        by: `user@host` as the operating system has it: a note for colleagues, no proof of identity.
        why: their words on one line; never empty.

    Raises:
        ValueError: there is nothing readable in `why`.
    """

    by: str
    why: str

    def __post_init__(self) -> None:
        if not self.why:
            raise ValueError("takes words that a colleague can read")

    def __str__(self) -> str:
        return f"{self.by}: {self.why}"

    @classmethod
    def here(cls, why: str, secrets: Iterable[str]) -> Person:
        """Return the person who runs this process, with their words made safe to store and print."""
        told = Redactor(secrets).text(why)  # a pasted command line may hold a key
        return cls(
            clean_text(f"{_user()}@{socket.gethostname()}", MAX_WHO_CHARS), clean_text(told, MAX_WHY_CHARS)
        )


def _user() -> str:
    # Not from the environment, where anybody may write any name.
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return f"uid-{os.getuid()}"
