"""The Celery application: how ticks travel. It carries wake-ups, never work.

Every choice here serves that: a lost message costs a tick, a repeated one finds nothing to do, and after
an outage the queue holds a few ticks, not thousands.
"""

from __future__ import annotations

import gc
import logging
import signal
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import billiard.pool
from billiard.util import get_logger as get_pool_logger
from celery import Celery, signals

from config.logging import configure_logging
from config.settings import Settings
from worker import runtime
from worker.heartbeat import WorkerHeartbeat
from worker.ledger.connection import sentinel_address

# A pool process that ends waits for its last result to be read, 300 times 0.1 s. At shutdown the parent may
# have stopped reading, and our tasks have no results: half a minute of every warm stop for nothing.
billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 20

LOOKS = ("discover", "survey", "watch", "resolve", "prune", "alert")
NEVER_RUN = datetime(2000, 1, 1, tzinfo=UTC)
ALERT_EVERY = timedelta(seconds=4)
SHORTEST_EXPIRY = timedelta(seconds=15)
"""A tick expires by the clock of the machine that runs it: leave room for clocks that disagree."""
CHATTY = (
    *("celery.worker.strategy", "celery.app.trace", "celery.worker.request", "celery.beat"),
    *("celery.worker.consumer.connection", "multiprocessing"),
)
"""Say every tick twice a second at INFO, and every connection; what matters is said by our own events."""
LAST_RESORT = timedelta(minutes=5)
"""Batches end by themselves; this much after the lease a process that does not is ended. Reading a long
list has no such limit: it asks at every page whether it should go on."""


def _schedule(config: Settings) -> dict[str, dict[str, Any]]:
    """Return the beat schedule. A first tick of each goes out at once."""
    every = {
        "discover": config.discovery.interval,
        "survey": config.discovery.interval,
        "submit": config.submit.interval,
        "watch": config.watch.interval,
        "resolve": config.resolve.interval,
        "prune": timedelta(hours=1),
    }
    if config.alert.addresses:
        every["alert"] = ALERT_EVERY
    return {
        job: {
            "task": f"kinetic_retry.{job}",
            "schedule": interval,
            "last_run_at": NEVER_RUN,
            "options": {"expires": max(interval, SHORTEST_EXPIRY).total_seconds()},
        }
        for job, interval in every.items()
    }


def _broker(broker_url: str) -> dict[str, Any]:
    """Return how to reach the broker, with options that let half-open connections be noticed."""
    if broker_url.lower().startswith("amqp"):
        return _rabbitmq(broker_url)
    url, options = _redis(broker_url)
    return {"broker_url": url, "broker_transport_options": options}


def _rabbitmq(broker_url: str) -> dict[str, Any]:
    """Return it for a broker that speaks AMQP."""
    options = {
        # A tick is sent when the broker says that it has it. Else beat would write ticks into a connection
        # that nobody reads from, and take itself for well, until it stands still in the middle of one.
        "confirm_publish": True,
        "read_timeout": 5,
        "write_timeout": 5,
    }
    found = {"broker_url": broker_url, "broker_transport_options": options, "broker_heartbeat": 10}
    if broker_url.lower().startswith("amqps") and ";" not in broker_url:
        # Check that the certificate is the host's own. With several hosts the library would hold all of them
        # against the name of the first.
        found["broker_use_ssl"] = {"server_hostname": None}
    return found


def _redis(broker_url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL as Celery reads it, and the options of a broker that is Redis."""
    options: dict[str, Any] = {
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 5,
        # A tick is acknowledged in memory only. An acknowledgement that does not reach Redis is not made up
        # for: the worker would count the tick as unfinished for ever, and take no more once it has enough.
        "ack_emulation": False,
    }
    if not broker_url.startswith("sentinel://"):
        return broker_url, options
    hosts, database, service, credentials = sentinel_address(broker_url)
    parts = [quote(credentials.get(name, ""), safe="") for name in ("username", "password")]
    login = f"{':'.join(parts)}@" if credentials else ""
    url = ";".join(f"sentinel://{login}{host}:{port}/{database}" for host, port in hosts)
    return url, options | {"master_name": service}


def make_app(config: Settings) -> Celery:
    """Return the application for these settings."""
    app = Celery("kinetic-retry", include=["worker.tasks"])
    looks = f"{config.ledger.namespace}.looks"
    app.conf.update(
        **_broker(config.broker_url.get_secret_value()),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A server that answers and refuses (demoted by a failover, disk or memory full) would end the worker.
        broker_channel_error_retry=True,
        # One more try, on a new channel: without it a channel that broke once stays broken. Not more: a
        # tick that cannot be sent is dropped, the next one does as well.
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.2},
        # Two queues, read in turn: while the backlog is large, ticks of `submit` come faster than they are
        # worked off, and behind them the looks at clones and at calls in doubt would wait until they expire.
        task_queues={config.ledger.namespace: {}, looks: {}},
        task_default_queue=config.ledger.namespace,
        task_routes={f"kinetic_retry.{job}": {"queue": looks} for job in LOOKS},
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_backend=None,
        enable_utc=True,
        timezone="UTC",
        worker_concurrency=config.worker.concurrency,
        worker_consumer="worker.consumer:Consumer",
        worker_prefetch_multiplier=1,
        # Both only say something when a connection is lost: our tasks are acknowledged before they run, and
        # their messages may be lost.
        worker_enable_prefetch_count_reduction=False,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_redirect_stdouts=False,
        worker_log_level=config.log.level,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        beat_schedule=_schedule(config),
        beat_scheduler="worker.beat:Scheduler",
        beat_max_loop_interval=1,
    )
    app.steps["worker"].add(WorkerHeartbeat)
    return app


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _set_up_logging(**_: object) -> None:
    config = runtime.settings()
    configure_logging(config.log.level, config.log.format, secrets=config.secrets)
    get_pool_logger().propagate = True  # made on first use, and deaf to the root logger until told
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _stop_starting_work(**_: object) -> None:
    runtime.stopping.value = 1


@signals.worker_before_create_process.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _share_memory(**_: object) -> None:
    """Let pool processes go on sharing what the parent has loaded: a collector writes to all it looks at."""
    gc.freeze()


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _leave_the_end_to_the_parent(**_: object) -> None:
    """Let SIGTERM to the whole process group be what it is to the parent alone: finish what is in the air.

    A pool process that dies of it leaves a call whose outcome nobody knows. Celery ends its processes by
    telling them so; one that outlives its time limit is killed.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _WithoutTraceback(logging.Filter):
    """Leaves the traceback out of what Celery says of a killed process: the message says it all."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True


logging.getLogger("celery.worker.request").addFilter(_WithoutTraceback())


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]  # Celery has no types
def _close_connections(**_: object) -> None:
    runtime.close()


app = make_app(runtime.settings())
