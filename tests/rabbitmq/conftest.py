"""Without RabbitMQ nothing here can run: then it says so, and how to install it."""

from __future__ import annotations

import pytest

from tests.rabbitmq.server import INSTALL, program


@pytest.fixture(autouse=True, scope="session")
def _installed() -> None:
    if program() is None:
        pytest.skip(INSTALL)
