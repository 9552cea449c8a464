"""What the worker knows of one execution: the facts it acts on, and nothing it must not keep.

Owns the meaning of an execution's status and times and the fingerprint of its payload.
Knows neither HTTP nor Redis. The payload itself never reaches this module's objects.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

EARLIEST_BELIEVABLE = datetime(2000, 1, 1, tzinfo=UTC)
"""Dates before this are placeholders (year 1, the Unix epoch), not history."""

LATEST_BELIEVABLE_AHEAD = timedelta(days=1)
"""How far ahead of now a date may be before it is taken for nonsense instead of clock skew."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)


class Status(StrEnum):
    """The life cycle as the API names it. A status we have never heard of reads as `UNKNOWN`."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def read(cls, value: object) -> Status:
        """Return the status that `value` names; `UNKNOWN` for anything else, never an error.

        >>> Status.read("Failed"), Status.read(None), Status.read("hibernating").value
        (<Status.FAILED: 'failed'>, <Status.UNKNOWN: 'unknown'>, 'unknown')
        """
        if isinstance(value, str):
            try:
                return cls(value.strip().lower())
            except ValueError:
                return cls.UNKNOWN
        return cls.UNKNOWN

    @property
    def is_final(self) -> bool:
        """Whether the execution has ended."""
        return self in (Status.COMPLETED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a workflow, read from an untrusted answer and cleaned at the border.

    Attributes:
        uuid: opaque and non-empty; not necessarily RFC 4122.
        workflow_version_uuid: opaque; equal for an execution and its clones.
        status: see `Status`.
        fingerprint: of the payload (`fingerprint_of`); "" when the payload is absent or empty.
        workflow_uuid, workflow_name: "" when the API did not say. The name is untrusted text.
        created_at, updated_at: aware UTC by the API's clock; None when absent or unbelievable.
        video_url, logs_url: links for people, shown but never stored (they may carry signatures).
        n_steps, n_agent_actions: what the run did; None when the API did not say.
        duration_ms: how long the run took, in milliseconds; None when the API did not say.
    """

    uuid: str
    workflow_version_uuid: str
    status: Status
    fingerprint: str = ""
    workflow_uuid: str = ""
    workflow_name: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None
    video_url: str = ""
    logs_url: str = ""
    n_steps: int | None = None
    n_agent_actions: int | None = None
    duration_ms: int | None = None

    @property
    def workflow(self) -> str:
        """What its workflow is counted under: its uuid, or its version's where the API does not tell."""
        return self.workflow_uuid or self.workflow_version_uuid

    def ended_at(self, seen_at: datetime) -> datetime:
        """Return when a final execution ended: `updated_at`, else `created_at`, else when we saw it."""
        return self.updated_at or self.created_at or seen_at

    def could_be_clone_of(self, workflow_version_uuid: str, fingerprint: str) -> bool:
        """Whether this execution may be a clone of one with that version and payload.

        An absent payload on either side matches anything: a list may leave payloads out, and to
        wait for one poll too many is cheaper than to clone twice.
        """
        return self.workflow_version_uuid == workflow_version_uuid and (
            not self.fingerprint or not fingerprint or self.fingerprint == fingerprint
        )


def believable(moment: datetime | None, now: datetime) -> datetime | None:
    """Return `moment` in UTC, or None when it is absent or cannot be true as of `now`.

    A naive time is read as UTC: the API says "date-time" and servers forget the zone.
    """
    if moment is None:
        return None
    try:
        aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):  # year 1 or 9999 with an offset
        return None
    if aware < EARLIEST_BELIEVABLE or aware - now > LATEST_BELIEVABLE_AHEAD:
        return None
    return aware


def fingerprint_of(payload: Any) -> str:
    """Return a short digest that equal payloads share; "" for an absent or empty one.

    22 base-16 digits (88 bits) of SHA-256 over canonical JSON: key order and white space do not
    matter. It cannot be turned back into the payload; it only tells two payloads apart. A payload
    nested too deeply to be written out reads as absent: it then matches any, which delays and never doubles.

    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    >>> fingerprint_of(None), fingerprint_of({}), len(fingerprint_of({"a": 1}))
    ('', '', 22)
    """
    if payload is None or payload in ({}, [], ""):
        return ""
    try:
        text = _CANONICAL.encode(payload)
    except (RecursionError, TypeError, ValueError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:22]
