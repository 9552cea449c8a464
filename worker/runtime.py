"""From settings to objects: the only module that reads settings for the worker's own work.

Each worker process has one event loop with one pool of connections to the API and one to Redis, made
when its first task comes and kept until it ends. (A client per task would cost a TLS context each; one
shared between event loops breaks.)
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import cache
from multiprocessing.sharedctypes import RawValue
from typing import TYPE_CHECKING

import sniffio
import structlog

from config.settings import Settings, SettingsError, load_settings
from worker import signs
from worker.alerting.courier import Courier
from worker.alerting.turn import Alerter
from worker.engine.context import Context, Options
from worker.engine.tracing import NO_TRACING
from worker.episodes import Episode
from worker.kinetic import Endpoint, KineticClient, ListContract
from worker.kinetic.logs import LogReader, LogSource
from worker.ledger import Connection, Ledger, LedgerError, LedgerFormatError, LedgerUnavailable
from worker.ledger.alerts import JOB as ALERT
from worker.ledger.alerts import signs_of_life
from worker.ledger.durability import Durability

if TYPE_CHECKING:
    from worker.tracing.exporting import Tracing

UseCase = Callable[[Context], Awaitable[dict[str, int] | None]]
"""Returns what it did, in numbers; None when there was nothing to do because it was not its turn."""

log = structlog.get_logger("worker")
LONGEST_LINGER = timedelta(seconds=0.5)
"""How long a process stays for what is about to fall due: other jobs wait for it meanwhile."""

# Made before the worker forks, so that its processes share them: the parent sets `stopping` when it is
# asked to end; the first process that reaches the ledger sets `_reached`. Plain memory without a lock: a
# process that is killed while it holds one would hold up the others for ever.
stopping = RawValue("b", 0)
_reached = RawValue("b", 0)
_started_s = time.monotonic()


_settings: Settings | None = None


def use(config: Settings) -> None:
    """Take settings that were loaded already for those of this process."""
    global _settings  # noqa: PLW0603  # the one thing that is of the process and not of an object
    _settings = config


def settings() -> Settings:
    """Return this process's settings; on bad ones say what is wrong, a line each, and end with code 2."""
    if _settings is None:
        try:
            use(load_settings(require_api=True))
        except SettingsError as error:
            print(error, file=sys.stderr)  # noqa: T201  # there is no logging without settings
            raise SystemExit(2) from None
    assert _settings is not None  # noqa: S101
    return _settings


def endpoint(config: Settings) -> Endpoint:
    """Return where the API is and how to talk to it."""
    kinetic = config.kinetic
    return Endpoint(
        base_url=kinetic.base_url,
        api_key=kinetic.api_key.get_secret_value(),
        timeout=kinetic.timeout,
        connect_timeout=kinetic.connect_timeout,
        max_connections=kinetic.max_connections,
    )


def list_contract(config: Settings) -> ListContract:
    """Return how this deployment lists executions."""
    listing = config.kinetic.listing
    return ListContract(
        path=listing.path,
        status_param=listing.status_param,
        pagination=listing.pagination,
        limit_param=listing.limit_param,
        offset_param=listing.offset_param,
        page_param=listing.page_param,
        cursor_param=listing.cursor_param,
        next_field=listing.next_field,
        items_field=listing.items_field,
        page_size=listing.page_size,
        order=listing.order,
        since_param=listing.since_param,
    )


def log_reader(config: Settings, now: Callable[[], datetime]) -> LogReader | None:
    """Return what reads the logs of failed runs; None where they are not to be read."""
    kinetic = config.kinetic
    if kinetic.logs == "off":
        return None
    hosts = tuple(filter(None, kinetic.logs_hosts.split(",")))
    source = LogSource(mode=kinetic.logs, path=kinetic.logs_path, hosts=hosts)
    return LogReader(
        endpoint(config),
        source,
        now=now,
        tell=lambda execution, reason: log.info("log_not_read", execution_uuid=execution, reason=reason),
    )


def options(config: Settings) -> Options:
    """Return what the use cases need of the settings."""
    return Options(
        request_bound=config.kinetic.connect_timeout + config.kinetic.timeout,
        lists=config.discovery.mode != "track",
        newest_first=config.kinetic.listing.order == "desc",
        filters=bool(config.kinetic.listing.status_param),
        discovery_interval=config.discovery.interval,
        discovery_sweep=config.discovery.sweep,
        discovery_lookback=config.discovery.lookback,
        discovery_backfill=config.discovery.backfill,
        submit_batch=config.submit.batch,
        submit_concurrency=config.submit.concurrency,
        submit_lease=config.submit.lease,
        linger=min(config.submit.interval / 2, LONGEST_LINGER),
        watch_interval=config.watch.interval,
        watch_timeout=config.watch.timeout,
        resolve_interval=config.resolve.interval,
        resolve_grace=config.resolve.grace,
        resolve_unclear=config.resolve.unclear,
        retention=config.ledger.retention,
        limits=config.limits,
        survey=config.discovery.survey,
        rate=config.submit.rate,
        burst=config.submit.burst,
    )


def open_ledger(config: Settings) -> Ledger:
    """Return the ledger; connects when it is first used. To be made inside the event loop that uses it."""
    durability = Durability(config.ledger.wait_replicas, config.ledger.wait_disk)
    connection = Connection(config.redis_url.get_secret_value(), durability=durability)
    return Ledger(connection, config.ledger.namespace, events_maxlen=config.ledger.events_maxlen)


@cache
def courier() -> Courier:
    """Return what carries this process's messages to people."""
    return Courier(settings().alert.addresses)


_alerts_blind = Episode()


