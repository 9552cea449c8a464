"""What kind of Redis this is, as far as the promises of the ledger depend on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.ledger.clock import from_ms
from worker.ledger.connection import Connection
from worker.ledger.errors import LedgerError
from worker.ledger.gate import as_mapping


@dataclass(frozen=True, slots=True)
class Server:
    """A Redis server. What it would not tell is None.

    Attributes:
        product: such as `Valkey 9.1.2` or `Redis 7.4.0`.
        is_replica: whether it follows another server and takes no writes itself.
        append_only: whether every write goes to a log on disk.
        fsync: when that log reaches the disk: `always`, `everysec` or `no`.
        eviction: what it throws away when memory is short; only `noeviction` loses nothing.
        replicas: how many are connected and in step.
        clock_ahead: its clock minus this machine's.
    """

    product: str
    is_replica: bool
    append_only: bool | None
    fsync: str | None
    eviction: str | None
    replicas: int | None
    clock_ahead: timedelta


async def inspect(connection: Connection) -> Server:
    """Ask the server about itself; raises the ledger's errors when it cannot be reached."""
    asked_at = datetime.now(UTC)
    seconds, micros = await connection.command("TIME")
    here = asked_at + (datetime.now(UTC) - asked_at) / 2
    told = _fields(await connection.command("INFO"))
    valkey = told.get("valkey_version")
    product = f"Valkey {valkey}" if valkey else f"Redis {told.get('redis_version', 'of unknown version')}"
    enabled = told.get("aof_enabled")
    return Server(
        product=product,
        is_replica=told.get("role") == "slave",
        append_only=None if enabled is None else enabled == "1",
        fsync=await _configured(connection, "appendfsync"),
        eviction=told.get("maxmemory_policy") or await _configured(connection, "maxmemory-policy"),
        replicas=_replicas(told),
        clock_ahead=from_ms(int(seconds) * 1000 + int(micros) / 1000) - here,
    )


async def _configured(connection: Connection, name: str) -> str | None:
    """Return a directive; None where CONFIG is forbidden, as on many managed servers."""
    try:
        return as_mapping(await connection.command("CONFIG", "GET", name)).get(name)
    except LedgerError:
        return None


def _replicas(told: dict[str, str]) -> int | None:
    """Count the replicas that have caught up; one that still loads its copy confirms nothing."""
    if "connected_slaves" not in told:
        return None
    return sum("online" in text for name, text in told.items() if re.fullmatch(r"slave[0-9]+", name))


def _fields(told: Any) -> dict[str, str]:
    """Return INFO's answer as a mapping: redis-py parses it, or hands over the text."""
    if isinstance(told, dict):
        return {str(name): str(value) for name, value in told.items()}
    pairs = (line.partition(":") for line in str(told).splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
