"""`python -m tests.rabbitmq`: workers and beats over a real RabbitMQ: killed, stalled, full."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.rabbitmq.server import INSTALL, program


def main() -> int:
    """Run the tests of this package; fail where RabbitMQ is missing, rather than skip all of them."""
    if program() is None:
        sys.exit(INSTALL)
    return int(pytest.main(["-v", "--no-header", str(Path(__file__).parent), *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
