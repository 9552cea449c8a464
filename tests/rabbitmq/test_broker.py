"""RabbitMQ as the broker by `CELERY_BROKER_URL` alone: in good weather, killed, stalled, cut off, full.

Each time: failures come while it is in trouble, and when it is over every one has its verdict, none was
cloned twice, and worker and beat have each said once that it was away and once that it is back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from tests.rabbitmq.server import RabbitMQ, rabbitmq
from tests.support.accounts import keep_apart, two_accounts
from tests.support.daemons import Daemons, daemons, wait_until
from tests.support.proxy import Proxy, tcp_proxy
from tests.support.redis_server import free_port, redis_server
from tests.support.simulation import SimulatorHandle, start_simulator
from worker.heartbeat import Vitals

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]

AGAIN_WITHIN_S = 60.0
FAILURES = 15
EVERYTHING = 0.4
"""The share of the memory above which it takes no more messages; its default."""


@dataclass
class Installation:
    """Worker, beat, their Redis and a proxy before their RabbitMQ."""

    node: RabbitMQ
    proxy: Proxy
    simulator: SimulatorHandle
    held: Daemons
    verdicts: int = 0
    marks: list[int] = field(default_factory=list)

    def begin(self, workers: int = 1) -> None:
        """Start workers and a beat; what is failing from here on is theirs."""
        self.held.run_until_read(workers=workers)
        self.workflow = self.simulator.add_workflow("Claims", "recovers_after", retries=2)
        self.fail()
        self.settle()
        self.marks = self.held.marks()

    def fail(self, count: int = FAILURES) -> None:
        """Let so many more executions fail."""
        self.verdicts += count
        self.simulator.fail(self.workflow, count)

    def settle(self, within_s: float = AGAIN_WITHIN_S) -> None:
        """Wait until all that failed has recovered, and fail unless each was cloned once."""
        assert self.held.settle(self.verdicts, within_s)["recovered"] == self.verdicts
        record = self.simulator.record()
        assert record["duplicates"] == []
        assert record["clones"] == 2 * self.verdicts  # by its own book, none too many either

    def said(self, *events: str) -> list[list[str]]:
        """Return which of these events each process has said since it began."""
        return [
            [line["event"] for line in lines if line["event"] in events]
            for lines in self.held.since(self.marks)
        ]

    def health(self, role: str) -> str:
        """Return what `health` says of a role."""
        return self.held.run("health", role).stdout

    def wait_for_one_outage(self) -> None:
        """Return when worker and beat have each said that the broker was away, and is back, and no more."""
        outage = ["broker_unavailable", "broker_back"]
        wait_until(lambda: all(each[-1:] == outage[-1:] for each in self.said(*outage)), "it is back", 30)
        assert self.said(*outage) == [outage, outage], self.held.text()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture
def at(node: RabbitMQ, tmp_path: Path) -> Iterator[Installation]:
    with installation(node, tmp_path) as held:
        yield held


@contextmanager
def installation(node: RabbitMQ, directory: Path) -> Iterator[Installation]:
    """Hold everything but worker and beat. Their queues are of their own, since the node is shared."""
    with (
        redis_server(appendonly="yes", appendfsync="always") as server,
        start_simulator() as simulator,
        tcp_proxy(node.port) as proxy,
        daemons(
            directory,
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY=simulator.api_key,
            REDIS_URL=f"redis://127.0.0.1:{server.port}/0",
            CELERY_BROKER_URL=node.url.replace(str(node.port), str(proxy.port)),
            LEDGER_NAMESPACE=directory.name,
            TMPDIR=str(directory),
        ) as held,
    ):
        yield Installation(node, proxy, simulator, held)


def test_in_good_weather(at: Installation) -> None:
    """Two workers: verdicts, siblings, tracking, the doctor, health, a warm stop, and not one warning."""
    at.held.env |= {"SUBMIT_BATCH": "5", "SUBMIT_CONCURRENCY": "2", "WORKER_CONCURRENCY": "1"}
    at.begin(workers=2)
    at.fail(60)
    at.settle()
    submitted = {line["task_id"] for line in at.held.events("retry_submitted")}
    assert len(submitted) > 2
    assert all(any(line["event"] == "retry_submitted" for line in log) for log in at.held.since()[:2])
    found = {each["about"]: each for each in json.loads(at.held.run("check", "--json").stdout)}
    assert found["broker"]["verdict"] == "ok"
    assert found["broker"]["found"].startswith("RabbitMQ ")
    assert at.health("worker").startswith("worker: well")
    assert at.health("beat").startswith("beat: well")
    assert at.held.status()["ticks"]["submit"] is not None
    for daemon in at.held.all:
        assert daemon.stop() == 0
    assert {line["level"] for line in at.held.lines()} == {"info"}, at.held.text()


def test_another_program_has_executions_tracked(at: Installation) -> None:
    """As docs/track.md says; and RabbitMQ is killed before a worker comes: what it confirmed it still has."""
    at.held.env |= {"DISCOVERY_MODE": "track"}
    workflow = at.simulator.add_workflow("Claims", "recovers_after", retries=1)
    failed = at.simulator.fail(workflow, 3)
    app = Celery(broker=at.node.url, set_as_current=False)
    app.conf.broker_transport_options = {"confirm_publish": True}
    app.send_task(
        "kinetic_retry.track",
        args=[failed],
        queue=f"{at.held.env['LEDGER_NAMESPACE']}.looks",
        ignore_result=True,
    )
    app.close()
    at.node.kill()
    at.node.start()
    at.held.start("worker")
    at.held.start("beat")
    assert at.held.settle(3)["recovered"] == 3
    assert at.simulator.record()["duplicates"] == []


def test_killed_and_started_again(at: Installation) -> None:
    """It is away for some seconds in the middle of the work."""
    at.begin()
    at.fail()
    at.node.kill()
    for role in ("worker", "beat"):
        wait_until(lambda role=role: "no broker" in at.health(role), f"{role} says so", 30)  # type: ignore[misc]
    at.fail()
    at.node.start()
    at.wait_for_one_outage()
    at.settle()
    assert at.health("worker").startswith("worker: well")


def test_killed_together_with_the_worker(at: Installation) -> None:
    """Calls are in the air, messages under way: what was called is found out, and nothing is called twice."""
    at.held.env |= {"KINETIC_TIMEOUT": "2s", "KINETIC_CONNECT_TIMEOUT": "1s", "SUBMIT_LEASE": "6s"}
    at.held.env |= {"RESOLVE_GRACE": "2s"}
    at.begin()
    at.simulator.faults({"operation": "retry", "kind": "latency", "seconds": 1})
    at.fail()
    at.simulator.wait_until(lambda record: record["most_concurrent"].get("retry", 0) > 1)
    at.held.all[0].signal_group(signal.SIGKILL)
    at.node.kill()
    at.simulator.clear_faults()
    at.node.start()
    at.held.start("worker")
    at.settle(90)


def test_stalled(at: Installation) -> None:
    """It is stopped: it takes what is sent and answers nothing. Health says so in both, and stays green."""
    at.begin()
    at.node.signal(signal.SIGSTOP)
    try:
        at.fail()
        for role in ("worker", "beat"):
            wait_until(lambda role=role: "no broker" in at.health(role), f"{role} says so", 60)  # type: ignore[misc]
            assert at.held.run("health", role).returncode == 0
    finally:
        at.node.signal(signal.SIGCONT)
    at.settle()
    at.wait_for_one_outage()


def test_cut_off(at: Installation) -> None:
    """Their connections stay open and are dead, as behind a firewall that forgot them; new ones work."""
    at.begin()
    at.proxy.strand()
    began_s = time.monotonic()
    at.fail()
    at.settle()
    assert time.monotonic() - began_s < AGAIN_WITHIN_S


def test_queues_deleted(at: Installation) -> None:
    """Someone tidies up. The worker makes its queues again."""
    at.begin()
    for queue in at.node.queues():
        at.node.ask("delete_queue", queue)
    at.fail()
    at.settle()


def test_memory_full(at: Installation) -> None:
    """It takes no messages, and says so to nobody who only writes. Beat notices, and ends when told."""
    at.begin()
    at.node.ask("set_vm_memory_high_watermark", "absolute", "1000")
    try:
        wait_until(lambda: "no broker" in at.health("beat"), "beat says so", 30)
        assert at.held.all[1].stop() == 0
    finally:
        at.node.ask("set_vm_memory_high_watermark", str(EVERYTHING))
    (said,) = [line["detail"] for line in at.held.events("broker_unavailable")]
    assert not said.endswith(": ")
    at.held.start("beat")
    at.fail()
    at.settle()


def test_a_wrong_password(at: Installation) -> None:
    """Worker and beat wait until it is right; the doctor says what it is, and not what the password was."""
    at.node.ask("add_user", "kinetic", "canary-wrong")
    at.node.ask("set_permissions", "kinetic", ".*", ".*", ".*")
    url = f"amqp://kinetic:canary-right@127.0.0.1:{at.node.port}//"
    at.held.env |= {"CELERY_BROKER_URL": url}
    at.held.start("worker")
    at.held.start("beat")
    wait_until(lambda: len(at.held.events("broker_unavailable")) == 2, "both say so", 30)
    assert all("ACCESS_REFUSED" in line["detail"] for line in at.held.events("broker_unavailable"))
    doctor = at.held.run("check")
    assert doctor.returncode == 1
    assert "ACCESS_REFUSED" in doctor.stdout
    at.node.ask("change_password", "kinetic", "canary-right")
    wait_until(lambda: bool(at.held.events("list_read")), "the first reading", 30)
    assert "canary" not in at.held.text() + doctor.stdout + doctor.stderr


def test_ticks_expire_while_nobody_works(at: Installation) -> None:
    """Beat alone for long does not fill the queues: what nobody took for 15 s is dropped by RabbitMQ."""
    queue = at.held.env["LEDGER_NAMESPACE"]
    at.held.start("beat")
    wait_until(lambda: at.node.queues().get(queue, 0) > 3, "ticks wait")
    at.held.all[0].stop()
    wait_until(lambda: at.node.queues()[queue] == 0, "they are gone", 30)


def test_two_accounts_share_one_rabbitmq(node: RabbitMQ, tmp_path: Path) -> None:
    """Ticks of one namespace are none of the other's."""

    def waiting(queue: str) -> int:
        return node.queues().get(queue, 0)

    with redis_server(appendonly="yes", appendfsync="always") as server:
        shared = {"REDIS_URL": f"redis://127.0.0.1:{server.port}/0", "CELERY_BROKER_URL": node.url}
        with two_accounts(tmp_path, shared) as (north, south):
            keep_apart(north, south, waiting)


