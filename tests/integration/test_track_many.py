"""Executions to watch, by the thousand: from standard input, and in a message of another program."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.support.commands import Command
from tests.support.daemons import daemons, wait_until
from tests.support.redis_server import kill, redis_server, revive
from worker.engine.context import Context
from worker.engine.track import MOST, track
from worker.ledger import Ledger
from worker.ledger.reports import Reports


class Piped:
    """Standard input that is a pipe."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)

    def isatty(self) -> bool:
        return False


async def tracked(ledger: Ledger) -> set[str]:
    return set(await ledger.connection.command("ZRANGE", ledger.keys.tracked, 0, -1))


async def test_thousands_from_a_pipe(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches; one that comes again is known; space, blank lines and a byte order mark mean nothing."""
    lines = [f"run-{number}" for number in range(5000)]
    text = "\ufeff" + "\r\n".join(lines[:3]) + "\n\n   \n" + "\n".join(lines[3:]) + "\nrun-7"
    monkeypatch.setattr(sys, "stdin", Piped(text.encode()))
    assert (await command("track", "-")).out == "5000 under watch, 1 were already\n"
    assert await tracked(ledger) == set(lines)


async def test_a_bad_line_costs_nobody_else(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that cannot be uuids are counted and named by number, safely; the others are tracked; code 1."""
    bad = [b"\x1b[31mred", b"\xff\xfe", b"x" * 5000, b"..", b"a\x00b"]
    lines = [item for pair in zip([b"run-%d" % i for i in range(5)], bad, strict=True) for item in pair]
    monkeypatch.setattr(sys, "stdin", Piped(b"\n".join(lines)))
    answer = await command("track", "-")
    assert (answer.code, answer.out) == (1, "5 under watch\n")
    assert await tracked(ledger) == {f"run-{i}" for i in range(5)}
    assert "lines 2 (" in answer.err
    assert all(f" {number} (" in answer.err for number in (4, 6, 8, 10))
    assert answer.err.isprintable() or "\x1b" not in answer.err
    monkeypatch.setattr(sys, "stdin", Piped(b"\n".join(lines)))
    as_json = await command("track", "-", "--json")
    assert json.loads(as_json.out) == {
        "tracked": 0, "known": 5, "unusable": 5, "unusable_lines": [2, 4, 6, 8, 10],
    }  # fmt: skip


async def test_many_bad_lines_are_counted_and_a_few_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong file does not fill the screen."""
    monkeypatch.setattr(sys, "stdin", Piped(b"..\n" * 3000))
    answer = await command("track", "-")
    assert answer.code == 1
    assert "and 2990 more" in answer.err
    assert len(answer.err) < 400


async def test_what_was_tracked_before_redis_went_is_said(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a pipe is not nothing, and giving it again does no harm."""
    from worker.ledger import LedgerUnavailable

    calls: list[int] = []

    async def once(_: Ledger, uuids: list[str]) -> int:
        calls.append(len(uuids))
        if len(calls) > 1:
            raise LedgerUnavailable("Redis is not available")
        return len(uuids)

    monkeypatch.setattr(Ledger, "track", once)
    monkeypatch.setattr(sys, "stdin", Piped(b"\n".join(b"run-%d" % i for i in range(2500))))
    answer = await command("track", "-")
    assert (answer.code, answer.out) == (3, "")
    assert "1000 under watch; give all of them again" in answer.err


async def test_standard_input_takes_nothing_beside_it(command: Command) -> None:
    """Or a typing mistake would track what was meant as something else."""
    assert (await command("track", "-", "run-1")).code == 2


HOSTILE: tuple[tuple[Any, ...], ...] = (
    (), ("run-1",), (["run-1"], ["run-2"]), ({"uuids": []},), (None,), (7,),
    ([f"run-{i}" for i in range(MOST + 1)],),
)  # fmt: skip


@pytest.mark.parametrize("arguments", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_message_that_makes_no_sense_tracks_nothing(
    ctx: Context, capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...]
) -> None:
    """Refused as a whole, in words that quote nothing of it."""
    await track(ctx, arguments)
    assert await tracked(ctx.ledger) == set()
    said = capsys.readouterr().out
    assert "tracking_refused" in said
    assert "run-" not in said


async def test_a_message_with_some_bad_uuids(ctx: Context, capsys: pytest.CaptureFixture[str]) -> None:
    """What can be tracked is, each once; the rest is counted, whatever it is."""
    given = [
        "run-1",
        "run-1",
        "..",
        "",
        "x" * 1000,
        "a\nb",
        None,
        7,
        True,
        ["run-2"],
        {"a": 1},
        "\ud800",
        "run-3",
    ]
    await track(ctx, (given,))
    assert await tracked(ctx.ledger) == {"run-1", "run-3"}
    said = capsys.readouterr().out
    assert "tracking_begun" in said
    assert "unusable=10" in said


@pytest.mark.processes
@pytest.mark.timeout(120)
def test_other_programs_send_uuids_to_a_worker(tmp_path: Path) -> None:
    """As docs/track.md says, without importing this package.

    What is hostile ends in the log, without a trace of it; what comes while the ledger is away waits for it.
    """
    with redis_server() as broker, redis_server() as store:
        broker_url, store_url = (f"redis://127.0.0.1:{server.port}/0" for server in (broker, store))
        settings = {
            "KINETIC_BASE_URL": "http://127.0.0.1:1", "KINETIC_API_KEY": "canary-key-0123456789",
            "REDIS_URL": store_url, "CELERY_BROKER_URL": broker_url, "DISCOVERY_MODE": "track",
            "WORKER_CONCURRENCY": "1",
        }  # fmt: skip
        sender = Celery(broker=broker_url)

        def send(*arguments: object, **named: object) -> None:
            sender.send_task("kinetic_retry.track", arguments, named, queue="kinetic-retry.looks")

        with daemons(tmp_path, **settings) as rig:
            worker = rig.start("worker")
            for arguments in (
                (),
                ("canary-argument",),
                (["..", ["canary-argument"]],),
                ({"a": "canary-argument"},),
            ):
                send(*arguments)
            send(uuids=["canary-argument"])
            send(["run-1", "run-2"])
            wait_until(lambda: rig.status()["tracked"] == 2, "two executions under watch")
            assert len(rig.events("tracking_refused")) == 4
            assert [each["tracked"] for each in rig.events("tracking_begun")] == [0, 2]
            kill(store)
            send(["run-3"])
            wait_until(lambda: bool(rig.events("ledger_unavailable")), "a word about the ledger")
            revive(store)
            wait_until(lambda: rig.status()["tracked"] == 1, "the execution of the message that waited")
            assert worker.stop() == 0
            assert "Traceback" not in rig.text()
            assert "canary-argument" not in rig.text()


async def test_since_when_is_by_the_clock_of_the_server(command: Command, ledger: Ledger) -> None:
    """As everything else that is on record."""
    before = await Reports(ledger).now()
    await command("track", "run-1")
    since = await ledger.tracked_since("run-1")
    assert since is not None
    assert abs((since - before).total_seconds()) < 60
