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
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

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
_OURS = frozenset({"timestamp", "level"})
"""Fields that the chain itself writes; a password "info" must not turn every level into a mask."""
_SMALL = 2**63


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
    handler, render = _Handler(target), _Renderer(_renderers(fmt, target), Redactor(secrets))
    handler.setFormatter(_Formatter(render))
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
            render,
        ],
        logger_factory=lambda *name: _Logger(*name, handler=handler),
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

    def write(self, line: str) -> None:
        """Write a finished line between those of records."""
        with self.lock or nullcontext(), suppress(Exception):
            self.stream.write(f"{line}{self.terminator}")
            self.flush()


class _Logger:
    """What our own lines end in: the handler, without a record of the stdlib that costs as much as the line.

    Its level is that of the stdlib's logger of the same name.
    """

    disabled = False

    def __init__(self, name: str | None = None, *, handler: _Handler) -> None:
        self.name = name or "root"
        self.getEffectiveLevel = logging.getLogger(name).getEffectiveLevel
        self.debug = self.info = self.warning = self.error = self.critical = handler.write
        self.exception = handler.write


class _Renderer:
    """Makes an event one line; when even that fails, a line that says so, never an exception."""

    def __init__(self, renderers: Sequence[Processor], redactor: Redactor) -> None:
        self._renderers = renderers
        self._redactor = redactor

    def __call__(self, logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
        """Return the line."""
        try:
            shown = self._shown(_exception_as_text(logger, name, event_dict))
            for render in self._renderers:
                shown = render(logger, name, shown)  # type: ignore[assignment]  # the last one returns text
        except Exception as exc:  # noqa: BLE001 - a broken __str__, lone surrogates: anything goes wrong here
            return self.fallback(
                str(event_dict.get("level", name)),
                str(event_dict.get("logger", "")),
                event_dict.get("event"),
                exc,
            )
        return str(shown)

    def fallback(self, level: str, logger: str, event: Any, exc: Exception) -> str:
        """Return a line about an event that could not be rendered."""
        line = {
            "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "level": level,
            "logger": logger,
            "event": cut(without_controls(self._redactor.text(str(plain(event))))),
            "log_error": f"the line could not be rendered: {type(exc).__name__}",
        }
        return json.dumps(line)

    def _shown(self, event_dict: EventDict) -> EventDict:
        """Return every value plain, without secrets and cut; the event is text without a final newline."""
        shown = {str(plain(key)): self._value(key, value) for key, value in event_dict.items()}
        shown["event"] = str(shown.get("event", "")).rstrip()
        return shown

    def _value(self, key: str, value: Any) -> Any:
        if type(value) is str and len(value) <= LONGEST_VALUE:  # nearly all of them: every line counts
            return value if key in _OURS else self._redactor.text(value)
        if type(value) is int and abs(value) < _SMALL:
            return value
        # Before anything is cut: half a secret is not found.
        whole = plain(value) if key in _OURS else self._redactor.value(plain(value))
        return cut(whole, keep_end=LONGEST_VALUE * 3 // 4 if key in ("exception", "stack_info") else 0)


class _Formatter(ProcessorFormatter):
    """Renders a record of the stdlib: of Celery and the libraries."""

    def __init__(self, render: _Renderer) -> None:
        super().__init__(
            foreign_pre_chain=_COMMON, processors=[ProcessorFormatter.remove_processors_meta, render]
        )
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of the chosen format."""
        try:
            return super().format(record)
        except Exception as exc:  # noqa: BLE001 - bad %-arguments
            return self._render.fallback(record.levelname.lower(), record.name, record.msg, exc)


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


def _ours_first(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    return {key: event_dict[key] for key in _FIRST if key in event_dict} | dict(event_dict)


def _terminal_safe(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    return {
        without_controls(key): without_controls(value, keep="\n\t" if key == "exception" else "")
        for key, value in event_dict.items()
    }
