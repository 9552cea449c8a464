"""Reads the API's JSON into domain values. Every byte of it is untrusted.

Owns what is required of an `ExecutionResponse` and what is forgiven: only the two uuids are
required; anything else that is missing, null, of the wrong type or absurd becomes None or "".
Nothing here raises on any input, and no payload outlives the call that read it.
"""

from __future__ import annotations

import re
from datetime import datetime

from worker.domain.executions import Execution, Status, believable, fingerprint_of
from worker.domain.text import clean_text

MAX_UUID_CHARS = 200
MAX_NAME_CHARS = 200
MAX_URL_CHARS = 2000
MAX_DATE_CHARS = 64
_SHOWN_KEYS = 10
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}", re.ASCII)
"""Names that are shown. Others may be values in the place of names: a map by member number, an echoed key."""
LARGEST_COUNT = 2**53
"""JSON numbers from here on are not exact in every reader, and no count of steps gets there."""


def usable_uuid(value: object) -> bool:
    """Whether `value` can name an execution in a URL path: short, printable, not a dot segment."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_UUID_CHARS
        and value.isprintable()
        and value not in (".", "..")
    )


def read_execution(raw: object, now: datetime) -> Execution | None:
    """Return the execution that `raw` (parsed JSON) describes; None when it names no usable uuids.

    Args:
        raw: whatever `parsing.parse_json` returned, or one item of a list.
        now: by the API's clock; dates that cannot be true as of then read as absent.
    """
    if not isinstance(raw, dict):
        return None
    uuid, version = raw.get("execution_uuid"), raw.get("workflow_version_uuid")
    if not (
        isinstance(uuid, str) and isinstance(version, str) and usable_uuid(uuid) and usable_uuid(version)
    ):
        return None
    workflow = raw.get("workflow_uuid")
    return Execution(
        uuid=uuid,
        workflow_version_uuid=version,
        status=Status.read(_short(raw.get("status"))),
        fingerprint=fingerprint_of(raw.get("input_payload")),
        workflow_uuid=workflow if isinstance(workflow, str) and usable_uuid(workflow) else "",
        workflow_name=clean_text(raw.get("workflow_name"), MAX_NAME_CHARS),
        created_at=_date(raw.get("created_at"), now),
        updated_at=_date(raw.get("updated_at"), now),
        video_url=_link(raw.get("video_url")),
        logs_url=_link(raw.get("logs_url")),
        n_steps=_count(raw.get("n_steps")),
        n_agent_actions=_count(raw.get("n_agent_actions")),
        duration_ms=_count(raw.get("duration_ms")),
    )


def _short(value: object) -> object:
    """Spare `Status.read` from lower-casing megabytes."""
    return value if isinstance(value, str) and len(value) <= MAX_DATE_CHARS else None


def _date(value: object, now: datetime) -> datetime | None:
    if not isinstance(value, str) or len(value) > MAX_DATE_CHARS:
        return None
    try:
        return believable(datetime.fromisoformat(value.strip()), now)
    except (ValueError, OverflowError):
        return None


def _link(value: object) -> str:
    """Return an http(s) address that is safe to print; anything else (`javascript:`, a file) is ""."""
    if not isinstance(value, str) or len(value) > MAX_URL_CHARS or not value.isprintable():
        return ""
    return value if value.lower().startswith(("https://", "http://")) else ""


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < LARGEST_COUNT else None


def shape_of(value: object) -> str:
    """Describe JSON for a person who has to find the right setting: names at the top, never values.

    >>> shape_of({"rows": [1], "total": 1}), shape_of([]), shape_of("secret")
    ('an object with the keys rows, total', 'an array', 'a string')
    """
    if isinstance(value, dict):
        if not value:
            return "an empty object"
        shown = list(value)[:_SHOWN_KEYS]
        names = ", ".join(str(name) if _FIELD_NAME.fullmatch(str(name)) else "?" for name in shown)
        return f"an object with the keys {names}" + (", …" if len(value) > _SHOWN_KEYS else "")
    kinds: tuple[tuple[type, str], ...] = ((list, "an array"), (str, "a string"), (bool, "a boolean"))
    return next(
        (name for kind, name in kinds if isinstance(value, kind)), "null" if value is None else "a number"
    )
