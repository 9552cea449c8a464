"""The log: one JSON object per line, no secrets, no escapes, and never an exception."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from config.logging import configure_logging
from config.plain import LONGEST_VALUE, cut, plain
from worker.domain.policy import Jitter

CANARY = "canary/7f3c'+\\1"

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Gives the root logger, structlog and the warnings back as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def json_lines(level: str = "INFO") -> Read:
    """Configures JSON lines and returns a function that reads them; each must parse.

    Called inside the test: before it, pytest's own handlers would come on top of ours.
    """
    stream = io.StringIO()
    configure_logging(level, "json", stream, secrets=[CANARY])
    return lambda: [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().splitlines()]


class Broken:
    """A value that fails whatever is done to it."""

    def __repr__(self) -> str:
        raise RuntimeError(CANARY)

    __str__ = __repr__

    def __len__(self) -> int:
        raise RuntimeError(CANARY)


class BrokenError(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError(CANARY)

    __repr__ = __str__


# --- shape -------------------------------------------------------------------------------------------


def test_our_line() -> None:
    """A line has the promised keys first, then the fields in their order."""
    read = json_lines()
    structlog.get_logger("worker.engine").info(
        "retry_scheduled", execution_uuid="e1", wait=timedelta(seconds=90)
    )
    (line,) = read()
    assert list(line) == ["timestamp", "level", "logger", "event", "execution_uuid", "wait"]
    assert (line["level"], line["logger"], line["event"]) == ("info", "worker.engine", "retry_scheduled")
    assert line["wait"] == "1m30s"
    assert line["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(line["timestamp"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_secret_that_is_a_word_of_ours_garbles_no_line() -> None:
    """A password "info" is masked wherever it stands, but in the level."""
    stream = io.StringIO()
    configure_logging("INFO", "json", stream, secrets=["info", "level"])
    structlog.get_logger("worker").info("list_read", detail="some info")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["detail"]) == ("info", "some ***")


@pytest.mark.parametrize("name", ["celery", "celery.worker", "celery.task", "kombu", "redis", "some.library"])
def test_foreign_line(name: str) -> None:
    """Libraries' lines get through the same chain, without the arguments they carry beside the message."""
    read = json_lines()
    logging.getLogger(name).warning("lost %s of %d", "one", 2, extra={"data": {"args": "payload"}})
    (line,) = read()
    assert (line["level"], line["logger"], line["event"]) == ("warning", name, "lost one of 2")
    assert "payload" not in json.dumps(line)


def test_libraries_lose_their_own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that writes its lines itself, past the redaction, is led back to our handler."""
    theirs = io.StringIO()
    logger = logging.getLogger("celery.task")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(theirs)])
    monkeypatch.setattr(logger, "level", logging.CRITICAL)
    read = json_lines()
    logger.info("event")
    assert [line["event"] for line in read()] == ["event"]
    assert theirs.getvalue() == ""


def test_context_is_on_both() -> None:
    """Bound context, such as the task's id, is on our lines and on foreign ones."""
    read = json_lines()
    structlog.contextvars.bind_contextvars(task_id="t1")
    structlog.get_logger("a").info("ours")
    logging.getLogger("b").error("theirs")
    assert [line["task_id"] for line in read()] == ["t1", "t1"]


def test_levels() -> None:
    """Lines below the level are not written, and HTTP clients' INFO lines hold URLs: not those either."""
    read = json_lines()
    structlog.get_logger("a").debug("no")
    logging.getLogger("b").debug("no")
    logging.getLogger("httpx").info("GET https://h/?secret")
    logging.getLogger("httpcore.connection").info("no")
    logging.getLogger("httpx").warning("yes")
    assert [line["event"] for line in read()] == ["yes"]


def test_noisy_loggers_follow_a_higher_level() -> None:
    """At ERROR the HTTP clients' warnings are not written."""
    read = json_lines("ERROR")
    logging.getLogger("httpx").warning("no")
    assert read() == []


def test_warnings_are_lines() -> None:
    """Python's warnings are log lines, redacted like all others."""
    read = json_lines()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"old {CANARY}", DeprecationWarning, stacklevel=1)
    (line,) = read()
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old ***" in line["event"]


