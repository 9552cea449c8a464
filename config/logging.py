"""The log: every line of this process, ours and the libraries', through one chain to one stream.

Owns the chain's order and its promise: a log call never raises, never shows a known secret, and never
lets foreign text act on a terminal. Knows neither the settings nor what is logged; the caller hands in
level, format and the secrets to look for. Making any value plain is `config.plain`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from config.plain import LONGEST_VALUE, cut, plain, without_controls
from config.redaction import Redactor

Format = Literal["json", "console"]

NOISY = ("httpx", "httpcore")
"""Their INFO lines print the URL of every request."""

FOREIGN = (
    "celery",
    "celery.task",
    "celery.redirected",
    "kombu",
    "amqp",
    "redis",
    "multiprocessing",
    "py.warnings",
)
"""Loggers that bring handlers of their own, or do not pass their lines on, unless told otherwise."""

_FIRST = ("timestamp", "level", "logger", "event")


def configure_logging(
    level: str, fmt: Format, stream: TextIO | None = None, *, secrets: Iterable[str] = ()
) -> None:
    """Send every log line of this process through our chain. May be called again; the last call counts.

    Args:
        level: the least important level that is written, such as `INFO`.
        fmt: `json` writes one object per line; `console` writes text, in colour on a terminal.
        stream: where to; None for standard error, so that a command's output stays clean.
        secrets: texts that must not appear, wherever they come from (see `Redactor`).
    """
    target = sys.stderr if stream is None else stream
    handler = _Handler(target)
    handler.setFormatter(_Formatter(_renderers(fmt, target), Redactor(secrets)))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    _lead_to_root(level)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_COMMON,
            _positional_arguments,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a logger made before the configuration must follow it
    )


_COMMON: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
"""What both our lines and foreign ones get. Their `extra` is left out: Celery puts task arguments there."""


class _Handler(logging.StreamHandler[TextIO]):
    """Drops a line that cannot be written: a full disk or a closed pipe must not stop a retry."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class' name
        """Do nothing: the stock handler would print the raw record, secrets included."""


class _Formatter(ProcessorFormatter):
    """Renders a record; when even that fails, a line that says so, never an exception."""

    def __init__(self, renderers: Iterable[Processor], redactor: Redactor) -> None:
        super().__init__(
            foreign_pre_chain=_COMMON,
            processors=[
                ProcessorFormatter.remove_processors_meta,
                _exception_as_text,
                _plain_values,
                redactor,  # before anything is cut: half a secret is not found
                _cut_values,
                *renderers,
            ],
        )
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of the chosen format."""
        try:
            return super().format(record)
        except Exception as exc:  # noqa: BLE001 - bad %-arguments, a broken __str__: anything goes wrong here
            line = {
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "event": cut(without_controls(self._redactor.text(str(plain(record.msg))))),
                "log_error": f"the line could not be rendered: {type(exc).__name__}",
            }
            return json.dumps(line)


def _renderers(fmt: Format, stream: TextIO) -> list[Processor]:
    if fmt == "json":
        return [_ours_first, structlog.processors.JSONRenderer(allow_nan=False)]
    console = structlog.dev.ConsoleRenderer(
        colors=stream.isatty() and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"

    def encodable(_: WrappedLogger, __: str, line: EventDict | str) -> str:
        """Spell out what the terminal's encoding lacks: a strict stream would lose the whole line."""
        return str(line).encode(encoding, "backslashreplace").decode(encoding)

    return [_terminal_safe, console, encodable]


def _lead_to_root(level: str) -> None:
    for name in FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


# --- processors: (logger, method name, event) -> event -----------------------------------------------


def _positional_arguments(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Put `%` arguments into the event; keep them beside it when they do not fit."""
    arguments = event_dict.pop("positional_args", ())
    if arguments:
        try:
            event_dict["event"] = event_dict["event"] % arguments
        except Exception:  # noqa: BLE001 - any __str__ may run here
            event_dict["arguments"] = list(arguments)
    return event_dict


def _exception_as_text(logger: WrappedLogger, name: str, event_dict: EventDict) -> EventDict:
    """Turn `exc_info` into a traceback without the values of local variables."""
    try:
        return structlog.processors.format_exc_info(logger, name, event_dict)
    except Exception as exc:  # noqa: BLE001 - an exception's own methods may run here
        event_dict.pop("exc_info", None)
        event_dict["exception"] = f"<traceback could not be rendered: {type(exc).__name__}>"
        return event_dict


def _plain_values(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Make every value plain; the event is text without the newline that warnings end in."""
    values = {str(plain(key)): plain(value) for key, value in event_dict.items()}
    return values | {"event": str(values.get("event", "")).rstrip()}


def _cut_values(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Cut long texts at the end; tracebacks in the middle, for their last lines tell most."""
    return {
        key: cut(value, keep_end=LONGEST_VALUE * 3 // 4 if key in ("exception", "stack_info") else 0)
        for key, value in event_dict.items()
    }


def _ours_first(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    return {key: event_dict[key] for key in _FIRST if key in event_dict} | dict(event_dict)


def _terminal_safe(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    return {
        without_controls(key): without_controls(value, keep="\n\t" if key == "exception" else "")
        for key, value in event_dict.items()
    }
