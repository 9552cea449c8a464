"""The tasks: a few lines each, because the work is in the engine and what to do is in the ledger."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import structlog
from celery import signals
from celery.exceptions import Reject

from worker import engine, runtime
from worker.celery_app import LAST_RESORT, SHORTEST_EXPIRY, app
from worker.engine.context import Context
from worker.engine.pauses import note_pauses

log = structlog.get_logger("worker")

BATCH_LIMIT_S = (runtime.settings().submit.lease + LAST_RESORT).total_seconds()
PAUSE_BEFORE_AGAIN_S = 1.0
"""Between two tries of a message that has to wait for the ledger: it must not go round and round."""
MOST_SIBLINGS = 4
"""Workers that one batch may wake besides itself; each of them may wake as many again."""


def task(job: str, limit_s: float | None = None) -> Callable[[Callable[[], None]], Any]:
    """Register a task under its public name; after `limit_s` its process is ended."""
    return app.task(name=f"kinetic_retry.{job}", ignore_result=True, time_limit=limit_s)  # type: ignore[no-any-return]  # Celery has no types


@task("discover")
def discover() -> None:
    """Read the list of failed executions and begin lineages."""
    runtime.perform("discover", engine.discover)


@task("survey")
def survey() -> None:
    """Read the newest executions of every status, to know how workflows do otherwise."""
    runtime.perform("survey", engine.survey)


@task("submit", BATCH_LIMIT_S)
def submit() -> None:
    """Send the retries that are due; wake siblings while the backlog is large. Carry on what is redriven."""
    runtime.perform("submit", lambda ctx: engine.submit(ctx, _call_siblings))
    runtime.perform("redrive", engine.redrive)  # no tick of its own: mostly there is none to carry on


@task("watch", BATCH_LIMIT_S)
def watch() -> None:
    """Look at running clones and at tracked executions."""
    runtime.perform("watch", _watch)


@task("resolve")
def resolve() -> None:
    """Find out what became of unclear retry calls."""
    runtime.perform("resolve", engine.resolve)


@task("prune")
def prune() -> None:
    """Forget lineages whose retention is over."""
    runtime.perform("prune", engine.prune)


@task("alert")
def alert() -> None:
    """Say to people what they have to know, unless `serve` does."""
    runtime.perform("alert", runtime.alert)


@app.task(name="kinetic_retry.track", ignore_result=True, acks_late=True, time_limit=BATCH_LIMIT_S)  # type: ignore[untyped-decorator]  # Celery has no types
def track(*arguments: object, **_: object) -> None:
    """Put executions under watch that another program names: `docs/track.md`.

    The only message that carries more than a wake-up: while the ledger is away it goes back into its queue.
    """
    stored = False

    async def store(ctx: Context) -> None:
        nonlocal stored
        await engine.track(ctx, arguments)
        stored = True

    runtime.perform("track", store)
    if not stored:
        time.sleep(PAUSE_BEFORE_AGAIN_S)
        raise Reject(requeue=True)


async def _watch(ctx: Context) -> dict[str, int]:
    await note_pauses(ctx)
    return await engine.watch(ctx)


def _call_siblings(wanted: int) -> None:
    """Wake other workers, if the broker takes it; beat's next tick does as well."""
    try:
        for _ in range(min(wanted, MOST_SIBLINGS)):
            submit.apply_async(expires=SHORTEST_EXPIRY.total_seconds())
    except Exception as exc:  # noqa: BLE001  # whatever the broker does, the claimed lineages come first
        log.info("siblings_not_called", detail=type(exc).__name__)


class _NotPutBack(logging.Filter):
    """Leaves out that a message was put back: with a traceback, once a second, and why is said already."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and record.exc_info[0] is Reject)


logging.getLogger("celery.app.trace").addFilter(_NotPutBack())


@signals.task_prerun.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _bind_task(task_id: str, task: Any, **_: object) -> None:
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task_id=task_id, task=task.name)


@signals.task_postrun.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _unbind_task(**_: object) -> None:
    structlog.contextvars.clear_contextvars()
