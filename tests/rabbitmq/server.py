"""A RabbitMQ of one node on loopback, as a process of whoever runs this: no root, one directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.redis_server import free_port

READY_WITHIN_S = 90.0
INSTALL = "there is no rabbitmq-server here (Debian, Ubuntu: apt-get install rabbitmq-server)"
PLACES = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/rabbitmq/sbin")
"""Where the program itself lies: what Debian has on the PATH insists on being root."""


def program(name: str = "rabbitmq-server") -> str | None:
    """Return a program of RabbitMQ; None where it is not installed."""
    return shutil.which(name, path=os.pathsep.join([*PLACES, os.environ.get("PATH", "")]))


@dataclass
class RabbitMQ:
    """One node.

    Attributes:
        directory: of everything that it writes.
        port: for AMQP.
        tls: lines of its configuration for a listener with TLS, if any.
    """

    directory: Path
    port: int = field(default_factory=free_port)
    epmd_port: int = field(default_factory=free_port)
    tls: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address for Celery."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self.directory / "rabbitmq.log"

    def start(self) -> None:
        """Start it with what it left behind, and wait until it takes connections."""
        (self.directory / "rabbitmq.conf").write_text(self.tls)
        (self.directory / "enabled_plugins").write_text("[].\n")
        server = program()
        assert server, INSTALL
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [server],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, f"RabbitMQ did not start: {self.log}"
            time.sleep(0.2)

    def signal(self, number: signal.Signals) -> None:
        """Signal it and the helpers that it started."""
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL it."""
        assert self.process
        self.signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, *words: str) -> str:
        """Return what `rabbitmqctl` says."""
        control = program("rabbitmqctl")
        assert control, INSTALL
        return subprocess.run(
            [control, "--quiet", "--node", self._node, *words],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def queues(self) -> dict[str, int]:
        """Return how many messages wait in each queue."""
        lines = self.ask("list_queues", "name", "messages_ready", "--no-table-headers").splitlines()
        return {name: int(count) for name, _, count in (line.partition("\t") for line in lines)}

    @property
    def _node(self) -> str:
        return f"kinetic-retry-{self.port}@localhost"

    def _environment(self) -> dict[str, str]:
        distribution = free_port()
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(self.directory / "pid"),
            # One thread, which does not spin while it waits: the machine's cores are for the workers.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            "RABBITMQ_CTL_ERL_ARGS": "+S 1:1 +sbwt none",
            "RUNNING_UNDER_SYSTEMD": "true",  # the program becomes the node itself: its pid is the node's
        }

    def _answers(self) -> bool:
        """Whether it speaks AMQP: to a version that it does not know it answers with its own."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.settimeout(2)
            probe.sendall(b"AMQP\x00\x00\x00\x00")
            return probe.recv(4) == b"AMQP"
        return False


@contextlib.contextmanager
def rabbitmq(directory: Path, tls: str = "") -> Iterator[RabbitMQ]:
    """Run a node until the block ends."""
    directory.mkdir(parents=True, exist_ok=True)
    node = RabbitMQ(directory, tls=tls)
    with _name_server(node.epmd_port):
        try:
            node.start()
            yield node
        finally:
            if node.process and node.process.poll() is None:
                node.signal(signal.SIGCONT)
                node.kill()


@contextlib.contextmanager
def _name_server(port: int) -> Iterator[None]:
    """Run Erlang's name server in the foreground: the one that a node starts outlives it."""
    server = shutil.which("epmd")
    assert server, INSTALL
    command = [server, "-port", str(port), "-address", "127.0.0.1"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