def test_last_configuration_counts() -> None:
    """Configuring again replaces the handler: no line is written twice, and older loggers follow."""
    read = json_lines()
    log = structlog.get_logger("a")
    log.info("first")
    stream = io.StringIO()
    configure_logging("WARNING", "json", stream)
    log.info("no")
    log.warning("second")
    assert [line["event"] for line in read()] == ["first"]
    assert json.loads(stream.getvalue())["event"] == "second"


# --- secrets -----------------------------------------------------------------------------------------


def fail_deeply() -> None:
    """Raises an error with the secret in its text, its cause, its notes and its locals."""
    local = CANARY
    try:
        raise ValueError(local)
    except ValueError as exc:
        error = RuntimeError(f"call with {local} failed")
        error.add_note(local)
        raise error from exc


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_no_secret_by_any_way(fmt: Any) -> None:
    """Events, fields, nested values, keys, arguments, tracebacks, foreign lines: all are redacted."""
    stream = io.StringIO()
    configure_logging("INFO", fmt, stream, secrets=[CANARY])
    log = structlog.get_logger("a")
    log.info(
        "event",
        event_text="event " + CANARY,
        field=CANARY,
        deep=[{"k": (CANARY, {CANARY})}],
        b=CANARY.encode(),
    )
    log.info("event %s", CANARY, error=ValueError(CANARY), path=Path(CANARY), secret=SecretStr(CANARY))
    log.info("event", **{CANARY[:6]: {CANARY: 1}}, long="x" * (LONGEST_VALUE - 3) + CANARY)
    log.info(CANARY)
    log.info("event %d", CANARY, broken=Broken())
    logging.getLogger("celery").error("got %s", CANARY)
    logging.getLogger("celery").error("got %d", CANARY)
    logging.getLogger("celery").error(CANARY)
    unfitting = f"{CANARY} %d"
    logging.getLogger("celery").error(unfitting, "x")
    logging.getLogger("celery").error("stack", stack_info=True)
    for logger in (log, logging.getLogger("celery")):
        try:
            fail_deeply()
        except RuntimeError:
            logger.exception("failed")
        try:
            raise ExceptionGroup("group", [ValueError(CANARY), BrokenError()])
        except ExceptionGroup:
            logger.exception("failed")
    text = stream.getvalue()
    assert "7f3c" not in text
    assert text.count("RuntimeError: call with *** failed") == 2
    assert text.count("failed") >= 4


def test_exception_is_a_field() -> None:
    """A traceback is one field of its line, with the last lines kept when it is long."""
    read = json_lines()
    try:
        raise ValueError("the reason" + "x" * 100)
    except ValueError:
        structlog.get_logger("a").exception("failed", execution_uuid="e1")
    (line,) = read()
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert "ValueError: the reason" in line["exception"]


def test_long_traceback_keeps_its_end() -> None:
    """The last lines of a traceback say what happened: the middle is cut."""
    read = json_lines()

    def dive(depth: int) -> None:
        if depth == 0:
            raise ValueError("the reason at the bottom")
        try:
            dive(depth - 1)
        except ValueError as exc:
            raise ValueError(f"level {depth}") from exc

    try:
        dive(30)
    except ValueError:
        logging.getLogger("a").exception("failed")
    (line,) = read()
    assert len(line["exception"]) < LONGEST_VALUE + 100
    assert line["exception"].endswith("ValueError: level 30")
    assert "characters left out" in line["exception"]


# --- hostile values ----------------------------------------------------------------------------------


def cyclic() -> list[Any]:
    """Returns a list that contains itself."""
    value: list[Any] = []
    value.append({"again": value})
    return value


def explosive() -> list[Any]:
    """Returns a small value that is a million millions when it is written out."""
    value: list[Any] = ["x"]
    for _ in range(6):
        value = [value] * 100
    return value


