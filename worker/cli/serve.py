"""`serve`: metrics and health over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from worker.cli.errors import AWAY, CommandError
from worker.cli.session import open_ledger, settings

if TYPE_CHECKING:
    from config.settings import Settings
    from worker.ledger import Ledger
    from worker.serve.app import Background


@click.command()
@click.option("--host", metavar="ADDRESS", help="Listen here instead of at SERVE_HOST.")
@click.option("--port", type=click.IntRange(1, 65535), help="Listen here instead of at SERVE_PORT.")
def serve(host: str | None, port: int | None) -> None:
    """Offer Prometheus metrics and health checks over HTTP, until SIGTERM.

    /metrics is worked out from the ledger at each scrape, so one of these is enough for any number of
    workers. /healthz says whether this process lives, /readyz whether the ledger answers and can be read. It
    needs no API key, and changes nothing about retries. With ALERT_URLS it also sends alerts: it notices when
    workers, beat or Redis are gone, which they cannot say themselves.

    \b
    Examples:
      kinetic-retry serve
      kinetic-retry serve --port 9000
    """
    import structlog

    from config.logging import configure_logging
    from worker.serve.app import Options
    from worker.serve.app import serve as run

    config = settings()
    configure_logging(config.log.level, config.log.format, secrets=config.secrets)
    options = Options(
        host=config.serve.host if host is None else host,
        port=port or config.serve.port,
        most_workflows=config.metrics.workflows,
        version=version("kinetic-retry-worker"),
    )
    log = structlog.get_logger("serve")
    try:
        asyncio.run(
            run(lambda: open_ledger(config), options, log, lambda ledger: _background(config, ledger))
        )
    except OSError as error:
        where = f"{options.host} port {options.port}"
        raise CommandError(
            f"cannot listen at {where}: {error.strerror or 'no such address'}; see SERVE_HOST and SERVE_PORT",
            AWAY,
        ) from None


def _background(config: Settings, ledger: Ledger) -> Sequence[Background]:
    """Return what runs beside it: the look for what people have to know."""
    if not config.alert.addresses:
        return ()
    import structlog

    from worker.alerting.courier import Courier
    from worker.alerting.watch import EVERY, Watch
    from worker.serve.app import Background

    courier = Courier(config.alert.addresses)
    watch = Watch(ledger, config.alert_rules, courier, structlog.get_logger("alerts"))
    return (Background("alert", EVERY, watch.look, watch.leave),)
