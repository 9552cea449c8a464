"""`worker` and `beat`: check the settings, then become Celery in this process, so that signals arrive."""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import UTC, datetime
from typing import Any, NoReturn

import click

from worker.cli.errors import WRONG

PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True}
env_file_option = click.option(
    "--env-file/--no-env-file", default=True, help="Read .env in the working directory (it is by default)."
)


@click.command(context_settings=PASS_ON)
@env_file_option
@click.argument("celery_options", nargs=-1, type=click.UNPROCESSED)
def worker(env_file: bool, celery_options: tuple[str, ...]) -> int:
    """Run a Celery worker with WORKER_CONCURRENCY processes, until SIGTERM.

    On SIGTERM it starts nothing new, finishes the calls under way and ends; give it longer than a call
    takes (KINETIC_CONNECT_TIMEOUT + KINETIC_TIMEOUT).

    \b
    Example: kinetic-retry worker
    What follows is passed on to `celery worker`: kinetic-retry worker --pool=solo
    """
    app = _app(require_api=True, env_file=env_file)
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    name = ["-n", f"worker-{os.getpid()}@%h"]
    with warnings.catch_warnings():
        # Celery warns about root before logging is set up. The image runs as a user of its own.
        warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
        return _celery(app, ["-q", "worker", *_level(app), *name, *options, *celery_options])


@click.command()
@env_file_option
def beat(env_file: bool) -> int:
    """Run Celery beat, which sends the ticks that wake the workers, until SIGTERM.

    One is enough. Two do no harm: a tick that finds nothing to do costs one question to Redis. It needs
    no file: what is due is in the ledger.

    \b
    Example: kinetic-retry beat
    """
    app = _app(require_api=False, env_file=env_file)
    from worker.beat import Beat

    Beat(app=app, quiet=True, loglevel=app.conf.worker_log_level).run()
    return 0


def _app(*, require_api: bool, env_file: bool) -> Any:
    """Return the Celery application; bad settings end the process with a line each and code 2."""
    from config.settings import DEFAULT_ENV_FILE, SettingsError, load_settings

    try:
        config = load_settings(env_file=DEFAULT_ENV_FILE if env_file else None, require_api=require_api)
    except SettingsError as error:
        _refuse(error)
    from worker import runtime

    runtime.use(config)
    from worker.celery_app import app

    _log_what_celery_prints(config)
    return app


def _celery(app: Any, arguments: list[str]) -> int:
    """Run Celery's own command line and return its exit code, which `app.start` keeps to itself."""
    from celery.bin.celery import celery

    celery.params[0].default = app
    return int(celery.main(args=arguments, standalone_mode=False) or 0)


def _refuse(error: Any) -> NoReturn:
    """Say what is wrong with the settings, in the format that the log would have, and end."""
    as_text = os.environ.get("LOG_FORMAT", "json").strip().lower() == "console"
    for problem in error.problems:
        line = str(problem)
        if not as_text:
            stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            fields = {"variable": problem.variable, "got": problem.got, "takes": problem.takes}
            line = json.dumps(
                {
                    "timestamp": stamp,
                    "level": "critical",
                    "event": "settings_invalid",
                    **fields,
                    "message": line,
                }
            )
        print(line, file=sys.stderr)  # noqa: T201  # the log is configured by the settings that are wrong
    raise SystemExit(WRONG)


def _log_what_celery_prints(config: Any) -> None:
    """Send through the log what Celery writes to the terminal by itself: `Warm shutdown` and the like."""
    import celery.apps.worker
    import structlog

    from config.logging import configure_logging

    configure_logging(config.log.level, config.log.format, secrets=config.secrets)

    def say(message: object, *_: object) -> None:
        structlog.get_logger("celery.worker").info(" ".join(str(message).split()))

    celery.apps.worker.safe_say = say


def _level(app: Any) -> list[str]:
    return ["--loglevel", app.conf.worker_log_level]
