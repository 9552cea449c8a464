"""What a command ends with when it cannot do what was asked: words for a person and an exit code."""

from __future__ import annotations

NO, WRONG, AWAY = 1, 2, 3
"""Exit codes: the answer is no; usage or settings are wrong; Redis or the API cannot be reached."""


class CommandError(Exception):
    """Ends a command with a message and an exit code.

    Attributes:
        exit_code: `NO`, `WRONG` or `AWAY`.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
