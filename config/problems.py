"""What is wrong with the configuration, for the person who has to change it.

Owns the wording of a problem: one line with the variable, what it got and what it takes. Nothing here
reads a variable, and no text that enters here may still hold a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from config.redaction import clipped, printable

LONGEST_SHOWN = 80
"""Characters of a wrong value that are repeated to the person."""

LONGEST_PATH = 500
"""The same for paths, whose end matters most."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change before the worker can start.

    Attributes:
        variable: the variable to change, or the name that is not one of ours.
        got: what was found, ready to be shown (see `quoted`); None when it is not set.
        takes: what would be right; finishes the sentence "takes …".
        place: where inside a file that the variable names; "" for the variable's own value.
        complaint: says it in other words than "got …, takes …", where those do not fit.
    """

    variable: str
    got: str | None = None
    takes: str = ""
    place: str = ""
    complaint: str = ""

    def __str__(self) -> str:
        where = f"{self.variable}, {self.place}" if self.place else self.variable
        found = "is not set" if self.got is None else f"got {self.got}"
        return printable(f"{where}: {self.complaint or f'{found}, takes {self.takes}'}")


class SettingsError(Exception):
    """The configuration cannot be used; `problems` says why, in the order of the reference.

    `str(error)` is one line per problem, free of secrets.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def quoted(text: str, limit: int = LONGEST_SHOWN) -> str:
    r"""Return a wrong value as it is shown: in quotes, on one line, cut when longer than `limit`.

    >>> print(quoted("so\non"))
    "so\non"
    """
    return f'"{printable(clipped(text, limit))}"'


def one_of(names: Iterable[str]) -> str:
    """Return a list as people write it.

    >>> one_of(["json", "console"]), one_of(["a", "b", "c"])
    ('json or console', 'a, b or c')
    """
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
