"""The command line against a real server: what people see, what programs read, and what never shows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.daemons import OURS, wait_until
from tests.support.examples import discovered, execution, submitting
from tests.support.redis_server import redis_server
from worker.cli.app import cli
from worker.cli.errors import CommandError
from worker.domain import transitions
from worker.domain.executions import Status
from worker.domain.lineage import State
from worker.ledger import Connection, Ledger

PROGRAM = str(Path(sys.executable).with_name("kinetic-retry"))
HOSTILE = "Prior \x1b[31mauth\x1b[0m [bold red]x[/] \u202egnp\nline"


@pytest.fixture
def run(
    redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run a command against this test's own ledger, in an empty directory."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def command(*words: str, **env: str) -> Result:
        settings = {"REDIS_URL": redis_url, "LEDGER_NAMESPACE": namespace, **env}
        return CliRunner().invoke(cli, list(words), env=settings)

    return command


@pytest.fixture
def fill(redis_url: str, namespace: str) -> Callable[[Callable[[Ledger], Awaitable[None]]], None]:
    """Put lineages into this test's ledger, in an event loop of its own."""

    def work(filling: Callable[[Ledger], Awaitable[None]]) -> None:
        async def session() -> None:
            ledger = Ledger(Connection(redis_url), namespace, events_maxlen=1000)
            await filling(ledger)
            await ledger.aclose()

        asyncio.run(session())

    return work


async def a_few(ledger: Ledger) -> None:
    """One scheduled with a hostile name, one running, one rejected."""
    await ledger.begin(timedelta(0))
    now = ledger.clock.now()
    await ledger.commit(discovered(execution("waits", workflow_name=HOSTILE, updated_at=now), now=now))
    started = discovered(execution("runs", workflow_uuid="workflow-2", updated_at=now), now=now)
    await ledger.commit(started)
    sent = submitting(started.after, now=now)
    await ledger.commit(sent)
    made = execution("clone-of-runs", Status.QUEUED)
    await ledger.commit(transitions.accept(sent.after, made, now=now, evidence="201"))
    gone = discovered(execution("gone", updated_at=now), now=now)
    await ledger.commit(gone)
    refused = submitting(gone.after, now=now)
    await ledger.commit(refused)
    await ledger.commit(
        transitions.reject(refused.after, reason="not_found", detail="no such execution", now=now)
    )


def test_status_is_an_object_with_every_state(run: Callable[..., Result], fill: Callable[..., None]) -> None:
    """Programs rely on the shape, also of an empty ledger."""
    empty = json.loads(run("status", "--json").output)
    assert set(empty["states"]) == {state.value for state in State}
    assert (set(empty["states"].values()), empty["next_due"], empty["suspended"]) == ({0}, None, False)
    fill(a_few)
    full = json.loads(run("status", "--json").output)
    assert {state: count for state, count in full["states"].items() if count} == {
        "scheduled": 1,
        "running": 1,
        "rejected": 1,
    }
    assert full["counters"]["execution_discovered"] == 3
    assert full["next_due"].endswith("Z")
    shown = run("status")
    assert shown.exit_code == 0
    assert "scheduled" in shown.output


def test_list_by_state_and_workflow(run: Callable[..., Result], fill: Callable[..., None]) -> None:
    """By state, by uuid, by name with a wildcard, and no more than asked for."""
    fill(a_few)

    def roots(*words: str) -> list[str]:
        return [each["root"] for each in json.loads(run("list", "--json", *words).output)]

    assert sorted(roots()) == ["gone", "runs", "waits"]
    assert roots("--state", "running") == ["runs"]
    assert roots("--workflow", "workflow-2") == ["runs"]
    assert roots("--workflow", "prior AUTHO*", "--state", "rejected") == ["gone"]
    assert len(roots("--limit", "2")) == 2
    assert run("list", "--state", "nonsense").exit_code == 2
    assert "not_found: no such execution" in run("list", "--state", "rejected").output


