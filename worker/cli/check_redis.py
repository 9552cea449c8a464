"""What `check` says of Redis: whether it is there, and what it could forget."""

from __future__ import annotations

from collections.abc import Iterable

from config.settings import Settings
from worker.cli.finding import MOST_SKEW, Finding
from worker.cli.output import name, rough
from worker.ledger import Connection, LedgerError
from worker.ledger.durability import Durability
from worker.ledger.inspection import Server, inspect


async def redis_findings(config: Settings) -> list[Finding]:
    """Examine the server of the ledger."""
    durability = Durability(config.ledger.wait_replicas, config.ledger.wait_disk)
    connection = Connection(config.redis_url.get_secret_value(), durability=durability)
    try:
        server = await inspect(connection)
        if server.is_replica:
            cure = (
                "point REDIS_URL at the master, or at its Sentinels: sentinel://host:26379/0?service=mymaster"
            )
            return [Finding("wrong", "redis", f"{server.product} answers, as a read-only replica", cure)]
        findings = [Finding("ok", "redis", f"{server.product} answers")]
        findings += [_persistence(server, durability), *await _waiting(connection, server)]
    except LedgerError as error:
        return [Finding("wrong", "redis", str(error), "check REDIS_URL and that Redis is up")]
    finally:
        await connection.aclose()
    return [*findings, _eviction(server), _clock(server)]


def _persistence(server: Server, durability: Durability) -> Finding:
    about = "persistence"
    if server.append_only is None:
        cure = "make sure that it writes an append-only file"
        return Finding("warning", about, "the server does not tell", cure)
    if not server.append_only:
        found = "nothing is written to disk as it happens"
        if durability.replicas:
            cure = "set appendonly yes: a master that comes back empty empties its replicas, too"
            return Finding("warning", about, f"{found}; replicas have every intent", cure)
        cure = "set appendonly yes and appendfsync always, or a crash of Redis can lead to second clones"
        return Finding("wrong", about, found, cure)
    if server.fsync is None:
        found = "append-only; when it reaches the disk cannot be read"
        return Finding("warning", about, found, "appendfsync always")
    found = f"append-only, fsync {name(server.fsync)}"
    if server.fsync == "always" or durability:
        return Finding("ok", about, found)
    cure = "set appendfsync always, or LEDGER_WAIT_DISK=true with appendfsync everysec: "
    cure += "a crash can lose the last intents, and their calls be sent twice"
    return Finding("warning", about, f"append-only, but fsync {name(server.fsync)}", cure)


async def _waiting(connection: Connection, server: Server) -> Iterable[Finding]:
    """Compare what intents wait for with what there is: a wait in vain is a worker that sends nothing."""
    about, durability = "replicas", connection.durability
    connected = _replicas(server.replicas)
    if durability:
        try:
            await connection.require_durability()
        except LedgerError as error:
            cure = "LEDGER_WAIT_DISK needs appendonly yes and Redis 7.2 or Valkey; set it to false"
            return [Finding("wrong", about, str(error), cure)]
    if durability.disk and server.fsync == "no":
        cure = "set appendfsync everysec, or LEDGER_WAIT_DISK=false: as it is, no call ever leaves"
        return [Finding("wrong", about, "intents wait for a disk that is never waited for", cure)]
    if server.replicas is not None and server.replicas < durability.replicas:
        cure = f"LEDGER_WAIT_REPLICAS is {durability.replicas}: no call leaves before there are as many"
        return [Finding("wrong", about, f"{connected} connected", cure)]
    if durability:
        return [
            Finding("ok", about, f"{connected} connected; a call waits until its intent is on {durability}")
        ]
    if server.replicas:
        cure = "set LEDGER_WAIT_REPLICAS=1 if one may take over: what it does not have yet is lost then"
        return [Finding("warning", about, f"{connected} connected, no call waits for any", cure)]
    return []


def _eviction(server: Server) -> Finding:
    if server.eviction == "noeviction":
        return Finding("ok", "eviction", "noeviction")
    if server.eviction is None:
        return Finding("warning", "eviction", "cannot be read", "make sure that it is noeviction")
    cure = "set maxmemory-policy noeviction: a record that is evicted is a failure retried anew"
    return Finding("wrong", "eviction", name(server.eviction), cure)


def _clock(server: Server) -> Finding:
    off = abs(server.clock_ahead)
    found = f"{rough(off)} from this machine's"
    if off < MOST_SKEW:
        return Finding("ok", "redis clock", found)
    cure = "leases follow Redis, so nothing breaks; log times and ticks differ: run NTP"
    return Finding("warning", "redis clock", found, cure)


def _replicas(count: int | None) -> str:
    if count is None:
        return "an unknown number of replicas"
    return f"{count} replica{'' if count == 1 else 's'}"
