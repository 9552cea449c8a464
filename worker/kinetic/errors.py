"""What can be wrong with a GET, in words for people and classes for the engine.

    KineticError
    ├── NotFound       404: no such execution, or no list at this path
    ├── Unauthorized   401, 403: the key is missing, wrong, or not allowed to
    ├── Throttled      429, 503: the API asks for a rest of `pause`
    ├── Unreachable    no answer, half an answer, or a 5xx: ask again later
    └── Unreadable     an answer that is not what was asked for: a setting is probably wrong

A retry call raises none of these: each of its ends is a value of `worker.domain.delivery`, because
there the question is not what went wrong but whether a clone exists.
"""

from __future__ import annotations

from datetime import timedelta


class KineticError(Exception):
    """Base of everything a GET raises. `str()` is one readable line without secrets or payloads.

    Attributes:
        reason: short and stable, e.g. `read_timeout`.
        detail: what happened and what a person can do.
        http_status: None when no answer came.
    """

    def __init__(self, reason: str, detail: str = "", http_status: int | None = None) -> None:
        super().__init__(reason, detail, http_status)  # as args, so that pickling rebuilds it
        self.reason = reason
        self.detail = detail
        self.http_status = http_status

    def __str__(self) -> str:
        status = "" if self.http_status is None else f" (HTTP {self.http_status})"
        return f"{self.reason}{status}: {self.detail}" if self.detail else f"{self.reason}{status}"


class NotFound(KineticError):
    """404: no such execution, or no list at the configured path."""


class Unauthorized(KineticError):
    """401 or 403: the key is missing, wrong, or not allowed to do this."""


class Throttled(KineticError):
    """429 or 503: rest before the next call of any kind.

    Attributes:
        pause: how long, between one second and one hour.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        http_status: int | None = None,
        pause: timedelta = timedelta(seconds=5),
    ) -> None:
        super().__init__(reason, detail, http_status)
        self.args = (reason, detail, http_status, pause)
        self.pause = pause


class Unreachable(KineticError):
    """No answer, half an answer, or a server error: worth another try later."""


class Unreadable(KineticError):
    """An answer that is not what was asked for; `detail` names the `KINETIC_*` setting to look at."""
