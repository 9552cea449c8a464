"""Text from outside on a real terminal: with colours on, what a name brings along must not get there."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.daemons import OURS, wait_until
from tests.support.examples import discovered, execution, submitting
from tests.support.simulation import start_simulator
from worker.domain import transitions
from worker.ledger import Ledger

PROGRAM = str(Path(sys.executable).with_name("kinetic-retry"))
KEY = "canary-key-0123456789"
HOSTILE = (
    "Claims\x1b]0;pwned\x07\x1b[31;5mx\x1b[0m\x9b2J [bold red]m[/] [link=https://evil.example]l[/link]"
    "\r\n\u202egnp\u2066\x00\x08 \\"
)
BROUGHT = ("\x1b]", "\x07", "\x9b", "\x08", "\x00", "\u202e", "\u2066", "pwned", "\x1b[31;5m")
"""What of it must never be printed."""
SHOWN = "Claimsx [bold red]m[/] [link=https"
"""How it begins when it is text and nothing else."""


def bare_environment(**env: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | {"TERM": "xterm-256color", "COLUMNS": "200"} | env


def on_a_terminal(directory: Path, *words: str, **env: str) -> str:
    """Run a command whose output is a terminal and return every character that arrived there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *words], cwd=directory, env=bare_environment(**env), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    arrived = b""
    with contextlib.suppress(OSError):  # Linux: the other side is closed
        while piece := os.read(ours, 65536):
            arrived += piece
    os.close(ours)
    assert process.wait(30) == 0, arrived
    return arrived.decode()


def assert_harmless(printed: str) -> None:
    assert [brought for brought in BROUGHT if brought in printed] == []


async def test_names_and_reasons_are_text_on_a_terminal(
    ledger: Ledger, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Workflow name, reason and evidence, in a table and in a story; ours alone are the colours."""
    await ledger.begin(timedelta(0))
    now = datetime.now(UTC)
    found = discovered(execution(workflow_name=HOSTILE, updated_at=now), now=now)
    sent = submitting(found.after, now=now)
    refused = transitions.reject(sent.after, reason="invalid", detail=HOSTILE, now=now)
    for change in (found, sent, refused):
        await ledger.commit(change)
    env = {"REDIS_URL": redis_url, "LEDGER_NAMESPACE": namespace}
    for words in (("list",), ("show", "root")):
        printed = on_a_terminal(tmp_path, *words, **env)
        assert "\x1b[" in printed  # our colours: this is a terminal
        assert_harmless(printed)
        assert printed.count(SHOWN) >= 2
    printed = on_a_terminal(tmp_path, "list", "--json", **env)
    assert printed.isascii()
    assert not set(map(chr, range(32))) & set(printed) - {"\r", "\n"}
    assert json.loads(printed)[0]["workflow_name"] == HOSTILE  # programs get it as it is


@pytest.mark.processes
def test_up_tells_hostile_workflows_and_ends_with_a_story(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    """Whatever the API calls its workflows; SIGTERM is an ordinary end, with figures and a whole story."""
    out = tmp_path / "out"
    with start_simulator(api_key=KEY) as simulator, out.open("wb") as stream:
        simulator.fail(simulator.add_workflow(HOSTILE, "recovers_after", retries=2))
        env = bare_environment(
            KINETIC_BASE_URL=simulator.url,
            KINETIC_API_KEY=KEY,
            REDIS_URL=redis_url,
            LEDGER_NAMESPACE=namespace,
            DISCOVERY_BACKFILL="1h",
            DISCOVERY_INTERVAL="1s",
            RETRY_BASE_DELAY="100ms",
            RETRY_BACKOFF="fixed",
            WATCH_INTERVAL="500ms",
        )
        process = subprocess.Popen(
            [PROGRAM, "up"], cwd=tmp_path, env=env, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            wait_until(lambda: "recovered by attempt 2" in out.read_text(), "the recovery")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    told, _, summary = out.read_text().partition("\nSummary\n")
    assert "\x1b" not in told + summary  # no terminal: no colours either
    assert_harmless(told + summary)
    assert KEY not in told + summary
    assert told.count(SHOWN) >= 6  # found, two attempts with their clones, recovered
    assert "recovered  1 with 2 clones" in summary
    steps = (
        "the execution failed",
        "attempt 1 of 5 scheduled",
        "answered with the clone",
        "attempt 1 failed",
        "attempt 2 of 5 scheduled",
        "the clone completed",
        "→ recovered after 2 attempts",
    )
    story = summary.partition("The story of one")[2]
    places = [story.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
