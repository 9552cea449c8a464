"""A real server for the model's scripts, and the model's report at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.model.calls import Server
from tests.support.redis_server import redis_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with redis_server() as running:
        server = Server(f"redis://127.0.0.1:{running.port}/0")
        yield server
        server.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what the model test really did: the claim of its docstring, to be checked."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == "model":
                terminalreporter.section("model test")
                terminalreporter.write_line(value)
