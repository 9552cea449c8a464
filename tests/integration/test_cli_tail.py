"""`tail`: what happens, told as it happens, on a real server that may go away."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Command
from tests.support.daemons import wait_until
from tests.support.examples import discovered, execution, running, submitting
from tests.support.redis_server import kill, redis_server, revive
from worker.domain import transitions
from worker.domain.lineage import Lineage
from worker.ledger import Connection, Ledger
from worker.ledger.gate import Halt
from worker.ledger.reports import Reports


async def begun(ledger: Ledger, root: str, workflow: str = "Claims") -> Lineage:
    """Store a new failure."""
    now = await Reports(ledger).now()
    change = discovered(
        execution(root, workflow_name=workflow, workflow_uuid=f"w-{workflow}", updated_at=now), now=now
    )
    await ledger.commit(change)
    return change.after


async def some_history(ledger: Ledger) -> None:
    """Two failures, one of them retried and then held by somebody, and a pause of everything."""
    await ledger.begin(timedelta(minutes=10))
    first = await begun(ledger, "one")
    await begun(ledger, "two", "Referral [1]")
    now = await Reports(ledger).now()
    for change in (submitting(first, now=now), running(first, "clone-of-one", now=now)):
        await ledger.commit(change)
    held = transitions.hold(
        await begun(ledger, "three"), reason="held_by_person", detail="ann: later", now=now
    )
    await ledger.commit(transitions.by_person(held, decision="hold", by="ann@desk", why="later"))
    halt = Halt("bob@desk", "the payer is down", now, None)
    await ledger.gate.halt(halt, "retries_paused", {"by": halt.by, "why": halt.why})


async def told(command: Command, *words: str) -> list[dict[str, Any]]:
    answer = await command("tail", "--no-follow", "--json", *words)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


async def test_what_happened_is_told_in_order(command: Command, ledger: Ledger) -> None:
    """Each event once with its facts, as an object a line; nothing of an earlier time than asked for."""
    await some_history(ledger)
    events = await told(command)
    assert [(each["event"], each["root"]) for each in events] == [
        *(("execution_discovered", "one"), ("retry_scheduled", "one")),
        *(("execution_discovered", "two"), ("retry_scheduled", "two")),
        *(("retry_submitted", "one"), ("retry_accepted", "one")),
        *(("execution_discovered", "three"), ("retry_scheduled", "three")),
        *(("person_decided", "three"), ("retry_held", "three"), ("retries_paused", None)),
    ]
    assert [each["at"] for each in events] == sorted(each["at"] for each in events)
    assert await told(command, "--since", "2020-01-01") == events
    assert await told(command, "--since", "2999-01-01") == []


FILTERS: tuple[tuple[tuple[str, ...], set[tuple[str, str | None]]], ...] = (
    (("--event", "retry_s*", "--event", "retries_paused"),
     {("retry_scheduled", "one"), ("retry_scheduled", "two"), ("retry_scheduled", "three"),
      ("retry_submitted", "one"), ("retries_paused", None)}),
    (("--workflow", "referral*"), {("execution_discovered", "two"), ("retry_scheduled", "two")}),
    (("--workflow", "w-Referral [1]", "--event", "execution_*"), {("execution_discovered", "two")}),
    (("--people",), {("person_decided", "three"), ("retries_paused", None)}),
    (("--people", "three"), {("person_decided", "three")}),
    (("clone-of-one", "--event", "retry_*"),
     {("retry_scheduled", "one"), ("retry_submitted", "one"), ("retry_accepted", "one")}),
    (("--root", "two"), {("execution_discovered", "two"), ("retry_scheduled", "two")}),
    (("--root", "nobody"), set()),
)  # fmt: skip


@pytest.mark.parametrize(("words", "expected"), FILTERS, ids=range(len(FILTERS)))
async def test_filters(
    command: Command, ledger: Ledger, words: tuple[str, ...], expected: set[tuple[str, str | None]]
) -> None:
    """By event, workflow, lineage (any execution of it), and by what persons did; all of them hold."""
    await some_history(ledger)
    assert {(each["event"], each["root"]) for each in await told(command, *words)} == expected


async def test_words_for_people(command: Command, ledger: Ledger) -> None:
    """A line each: when, which workflow, what, whose; names cannot do anything to the terminal."""
    await some_history(ledger)
    await begun(ledger, "evil", "\x1b]0;owned\x07[red]Intake")
    lines = (await command("tail", "--no-follow")).out.splitlines()
    assert len(lines) == 13
    assert "Referral [1]" in lines[2]
    assert lines[2].rstrip().endswith("✗ failed two")
    assert "ann@desk decided that it is held: later" in lines[8]
    assert "bob@desk" in lines[10]
    assert "the payer is down" in lines[10]
    assert "[red]Intake" in lines[11]
    assert "\x1b" not in "".join(lines)


async def test_an_entry_that_nobody_can_read_ends_nothing(command: Command, ledger: Ledger) -> None:
    """What another version, or a stranger, wrote into the stream is shown as far as it goes."""
    await ledger.begin(timedelta(0))
    for name, data in (("execution_recovered", '{"duration":"soon"}'), ("new_thing", "[1]"), ("odd", "{")):
        await ledger.connection.command("XADD", ledger.keys.events, "*", "event", name, "data", data)
    answer = await command("tail", "--no-follow")
    assert answer.code == 0
    assert [line.split(" ", 1)[1].strip() for line in answer.out.splitlines()] == [
        *("execution recovered (duration soon)", "new thing", "odd")
    ]


async def test_wrong_words_are_code_2(command: Command) -> None:
    """Before anything is asked of the server."""
    assert (await command("tail", "a", "--root", "b")).code == 2
    assert (await command("tail", "--since", "soon")).code == 2


@contextmanager
def tailing(directory: Path, url: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `tail` as its own process, its output in a pipe and its words in a file, until the block ends."""
    err = directory / "err"
    with err.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "tail", *words],
            env={**os.environ, "REDIS_URL": url, "LEDGER_NAMESPACE": "tailed"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said,
        )  # fmt: skip
    try:
        yield process, err
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.timeout(90)
async def test_following_survives_a_restart_of_redis_and_ends_with_its_reader(tmp_path: Path) -> None:
    """What happens before, while and after the server is away is told, each once; the outage in two lines.

    And when whoever reads has gone it ends without a word, although nothing more happens.
    """
    directory = tmp_path / "data"
    directory.mkdir()
    with redis_server(appendonly="yes", appendfsync="always", dir=str(directory)) as server:
        url = f"redis://127.0.0.1:{server.port}/0"

        async def happens(root: str) -> None:
            ledger = Ledger(Connection(url), "tailed", events_maxlen=1000)
            await ledger.begin(timedelta(minutes=10))
            await begun(ledger, root)
            await ledger.aclose()

        await happens("before")
        words = ("--json", "--event", "execution_discovered", "--since", "1h")
        with tailing(tmp_path, url, *words) as (process, err):
            pipe = process.stdout
            assert pipe is not None

            async def next_root() -> str:
                line = await asyncio.wait_for(asyncio.to_thread(pipe.readline), 30)
                return str(json.loads(line)["root"])

            assert await next_root() == "before"
            await happens("during")
            assert await next_root() == "during"
            kill(server)
            told_of_it = partial(wait_until, lambda: "waiting for it to come back" in err.read_text())
            await asyncio.to_thread(told_of_it, "a word about the outage")
            revive(server)
            await happens("after")
            assert await next_root() == "after"
            pipe.close()
            await asyncio.to_thread(process.wait, 30)
        said = err.read_text().splitlines()
        assert len(said) == 2
        assert said[1] == "Redis is back"
