"""redis-py's connection, made cheap where each commit pays for it (`docs/performance.md`).

Commands are written down by hiredis: in Python the keys and arguments of a script cost more than all else.
And redis-py bounds each write by a task and each answer by a scope of its own, a tenth of what a retry costs;
here one timer looks now and then how long somebody has been waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, TimeoutError  # noqa: A004  # redis-py's name


class LeanConnection(AbstractConnection):
    """Mixed into the class of connection that a URL asks for. Its `socket_timeout` (s) bounds as ever."""

    def __init__(self, *args: Any, socket_timeout: float, **kwargs: Any) -> None:
        super().__init__(*args, socket_timeout=None, **kwargs)
        self._bound_s = socket_timeout
        self._waits_since_s: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._is_overdue = False

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it is sent."""
        if isinstance(args[0], str) and " " not in args[0]:
            try:
                return [hiredis.pack_command(args)]
            except (TypeError, UnicodeEncodeError):  # a lone surrogate, say, which redis-py replaces
                pass
        return super().pack_command(*args)

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Return many commands in one piece: each piece is written by a call of its own."""
        return [b"".join(piece for command in commands for piece in self.pack_command(*command))]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send; raises redis-py's errors, `TimeoutError` when the server takes nothing for too long."""
        if not self.is_connected:  # that is bounded by itself
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]  # redis-py leaves it so
        await self._bounded(super().send_packed_command(command, check_health=False))

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return one answer; raises redis-py's errors, `TimeoutError` when none comes for too long."""
        return await self._bounded(super().read_response(*args, **kwargs))

    async def _bounded(self, work: Awaitable[Any]) -> Any:
        self._waits_since_s = time.monotonic()  # the loop's clock as well; to ask for the loop costs more
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(self._bound_s, self._look)
        try:
            return await work
        except RedisError as exc:
            if self._is_overdue:  # found out here, or while what was sent before was being written
                self._is_overdue = False
                raise TimeoutError(f"no answer within {self._bound_s:g} s") from exc
            raise
        finally:
            self._waits_since_s = None

    def _look(self) -> None:
        """End the connection if somebody has waited for too long; look again while somebody waits."""
        self._watch = None
        if self._waits_since_s is None:
            return
        left_s = self._waits_since_s + self._bound_s - time.monotonic()
        if left_s > 0:
            self._watch = asyncio.get_running_loop().call_later(left_s, self._look)
        elif self._writer is not None:
            self._is_overdue = True
            self._writer.transport.abort()
