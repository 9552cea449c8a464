"""The job that says that nobody works is no sign that somebody does; nor is a hint a way into a shell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from tests.support.examples import NOW
from worker import runtime
from worker.cli import pausing, resolve
from worker.domain.breaker import UNTOUCHED


@pytest.mark.parametrize(("job", "signed"), [("alert", []), ("submit", ["submit"])])
async def test_alerts_are_no_sign_of_life(
    job: str, signed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long an address takes: a worker that only says that all stands still does not work."""
    seen: list[str] = []

    @asynccontextmanager
    async def sign(_: object, of: str) -> AsyncIterator[None]:
        seen.append(of)
        yield

    monkeypatch.setattr(runtime, "signs_of_life", sign)
    ours: Any = object.__new__(runtime.Runtime)
    ours._begun = True
    ours._context = MagicMock()
    ours._context.calls.flush = AsyncMock()

    async def nothing(_: object) -> None:
        await asyncio.sleep(0)

    try:
        assert not await ours._perform(job, nothing)
    finally:
        runtime._reached.value = 0
    assert seen == signed


def test_hints_to_copy_stay_one_command() -> None:
    """Uuids come from the API: whatever they hold is a word for the shell."""
    held = resolve._may_be_its_clone("$(id)", ["a; reboot"])
    assert "kinetic-retry resolve '$(id)' --clone 'a; reboot' --reason" in held
    assert "kinetic-retry resolve 'a; reboot' --not-delivered" in held
    paused = SimpleNamespace(key="`id`", name="W", uuid="`id`")
    said = pausing._workflow_already(paused, UNTOUCHED, NOW)  # type: ignore[arg-type]
    assert "kinetic-retry resume '`id`' --reason" in said