def test_a_worker_that_takes_nothing_finds_out(node: RabbitMQ) -> None:
    """It asks over the connection that it has whether ticks wait for it."""
    kombu: Any = import_module("kombu")  # it has some types, and they are wrong
    with kombu.Connection(node.url, transport_options={"confirm_publish": True}) as connection:
        queue = kombu.Queue(f"deaf-{os.getpid()}", auto_delete=True)
        consumer = kombu.Consumer(connection.channel(), [queue])
        consumer.declare()
        vitals = Vitals()
        vitals.worker = SimpleNamespace(consumer=SimpleNamespace(task_consumer=consumer))
        assert not vitals._ticks_wait()
        connection.Producer().publish({}, routing_key=queue.name)
        assert vitals._ticks_wait()
        queue(consumer.channel).delete()


@pytest.mark.parametrize(("name", "verdict"), [("IP:127.0.0.1", "ok"), ("DNS:another.example", "wrong")])
def test_the_certificate_has_to_be_the_hosts_own(tmp_path: Path, name: str, verdict: str) -> None:
    """With `amqps://` one that is valid for another host is refused."""
    certificate, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
    command += ["-addext", f"subjectAltName={name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = f"listeners.ssl.default = 127.0.0.1:{port}\n"
    tls += f"ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n"
    with rabbitmq(tmp_path / "rabbitmq", tls):
        env = {"KINETIC_BASE_URL": "http://127.0.0.1:1", "KINETIC_API_KEY": "none"}
        env |= {
            "CELERY_BROKER_URL": f"amqps://guest:guest@127.0.0.1:{port}//",
            "SSL_CERT_FILE": str(certificate),
        }
        findings = json.loads(Daemons(env, tmp_path).run("check", "--json").stdout)
    (broker,) = [each for each in findings if each["about"] == "broker"]
    assert broker["verdict"] == verdict, broker
    assert verdict == "ok" or "certificate" in broker["found"].lower(), broker