@pytest.mark.parametrize("uuid", ["runs", "clone-of-runs"])
def test_the_story_is_told_by_any_execution_of_it(
    run: Callable[..., Result], fill: Callable[..., None], uuid: str
) -> None:
    """From the events; and from the record when the stream has lost them."""
    fill(a_few)
    told = run("show", uuid).output
    for words in (
        "the execution failed",
        "attempt 1 of 3 scheduled",
        "answered with the clone clone-of-runs",
    ):
        assert words in told
    assert "its clone is running" in told

    async def trim(ledger: Ledger) -> None:
        await ledger.connection.command("XTRIM", ledger.keys.events, "MAXLEN", 0)

    fill(trim)
    told = run("show", uuid).output
    assert "attempt 1: retry call sent" in told
    assert "clone-of-runs" in told
    record = json.loads(run("show", uuid, "--json").output)
    assert (record["root"], record["state"]) == ("runs", "running")


def test_an_unknown_execution_is_said_so(run: Callable[..., Result]) -> None:
    """Exit code 1, and what to do."""
    result = run("show", "stranger")
    assert isinstance(result.exception, CommandError)
    assert result.exception.exit_code == 1
    assert "kinetic-retry track stranger" in str(result.exception)


def test_hostile_names_do_not_reach_the_terminal(
    run: Callable[..., Result], fill: Callable[..., None]
) -> None:
    """No escape sequence, no bidi control, no line break; markup is shown as it is written."""
    fill(a_few)
    for words in (("list",), ("show", "waits")):
        output = run(*words).output
        assert "\x1b" not in output
        assert "\u202e" not in output
        assert "[bold red]x[/]" in output
        assert "gnp line" in output


def test_tracking_takes_usable_uuids_only(run: Callable[..., Result]) -> None:
    """New ones are counted; one that cannot be part of an address stops it before anything is done."""
    assert json.loads(run("track", "a", "b", "a", "--json").output) == {"tracked": 2, "known": 0}
    assert json.loads(run("track", "b", "c", "--json").output) == {"tracked": 1, "known": 1}
    refused = run("track", "d", "..")
    assert isinstance(refused.exception, CommandError)
    assert refused.exception.exit_code == 2
    assert json.loads(run("status", "--json").output)["tracked"] == 3


def test_policy_explain_names_the_entry_and_the_times(run: Callable[..., Result], tmp_path: Path) -> None:
    """The entry that applies, its delays, and what the deadline cuts off."""
    (tmp_path / "p.toml").write_text(
        '[[policy]]\nname = "fast"\nworkflow = "Elig*"\nbackoff = "fixed"\nbase_delay = "30s"\n'
        'jitter = "none"\nmax_attempts = 3\ndeadline = "70s"\n'
    )
    env = {"RETRY_POLICY_FILE": str(tmp_path / "p.toml")}
    told = json.loads(run("policy", "explain", "--workflow", "eligibility", "--json", **env).output)
    assert told["policy"] == "fast"
    assert [row["delay_s"] for row in told["attempts"]] == [[30.0, 30.0]] * 3
    assert [row["past_deadline"] for row in told["attempts"]] == [False, False, True]
    assert json.loads(run("policy", "explain", "--json", **env).output)["policy"] == "default"
    shown = run("policy", "explain", "--workflow", "eligibility", **env).output
    assert "past the deadline" in shown
    assert "█" in shown


def test_config_shows_sources_and_no_secret(run: Callable[..., Result]) -> None:
    """Neither the key nor the password of an address."""
    env = {"KINETIC_API_KEY": "canary-key", "REDIS_URL": "redis://:canary-pass@127.0.0.1:1/0"}
    for words in (("config",), ("config", "--json"), ("config", "--changed")):
        output = run(*words, **env).output
        assert "canary" not in output
        assert "KINETIC_API_KEY" in output
    rows = {row["variable"]: row for row in json.loads(run("config", "--json", **env).output)}
    assert rows["KINETIC_API_KEY"]["source"] == "environment"
    assert rows["RETRY_MAX_ATTEMPTS"] == rows["RETRY_MAX_ATTEMPTS"] | {"value": "5", "source": "default"}


