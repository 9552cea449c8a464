"""`serve` as a process: the ledger and background loops on one event loop, HTTP in threads beside it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker.episodes import Episode
from worker.ledger import Ledger, LedgerError
from worker.serve import page
from worker.serve.collector import ANSWER_WITHIN_S, Collector, Taken
from worker.serve.http import Server
from worker.serve.page import Answer, words

BEAT_EVERY_S = 1.0
STUCK_AFTER_S = 10.0
"""An event loop that has not turned for so long does nothing any more: `/healthz` says so."""
READY_FOR_S = 5.0
"""How long an answer of the ledger counts for `/readyz`: probes of many kinds do not each ask anew."""
CLOSE_WITHIN_S = 0.5
POLL_S = 0.1
_WAIT_S = 2 * ANSWER_WITHIN_S
_NO_ANSWER = "this process is stuck, or about to end"


@dataclass(frozen=True, slots=True)
class Background:
    """Something that is done again and again while `serve` runs.

    Attributes:
        name: for the log.
        every: the pause between two turns.
        turn: does it once; what it raises is said once and left to the next turn.
        leave: is done once at the end, while the ledger is still open; None where there is nothing to do.
    """

    name: str
    every: timedelta
    turn: Callable[[], Awaitable[object]]
    leave: Callable[[], Awaitable[object]] | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Where `serve` listens, and what it shows.

    Attributes:
        port: 0 = any that is free.
        most_workflows: with a label value of their own.
    """

    host: str
    port: int
    most_workflows: int
    version: str


class Service:
    """Everything that one `serve` process does. To be made on its event loop."""

    def __init__(
        self, ledger: Ledger, options: Options, log: Any, background: Sequence[Background] = ()
    ) -> None:
        """Begin to listen; raises OSError when the address cannot be had."""
        self._ledger = ledger
        self._options = options
        self._log = log
        self._background = background
        self._collector = Collector(ledger, log)
        self._loop = asyncio.get_running_loop()
        self._alive_at_s = time.monotonic()
        pages = {
            "/": self._index,
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/readyz": self._ready,
        }
        self._server = Server(options.host, options.port, pages, log)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    async def run(self, until: asyncio.Event) -> None:
        """Answer, and run what runs beside it, until the event is set; then end within a second."""
        tasks = [asyncio.create_task(self._beat())]
        tasks += [asyncio.create_task(self._repeat(each)) for each in self._background]
        threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True).start()
        self._log.info("serve_started", host=self._options.host, port=self.port)
        try:
            await until.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            with contextlib.suppress(LedgerError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await asyncio.gather(*tasks, return_exceptions=True)
                    for each in self._background:
                        if each.leave:
                            await each.leave()
                    await self._ledger.aclose()
            self._log.info("serve_stopped")

    async def _beat(self) -> None:
        while True:
            self._alive_at_s = time.monotonic()
            await asyncio.sleep(BEAT_EVERY_S)

    async def _repeat(self, background: Background) -> None:
        trouble = Episode()
        while True:
            try:
                await background.turn()
            except Exception as error:  # noqa: BLE001  # one turn that fails must not end the turns
                if trouble.met():
                    detail = str(error) if isinstance(error, LedgerError) else type(error).__name__
                    self._log.error(
                        "background_failed", job=background.name, detail=detail, next="trying again"
                    )
            else:
                if trouble.well():
                    self._log.info("background_back", job=background.name)
            await asyncio.sleep(background.every.total_seconds())

    def _index(self, _accept: str) -> Answer:
        return Answer(200, page.INDEX.encode())

    def _health(self, _accept: str) -> Answer:
        still_for_s = time.monotonic() - self._alive_at_s
        if still_for_s > STUCK_AFTER_S:
            return words(503, f"stuck: the event loop has not turned for {still_for_s:.0f} s")
        return words(200, "alive")

    def _ready(self, _accept: str) -> Answer:
        taken = self._here(self._collector.look(READY_FOR_S))
        return page.ready(taken) if taken else words(503, _NO_ANSWER)

    def _metrics(self, accept: str) -> Answer:
        taken, options = self._here(self._collector.look()), self._options
        if taken is None:  # not a scrape without Redis: that would say that Redis is away
            return words(503, _NO_ANSWER)
        return page.metrics(taken, accept, most_workflows=options.most_workflows, version=options.version)

    def _here(self, coroutine: Coroutine[Any, Any, Taken]) -> Taken | None:
        """Run it on the event loop, from another thread; return its result, None when the loop is stuck."""
        asked = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return asked.result(_WAIT_S)
        except (TimeoutError, CancelledError):
            asked.cancel()
            return None


async def serve(
    open_ledger: Callable[[], Ledger],
    options: Options,
    log: Any,
    background: Callable[[Ledger], Sequence[Background]],
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        open_ledger: called on the event loop that then uses it.
        options: where it listens, and what it shows.
        log: where it says what happens.
        background: returns what runs beside it.

    Raises:
        OSError: the address cannot be had.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    ledger = open_ledger()
    await Service(ledger, options, log, background(ledger)).run(told)
