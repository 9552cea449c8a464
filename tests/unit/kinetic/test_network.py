"""What a connection says of itself before it is used again."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from worker.kinetic.network import _Protocol, _Stream


class _Closing:
    """A TLS transport that has lost its socket and has not said so yet, or one whose socket is closed."""

    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.sock if name == "socket" else None


@pytest.mark.parametrize("closed", [None, socket.socket()])
async def test_a_connection_that_is_being_closed_is_not_used(closed: socket.socket | None) -> None:
    """For one turn of the event loop nobody has told its protocol."""
    if closed:
        closed.close()
    stream = _Stream(cast(asyncio.Transport, _Closing(closed)), _Protocol())
    assert stream.get_extra_info("is_readable") is True
