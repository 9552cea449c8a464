"""A hostile API, the real engine, the real ledger and the real commands: nothing of it acts on anything."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch
from urllib.parse import unquote

import pytest
import structlog

from config.logging import configure_logging
from tests.fuzz.evil_kinetic import KEY, PATIENT, UNUSABLE, UUIDS, EvilKinetic, evil_kinetic
from tests.support.daemons import OURS
from tests.support.examples import NO_LIMITS, alone
from worker.domain.lineage import Lineage, State
from worker.domain.policy import Jitter, Policy, PolicyBook
from worker.engine import discover, resolve, submit, watch
from worker.engine.context import Context, Options
from worker.kinetic import Endpoint, KineticClient, ListContract
from worker.ledger import Ledger
from worker.ledger.reports import Reports

PROGRAM = str(Path(sys.executable).with_name("kinetic-retry"))
WITHIN_S = 40
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
OPTIONS = Options(
    request_bound=timedelta(seconds=5),
    discovery_interval=timedelta(0),
    submit_lease=timedelta(seconds=20),
    watch_interval=timedelta(0),
    resolve_interval=timedelta(0),
    resolve_grace=timedelta(0),
    limits=NO_LIMITS,
)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as a worker writes it, everything included; afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("DEBUG", "json", stream, secrets=[])  # the last line of defence must not be needed
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@dataclass(frozen=True)
class Printed:
    """What a command printed."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str


async def test_nothing_hostile_reaches_a_terminal_a_log_or_a_path(
    ledger: Ledger, redis_url: str, namespace: str, tmp_path: Path, log: io.StringIO
) -> None:
    """Every failure that can be named has its verdict, and all of it is plain text everywhere."""
    async with evil_kinetic() as (evil, url):
        await the_worker_works(ledger, evil, url)
        env = environment(tmp_path, url, redis_url, namespace)
        printed = await the_commands_print(env, tmp_path / "work")
    roots = [each.root async for each in Reports(ledger).lineages()]
    assert {*UUIDS} <= {*roots}
    for each in printed:
        assert each.code in (0, 1, 2), each
        assert_plain(each.out, each.words)
        assert_plain(each.err, each.words)
    assert_one_object_per_line(log.getvalue())
    assert_paths_are_ours(evil)
    assert [*(tmp_path / "work").iterdir(), *(tmp_path / "home").iterdir()] == []
    everything = log.getvalue() + await dump(ledger) + "".join(each.out + each.err for each in printed)
    assert KEY not in everything
    assert PATIENT not in everything


async def the_worker_works(ledger: Ledger, evil: EvilKinetic, url: str) -> None:
    """Run the engine until nothing is left to do but what a person decides."""
    await ledger.begin(timedelta(minutes=10))
    endpoint = Endpoint(url, KEY, timedelta(seconds=4), timedelta(seconds=1), 10)
    with patch.dict(os.environ, {"no_proxy": "127.0.0.1"}):
        client = KineticClient(endpoint, ListContract(path="/api/executions"), now=ledger.clock.now)
    policy = alone(Policy(max_attempts=2, base_delay=timedelta(0), jitter=Jitter.NONE))
    ctx = Context(ledger, client, PolicyBook(policy), OPTIONS, random=lambda: 0.0)
    deadline = time.monotonic() + WITHIN_S
    try:
        while not await is_done(ledger):
            assert time.monotonic() < deadline, [each async for each in Reports(ledger).lineages()]
            for job in (discover, submit, watch, resolve):
                await job(ctx)
    finally:
        await client.aclose()


async def is_done(ledger: Ledger) -> bool:
    lineages: list[Lineage] = [each async for each in Reports(ledger).lineages()]
    settled = [each for each in lineages if each.state.is_final or each.state is State.HELD]
    return len(settled) == len(lineages) >= len(UUIDS)


def environment(tmp_path: Path, url: str, redis_url: str, namespace: str) -> dict[str, str]:
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | {
        "KINETIC_BASE_URL": url,
        "KINETIC_API_KEY": KEY,
        "REDIS_URL": redis_url,
        "LEDGER_NAMESPACE": namespace,
        "HOME": str(tmp_path / "home"),
        "no_proxy": "127.0.0.1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


async def the_commands_print(env: dict[str, str], directory: Path) -> list[Printed]:
    """Run commands as a person would, in a pipe and with colours forced on."""
    coloured = env | {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "120"}
    printed = await asyncio.gather(
        run(env, directory, "list"),
        run(env, directory, "list", "--json"),
        run(env, directory, "show", "../x", "--json"),
        *(
            run(coloured, directory, *words)
            for words in (
                ("list",),
                ("status",),
                ("show", "--", "a/b"),
                ("show", "--", "q?status=completed#f"),
                ("check",),
                ("track", "--", UNUSABLE[3], UNUSABLE[4]),
                ("show", "--", UNUSABLE[4]),
                ("show", "a", f"{UNUSABLE[4]}\u202e\x07"),
                ("policy", "explain", "--workflow", f"{UNUSABLE[4]}[red]"),
            )
        ),
    )
    said = ("--reason", f"{UNUSABLE[4]}\u202e[red]{KEY}")
    return [
        *printed,
        await run(coloured, directory, "resolve", "--not-delivered", *said, "--", "--help"),
        await run(coloured, directory, "show", "--", "--help"),
        await run(coloured, directory, "track", "--", "a/b", "new\\[red]"),
    ]


async def run(env: dict[str, str], directory: Path, *words: str) -> Printed:
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *words,
        cwd=directory,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return Printed(words, process.returncode or 0, out.decode(), err.decode())


def assert_plain(text: str, words: tuple[str, ...]) -> None:
    """Nothing but printable characters, line ends and our own colours, which need no other parameters."""
    assert "38;5;199" not in text, words
    acting = {char for char in COLOUR.sub("", text) if unicodedata.category(char) in ACTING} - {"\n"}
    assert acting == set(), (words, text)


ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def assert_one_object_per_line(text: str) -> None:
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) > 20
    for line in lines:
        assert isinstance(json.loads(line), dict)
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["event"] != "forged"


def assert_paths_are_ours(evil: EvilKinetic) -> None:
    """Each request line has one of three forms, and its uuid is one that the API gave."""
    named = {uuid for uuid in [*evil.rows, *UUIDS] if uuid not in UNUSABLE}
    for line in evil.lines:
        if re.fullmatch(r"GET /api/executions\?[a-z]+=[a-z0-9&=]+ HTTP/1\.1", line):
            continue
        found = re.fullmatch(r"(GET|POST) /api/executions/([A-Za-z0-9%._~-]+)(/retry)? HTTP/1\.1", line)
        assert found, line
        assert (found[1] == "POST") == (found[3] is not None), line
        assert unquote(found[2]) in named, line
    assert sum(line.startswith("POST") for line in evil.lines) >= len(UUIDS)


async def dump(ledger: Ledger) -> str:
    """Return everything that the ledger has written."""
    command = ledger.connection.command
    keys = await command("KEYS", f"{{{ledger.keys.namespace}}}*")
    assert keys
    reads = {
        "string": ("GET",),
        "hash": ("HGETALL",),
        "zset": ("ZRANGE", 0, -1),
        "set": ("SMEMBERS",),
        "stream": ("XRANGE", "-", "+"),
    }
    found = []
    for key in keys:
        name, *rest = reads[await command("TYPE", key)]
        found.append(f"{key} {await command(name, key, *rest)}")
    return "\n".join(found)
