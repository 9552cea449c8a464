"""The connection to Redis: from a URL to a client, and from redis-py's errors to the ledger's.

Every command that the ledger sends is safe to send twice, so a lost answer is simply asked for again
(redis-py does that by itself; see `commit.lua` for how a write recognises itself).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004  # redis-py's name
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004  # redis-py's name
)

from worker.ledger.durability import NO_WAIT, Durability
from worker.ledger.errors import LedgerError, LedgerUnavailable
from worker.ledger.lean import LeanConnection

SOCKET_TIMEOUT_S = 5.0
_RESENDS = 2
_UNAVAILABLE = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError, OSError)
_UNAVAILABLE_CODES = (
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
    "READONLY",
)


class Connection:
    """A few pooled connections to one Redis, for one event loop.

    Attributes:
        durability: what an intent must have reached before its call may leave; see `fenced`.
    """

    def __init__(self, url: str, *, max_connections: int = 8, durability: Durability = NO_WAIT) -> None:
        self.durability = durability
        self._client = _client(url, max_connections)
        # redis-py's pool does not wait for a free connection, it raises: with a slow server, the command
        # too many would look like a server that is away.
        self._free = asyncio.Semaphore(max_connections)

    async def pipelined(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one round trip; return an answer or an exception for each.

        Raises:
            LedgerUnavailable: the server could not be reached or did not answer.
        """
        return await self._pipelined(commands)

    async def command(self, *command: Any) -> Any:
        """Send one command and return its answer; raises the ledger's errors."""
        async with self._in_use():
            return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it so

    async def require_durability(self) -> None:
        """Return when the server can do what `durability` asks for.

        Raises:
            LedgerError: it cannot, whatever its replicas do.
        """
        if not self.durability:
            return
        try:
            await self.command(*self.durability.probe)
        except LedgerUnavailable:
            raise
        except LedgerError as exc:
            cure = "check LEDGER_WAIT_REPLICAS and LEDGER_WAIT_DISK"
            raise LedgerError(f"Redis cannot wait for {self.durability}: {exc}; {cure}") from exc

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    @staticmethod
    def translated(error: Exception) -> Exception:
        """Return the ledger's error for one of redis-py's."""
        if isinstance(error, LedgerError):
            return error
        if isinstance(error, NoScriptError):  # after it was loaded a moment ago: someone flushes scripts
            return LedgerUnavailable("Redis lost the scripts that it was just given")
        if isinstance(error, AuthenticationError):
            # Someone rotates a password: what is in the air must still be recorded once it fits again.
            return LedgerUnavailable(
                "Redis refused our credentials: check the user and password in REDIS_URL"
            )
        words = str(error)
        if isinstance(error, _UNAVAILABLE) or words.startswith(_UNAVAILABLE_CODES):
            return LedgerUnavailable(f"Redis is not available ({_first_line(words) or type(error).__name__})")
        return LedgerError(f"Redis refused a command ({_first_line(words)})")

    def fenced(self, key: str) -> FencedConnection:
        """Return the same connection, ending what is sent with a wait for `durability`.

        Args:
            key: a hash; a field of it is written before the wait.
        """
        return FencedConnection(self._client, self._free, self.durability, key)

    async def _pipelined(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        async with self._in_use(), self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        for answer in answers:
            # The connection was lost half-way: what came before is not known to us either.
            if isinstance(answer, (ConnectionError, TimeoutError)):
                raise self.translated(answer) from answer
        if any(isinstance(answer, ReadOnlyError) for answer in answers):
            await self._connect_anew()
        return answers

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[None]:
        async with self._free:
            try:
                yield
            except ReadOnlyError as exc:
                await self._connect_anew()
                raise self.translated(exc) from exc
            except (RedisError, OSError) as exc:
                raise self.translated(exc) from exc

    async def _connect_anew(self) -> None:
        """Let the next command look up the address again: after a failover a name leads to another server.

        The server that was demoted keeps its connections open, and would turn down every write for ever.
        """
        await self._client.connection_pool.disconnect(inuse_connections=False)


class FencedConnection(Connection):
    """A connection whose pipelines end with a wait until what they wrote is as durable as asked for.

    Attributes:
        reached: whether every pipeline so far was confirmed in time.
    """

    def __init__(self, client: Redis, free: asyncio.Semaphore, durability: Durability, key: str) -> None:
        self.durability = durability
        self._client = client
        self._free = free
        self._key = key
        self.reached = True

    async def pipelined(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands and the wait in one round trip; return the answers of the commands."""
        # The wait is for the last write of its own connection. A script that was sent again and recognises
        # its earlier success writes nothing: without a write of our own the wait would then be for nothing.
        fence: list[Sequence[Any]] = [("HSET", self._key, "fence", 1), self.durability.wait]
        *answers, written, confirmed = await self._pipelined([*commands, *fence])
        if isinstance(written, Exception) or not self.durability.is_reached(confirmed):
            self.reached = False
        return answers


class _SentinelConnection(LeanConnection, SentinelManagedConnection):
    """Asks the Sentinels for the master whenever it connects.

    redis-py asks when a connection is taken from the pool; to send a command again it connects to the same
    address. A master that died and came back would be written to until the Sentinels demote it, and what was
    written is then lost.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a command, to the master of this moment."""
        if not self.is_connected:
            await self._connect_retry()  # type: ignore[no-untyped-call]  # redis-py leaves it so
        await super().send_packed_command(command, check_health)


def _client(url: str, max_connections: int) -> Redis:
    client = _plain_client(url, max_connections)
    pool = client.connection_pool
    kind = pool.connection_class
    if not issubclass(kind, LeanConnection):
        pool.connection_class = type(kind.__name__, (LeanConnection, kind), {})
    return client


def _plain_client(url: str, max_connections: int) -> Redis:
    options: dict[str, Any] = {
        "decode_responses": True,
        "encoding_errors": "replace",  # a damaged value is one bad record, not a crash
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), _RESENDS),
        "max_connections": max_connections,
    }
    parts = urlsplit(url)
    if parts.scheme != "sentinel":
        return Redis.from_url(url, **options)
    hosts, database, service, credentials = sentinel_address(url)
    options |= {"db": database, "connection_class": _SentinelConnection, **credentials}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it so
        hosts, socket_timeout=SOCKET_TIMEOUT_S, sentinel_kwargs={"socket_timeout": SOCKET_TIMEOUT_S}
    )
    master: Redis = sentinel.master_for(service, **options)
    return master


def sentinel_address(url: str) -> tuple[list[tuple[str, int]], int, str, dict[str, str]]:
    """Return the sentinels, database, service name and credentials of a Sentinel URL.

    >>> sentinel_address("sentinel://:pw@a:26379,b:26380/2?service=cache")
    ([('a', 26379), ('b', 26380)], 2, 'cache', {'password': 'pw'})
    >>> sentinel_address("sentinel://a")
    ([('a', 26379)], 0, 'mymaster', {})
    """
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    pairs = [host.rpartition(":") if ":" in host else (host, "", "26379") for host in hosts.split(",")]
    credentials = {"username": unquote(user), "password": unquote(password)}
    service = parse_qs(parts.query).get("service", ["mymaster"])[0]
    database = int(parts.path.strip("/") or 0)
    given = {name: value for name, value in credentials.items() if value}
    return [(host, int(port)) for host, _, port in pairs], database, service, given


def _first_line(words: str) -> str:
    return words.splitlines()[0][:200] if words else ""
