"""The engine in one process: the real ledger on a real server, and a scripted API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Answer, Command, commands_over, forget_settings
from tests.support.examples import NO_LIMITS, alone
from tests.support.scripted_api import ScriptedApi
from worker.domain.policy import Jitter, Policy, PolicyBook
from worker.engine.context import Context, Options
from worker.ledger import Ledger

AT_ONCE = alone(Policy(max_attempts=3, base_delay=timedelta(0), jitter=Jitter.NONE))
QUICK = Options(
    request_bound=timedelta(seconds=1),
    discovery_interval=timedelta(0),
    survey_patience=timedelta(0),
    submit_lease=timedelta(seconds=10),
    watch_interval=timedelta(0),
    resolve_interval=timedelta(0),
    resolve_grace=timedelta(0),
    limits=NO_LIMITS,
)


@pytest.fixture
def api() -> ScriptedApi:
    return ScriptedApi()


@pytest.fixture
async def ctx(ledger: Ledger, api: ScriptedApi) -> Context:
    await ledger.begin(timedelta(minutes=10))  # failures of the last ten minutes are ours
    return Context(ledger, api, PolicyBook(AT_ONCE), QUICK, random=lambda: 0.0)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def with_options(ctx: Context) -> Callable[..., Context]:
    def change(**options: Any) -> Context:
        ctx.options = replace(ctx.options, **options)
        return ctx

    return change


@pytest.fixture
def command(
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run a command over this test's own ledger; what the engine logged before is not its output."""
    forget_settings(monkeypatch)
    over = commands_over(redis_url, namespace, tmp_path, monkeypatch, capsys)

    async def answer(*words: str) -> Answer:
        capsys.readouterr()
        return await over(*words)

    return answer
