"""Endpoints are checked when they are built, and never show their key."""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from worker.kinetic import Endpoint, KineticError, Throttled

GOOD = Endpoint("https://kinetic.test/v1/", "kk-secret-key", timedelta(seconds=30), timedelta(seconds=5), 50)


def test_the_key_is_not_in_the_repr() -> None:
    """A logged endpoint tells no secret."""
    assert "kk-secret" not in repr(GOOD)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "kinetic.test"},
        {"base_url": "ftp://kinetic.test"},
        {"base_url": "https://"},
        {"base_url": "https://kinetic.test/?a=1"},
        {"base_url": "https://user:pw@kinetic.test"},
        {"base_url": "https://kinetic.test:port"},
        {"api_key": ""},
        {"api_key": "kk-secret\r\nx-evil: 1"},
        {"api_key": "kk-secret-ü"},
        {"api_key": " kk-secret"},
        {"timeout": timedelta(0)},
        {"connect_timeout": timedelta(seconds=-1)},
        {"max_connections": 0},
    ],
)
def test_what_could_never_work_is_not_built(wrong: dict[str, Any]) -> None:
    """With one line for people that does not repeat the key or a password."""
    with pytest.raises(ValueError, match=r"base_url|api_key|timeout|max_connections") as caught:
        replace(GOOD, **wrong)
    told = "".join(traceback.format_exception_only(caught.value))
    assert "kk-secret" not in told
    assert "pw" not in told


def test_errors_read_as_one_line() -> None:
    """Reason, status and detail, whichever are there."""
    assert str(KineticError("read_timeout", "too slow")) == "read_timeout: too slow"
    assert str(Throttled("unavailable", http_status=503)) == "unavailable (HTTP 503)"
