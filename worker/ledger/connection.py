"""The connection to Redis: from a URL to a client, and from redis-py's errors to the ledger's.

Every command that the ledger sends is safe to send twice, so a lost answer is simply asked for again
(redis-py does that by itself; see `commit.lua` for how a write recognises itself).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
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

from worker.ledger.errors import LedgerError, LedgerUnavailable

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
    """A few pooled connections to one Redis, for one event loop."""

    def __init__(self, url: str, *, max_connections: int = 8) -> None:
        self._client = _client(url, max_connections)

    async def pipelined(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one round trip; return an answer or an exception for each.

        Raises:
            LedgerUnavailable: the server could not be reached or did not answer.
        """
        async with self._translating(), self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        for answer in answers:
            # The connection was lost half-way: what came before is not known to us either.
            if isinstance(answer, (ConnectionError, TimeoutError)):
                raise self.translated(answer) from answer
        return answers

    async def command(self, *command: Any) -> Any:
        """Send one command and return its answer; raises the ledger's errors."""
        async with self._translating():
            return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it so

    async def load_scripts(self, sources: Iterable[str]) -> None:
        """Give the server scripts that it does not have."""
        for answer in await self.pipelined([("SCRIPT", "LOAD", source) for source in sources]):
            if isinstance(answer, Exception):
                raise self.translated(answer)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    @staticmethod
    def translated(error: Exception) -> Exception:
        """Return the ledger's error for one of redis-py's."""
        if isinstance(error, (LedgerError, NoScriptError)):
            return error
        if isinstance(error, AuthenticationError):
            return LedgerError("Redis refused our credentials: check the user and password in REDIS_URL")
        words = str(error)
        if isinstance(error, _UNAVAILABLE) or words.startswith(_UNAVAILABLE_CODES):
            return LedgerUnavailable(f"Redis is not available ({_first_line(words) or type(error).__name__})")
        return LedgerError(f"Redis refused a command ({_first_line(words)})")

    @asynccontextmanager
    async def _translating(self) -> AsyncIterator[None]:
        try:
            yield
        except (RedisError, OSError) as exc:
            raise self.translated(exc) from exc


def _client(url: str, max_connections: int) -> Redis:
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
    options |= {"db": database, **credentials}
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