def program(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program without any of our variables but those given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return subprocess.run(
        [PROGRAM, *words], env=clean | env, capture_output=True, text=True, timeout=60, check=False
    )


def test_health_is_the_age_of_a_file(tmp_path: Path) -> None:
    """Fresh is 0, stale or never is 1."""
    where = {"TMPDIR": str(tmp_path)}
    assert program("health", "worker", **where).returncode == 1
    sign = tmp_path / "kinetic-retry-worker.alive"
    sign.touch()
    assert program("health", "worker", **where).returncode == 0
    assert program("health", "beat", **where).returncode == 1
    os.utime(sign, (time.time() - 60, time.time() - 60))
    stale = program("health", "worker", "--json", **where)
    assert (stale.returncode, json.loads(stale.stdout)["alive"]) == (1, False)


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_wrong_settings_are_a_line_each(role: str, tmp_path: Path) -> None:
    """Exit code 2; JSON unless the log is for people; no traceback."""
    env = {"KINETIC_TIMEOUT": "soon", "RETRY_BAES_DELAY": "3s"}
    done = program(role, **env)
    assert done.returncode == 2
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"KINETIC_TIMEOUT", "RETRY_BAES_DELAY"} <= {line["variable"] for line in lines}
    done = program(role, LOG_FORMAT="console", **env)
    assert (
        'KINETIC_TIMEOUT: got "soon", takes a duration such as 30s, 5m or 1h30m' in done.stderr.splitlines()
    )
    assert "Traceback" not in done.stderr


def test_a_server_that_is_away_is_exit_code_3() -> None:
    """In words, without a traceback."""
    done = program("status", REDIS_URL="redis://:canary@127.0.0.1:1/0")
    assert done.returncode == 3
    assert "Check REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "canary" not in done.stderr


def test_check_names_what_is_wrong_and_the_cure() -> None:
    """A server that forgets, and an API that is not there."""
    with redis_server() as server:
        env = {"KINETIC_BASE_URL": "http://127.0.0.1:1", "KINETIC_API_KEY": "canary-key"}
        done = program("check", "--json", REDIS_URL=f"redis://127.0.0.1:{server.port}/0", **env)
    findings = {each["about"]: each for each in json.loads(done.stdout)}
    assert done.returncode == 1
    assert (findings["persistence"]["verdict"], findings["eviction"]["verdict"]) == ("wrong", "ok")
    assert "appendfsync always" in findings["persistence"]["cure"]
    assert (findings["api"]["verdict"], findings["redis"]["verdict"]) == ("wrong", "ok")
    assert "canary" not in done.stdout


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("--help", {"celery", "httpx", "pydantic", "redis", "rich", "asyncio"}),
        (
            "status",
            {"celery", "kombu", "httpx", "structlog", "re2", "tomllib", "opentelemetry.metrics"}
            | {"worker.domain.alerts", "worker.domain.transitions", "worker.engine", "worker.kinetic"},
        ),
    ],
)
def test_commands_end_without_the_heavy_libraries(
    redis_url: str, namespace: str, command: str, heavy: set[str]
) -> None:
    """What a short command does not need it does not import, from its start to its end."""
    code = f"import sys; from worker.cli.app import run; run(['{command}']); print(); print(*sys.modules)"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"REDIS_URL": redis_url, "LEDGER_NAMESPACE": namespace},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    *shown, modules = done.stdout.splitlines()
    assert heavy & set(modules.split()) == set()
    assert any(("Exit codes" if command == "--help" else "scheduled") in line for line in shown)


def children_of(marker: str) -> set[int]:
    """Return the live processes whose environment carries a marker."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", ["by itself", "SIGINT", "SIGKILL"])
def test_up_leaves_no_process_behind(end: str, tmp_path: Path, namespace: str) -> None:
    """However it ends: everything it started ends with it."""
    marker = f"UP_TEST_MARKER={namespace}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [PROGRAM, "up", *(["--for", "12s"] if end == "by itself" else [])],
            env=clean | {"UP_TEST_MARKER": namespace},
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: len(children_of(marker)) >= 5, "all processes", 40)
            if end == "by itself":
                assert process.wait(60) == 0
                output = (tmp_path / "out").read_text()
                assert "Summary" in output
                assert "Traceback" not in output
            else:
                process.send_signal(signal.SIGINT if end == "SIGINT" else signal.SIGKILL)
                assert process.wait(60) in (0, -signal.SIGKILL)
            wait_until(lambda: not children_of(marker), "the end of all of them", 40)
        finally:
            for pid in children_of(marker):
                os.kill(pid, signal.SIGKILL)