@pytest.mark.parametrize("fmt", ["json", "console"])
@pytest.mark.parametrize(
    "value",
    [
        Broken(),
        [Broken(), {1: Broken()}],
        {(1, 2): "tuple key", None: 1, Jitter.FULL: 2},
        float("nan"),
        float("-inf"),
        10**5000,
        "\ud800 lone surrogate",
        b"\xff\x00",
        cyclic(),
        "x" * 10_000_000,
        {str(number): number for number in range(100_000)},
        BrokenError(),
        object(),
        type,
        datetime.max.replace(tzinfo=UTC),
        "a\x1b]0;title\x07\r\nb\u202e",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_log_call_never_raises(fmt: Any, value: object) -> None:
    """Any value gives exactly one bounded, harmless line."""
    stream = io.StringIO()
    configure_logging("INFO", fmt, stream)
    structlog.get_logger("a").info("event", value=value, other=1)
    structlog.get_logger("a").info("%s", value)
    logging.getLogger("b").info("%s", value)
    logging.getLogger("b").info(value)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert all(line.isprintable() and len(line) < 300_000 for line in lines)
    if fmt == "json":
        first = json.loads(lines[0], parse_constant=pytest.fail)
        assert (first["event"], first["other"]) == ("event", 1)


def test_small_values_that_are_endless_on_paper() -> None:
    """A value is written out only so far."""
    read = json_lines()
    structlog.get_logger("a").info("event", value=explosive())
    (line,) = read()
    assert len(json.dumps(line)) < 100_000


@pytest.mark.parametrize("exc_info", [True, BrokenError(), (None, None, None), "nonsense", Broken()])
def test_exc_info_of_any_kind(exc_info: object) -> None:
    """Whatever is handed in as the exception, the line is written."""
    read = json_lines()
    structlog.get_logger("a").error("event", exc_info=exc_info)
    (line,) = read()
    assert line["event"] == "event"


def test_a_line_that_cannot_be_rendered_says_so() -> None:
    """Bad arguments give a line with the message and the reason, without the arguments."""
    read = json_lines()
    logging.getLogger("a").error("got %d", "payload")
    (line,) = read()
    assert (line["event"], line["level"], line["logger"]) == ("got %d", "error", "a")
    assert "TypeError" in line["log_error"]
    assert "payload" not in json.dumps(line)


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """A line that cannot be written is dropped, and nothing is printed instead."""
    configure_logging("INFO", "json", Full())
    structlog.get_logger("a").error("event", secret=CANARY)
    logging.getLogger("b").error(CANARY)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_stray_encoding_loses_no_line() -> None:
    """A terminal that knows only ASCII gets the line with the rest spelt out."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict", write_through=True)
    configure_logging("INFO", "console", stream)
    structlog.get_logger("a").info("grün \ud800", name="日本")
    assert b"gr\\xfcn" in raw.getvalue()


# --- console -----------------------------------------------------------------------------------------


def test_console_spells_escapes_out() -> None:
    """Foreign text cannot colour, move, rename or forge anything on a terminal."""
    stream = io.StringIO()
    configure_logging("INFO", "console", stream)
    log = structlog.get_logger("a")
    log.info("e\x1b[2J\nforged", name="\x1b]0;title\x07", **{"k\x1b[1m": ["\u202e"]})
    try:
        raise ValueError("\x1b[2Jboom")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b[2J\\nforged" in text
    assert "ValueError: \\x1b[2Jboom" in text
    assert len(text.splitlines()) == 6


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are for terminals, and for people who did not set NO_COLOR."""
    for stream, no_color, coloured in (
        (Terminal(), "", True),
        (Terminal(), "1", False),
        (io.StringIO(), "", False),
    ):
        monkeypatch.setenv("NO_COLOR", no_color)
        configure_logging("INFO", "console", stream)
        structlog.get_logger("a").info("event")
        assert ("\x1b[" in stream.getvalue()) is coloured


# --- plain values ------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.integers() | st.text(), inner),
)


def test_a_cycle_ends_soon() -> None:
    """A value that contains itself is followed a few levels only."""
    assert len(json.dumps(plain(cyclic()))) < 200


@given(anything)
def test_plain_is_always_json(value: object) -> None:
    """Whatever goes in, strict JSON can hold what comes out."""
    json.dumps(plain(value), allow_nan=False)


def test_cut_counts_what_it_leaves_out() -> None:
    """A cut text says how much is missing, and short texts are left alone."""
    assert cut("x" * LONGEST_VALUE) == "x" * LONGEST_VALUE
    assert cut({"k": ["x" * (LONGEST_VALUE + 5)]})["k"][0].endswith("x… (5 characters left out)")