async def alert(context: Context) -> None:
    """Say to people what they have to know, if it is this process's turn.

    Its turns are no work: they must not count as ticks, by which everyone sees whether there is any.
    """
    carrier = courier()
    if carrier.positions:
        try:
            await Alerter(context.ledger, settings().alert_rules, carrier, context.log, works=True).turn()
        except LedgerFormatError as error:  # of what a summary reads: the lineages themselves may be well
            if _alerts_blind.met():
                log.error("alerts_blind", detail=str(error), next="trying again at the next tick")
        else:
            _alerts_blind.well()


def tracing(config: Settings, now: Callable[[], datetime]) -> Tracing | None:
    """Return what draws spans, with its own thread; None without `TRACING_ENABLED`.

    Not before the process has forked: the thread would stay behind.
    """
    if not config.tracing.enabled:
        return None
    try:
        from worker.tracing.exporting import open_tracing

        return open_tracing(config.kinetic.base_url, now)
    except Exception as exc:  # noqa: BLE001  # a wrong OTEL_ variable must not stop retries
        log.error(
            "tracing_not_started",
            detail=f"{type(exc).__name__}; check the OTEL_ variables of this process",
            next="retries go on without spans",
        )
        return None


class Runtime:
    """One process's event loop and everything that lives on it."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._runner = asyncio.Runner()
        # httpcore asks which library runs the loop a dozen times per request; asyncio's answer is slow.
        sniffio.thread_local.name = "asyncio"
        self._context: Context | None = None
        self._tracing: Tracing | None = None
        self._begun = False
        self._away = Episode()
        self._too_new = Episode()
        # By job, since the commands of one may be refused and those of another not; "" before any began.
        self._refused: defaultdict[str, Episode] = defaultdict(Episode)

    def perform(self, job: str, use_case: UseCase) -> None:
        """Run a use case to its end. Trouble with Redis is said once and left to the next tick."""
        try:
            # The runner would go on with the context of its first task: another one's id in every line.
            worked = self._runner.run(self._alive(job, use_case), context=contextvars.copy_context())
        except LedgerUnavailable as error:
            if self._away.met():
                log.error(
                    "ledger_unavailable", job=job, detail=str(error), next="nothing is sent; trying again"
                )
        except LedgerFormatError as error:
            self._begun = False  # whatever the job: none does anything before the ledger can be read again
            if self._too_new.met():
                log.error("ledger_too_new", job=job, detail=str(error), next="this worker does nothing")
        except LedgerError as error:
            if self._refused[job if self._begun else ""].met():
                log.error("ledger_refused", job=job, detail=str(error), next="trying again at the next tick")
        else:
            if worked:
                self._say_well(job)

    def _say_well(self, job: str) -> None:
        for trouble in (self._away, self._too_new, self._refused[""], self._refused[job]):
            if trouble.well():
                log.info("ledger_back", job=job)

    def close(self) -> None:
        """Close the connections and the loop."""
        if self._context:
            self._runner.run(self._aclose(self._context))
        self._runner.close()
        if self._tracing:
            self._tracing.close()

    async def _alive(self, job: str, use_case: UseCase) -> bool:
        async with signs.pulsing():  # a process whose event loop does not turn is found by `health`
            return await self._perform(job, use_case)

    async def _perform(self, job: str, use_case: UseCase) -> bool:
        """Return whether there was work, and it was put on record: a server that only reads is not back."""
        if self._context is None:
            self._context = self._build()
        context = self._context
        if not self._begun:
            await context.ledger.begin(context.waited())  # refuses a newer worker's ledger
            await context.ledger.connection.require_durability()
            self._begun = True
        began_s = time.monotonic()
        with context.tracer.job(job) as run:
            # Saying that nobody works is no work: it would be taken for a sign of it.
            working = nullcontext() if job == ALERT else signs_of_life(context.ledger, job)
            async with working:
                did = await use_case(context)
            run.did(did)
            await context.calls.flush()
        _reached.value = 1
        spent = timedelta(seconds=time.monotonic() - began_s)
        if did is not None:
            await context.ledger.jobs.tick(job, spent, did)
        return did is not None

    def _build(self) -> Context:
        ledger = open_ledger(self._config)
        self._tracing = tracing(self._config, ledger.clock.now)
        return Context(
            ledger=ledger,
            api=KineticClient(
                endpoint(self._config),
                list_contract(self._config),
                now=ledger.clock.now,
                witness=self._tracing,
            ),
            policies=self._config.policies,
            options=options(self._config),
            random=random.random,
            waited=lambda: timedelta(seconds=0 if _reached.value else time.monotonic() - _started_s),
            stopping=lambda: bool(stopping.value),
            logs=log_reader(self._config, ledger.clock.now),
            tracer=self._tracing or NO_TRACING,
        )

    @staticmethod
    async def _aclose(context: Context) -> None:
        if isinstance(context.api, KineticClient):
            await context.api.aclose()
        if isinstance(context.logs, LogReader):
            await context.logs.aclose()
        await context.ledger.aclose()


_runtimes: dict[int, Runtime] = {}


def perform(job: str, use_case: UseCase) -> None:
    """Run a use case in this process, making its runtime when there is none yet.

    Runtimes are kept by process id: a forked child must not use its parent's loop and sockets.
    """
    process = os.getpid()
    if process not in _runtimes:
        _runtimes.clear()
        _runtimes[process] = Runtime(settings())
    _runtimes[process].perform(job, use_case)


def close() -> None:
    """Close this process's runtime, if it has one."""
    runtime = _runtimes.pop(os.getpid(), None)
    if runtime:
        runtime.close()
