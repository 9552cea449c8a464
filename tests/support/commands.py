"""The command line in this process, over a test's own ledger."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import OURS
from worker.cli.app import run


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """What `--json` printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Command = Callable[..., Awaitable[Answer]]


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take everything that would configure a worker out of the environment."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


def commands_over(
    redis_url: str,
    namespace: str,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Return what runs a command over that ledger, in a thread: a command brings its own event loop."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("LEDGER_NAMESPACE", namespace)

    async def answer(*words: str) -> Answer:
        code = await asyncio.to_thread(run, words)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return answer
