"""`check` against a server that keeps its promises and deployments of many habits. It never sends a retry."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.support.daemons import OURS, wait_until
from tests.support.redis_server import redis_server
from tests.support.simulation import SimulatorHandle, start_simulator
from worker.cli.app import run

KEY = "canary-key-0123456789"
Check = Callable[..., dict[str, dict[str, str]]]


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[str]:
    with redis_server(appendonly="yes", appendfsync="always") as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[SimulatorHandle]:
    with start_simulator(api_key=KEY) as running:
        workflow = running.add_workflow("Claims")
        for age_s in range(1, 13):
            outcome = "failed" if age_s % 2 else "completed"
            running.create(workflow, 1, outcome, created_age_s=age_s, updated_age_s=age_s)
        yield running


@pytest.fixture
def simulator(shared_simulator: SimulatorHandle) -> Iterator[SimulatorHandle]:
    """A deployment with the default habits; a check must not have changed anything there."""
    before = shared_simulator.record()["executions"]
    yield shared_simulator
    shared_simulator.options(
        order="desc", ignore_status_filter=False, has_list=True, envelope="bare", pagination="offset"
    )
    record = shared_simulator.record()
    assert (record["executions"], "retry" in record["requests"]) == (before, False)


@pytest.fixture
def check(
    durable_redis: str,
    simulator: SimulatorHandle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> Check:
    """Run `check --json` and return its findings by subject; the exit code must go with them."""
    monkeypatch.chdir(tmp_path)

    def findings(**env: str) -> dict[str, dict[str, str]]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(OURS)]:
                patch.delenv(name)
            basis = {"KINETIC_BASE_URL": simulator.url, "KINETIC_API_KEY": KEY, "REDIS_URL": durable_redis}
            for name, text in {**basis, **env}.items():
                patch.setenv(name, text)
            code = run(["check", "--json"])
        captured = capsys.readouterr()
        assert "canary" not in captured.out + captured.err
        found = {each["about"]: each for each in json.loads(captured.out)}
        assert code == int(any(each["verdict"] == "wrong" for each in found.values()))
        return found

    return findings


def test_all_is_well(check: Check) -> None:
    """A durable server and the API as it is assumed: nothing to do, and paging was seen to work."""
    found = check(KINETIC_LIST_PAGE_SIZE="4")
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert found["persistence"]["found"] == "append-only, fsync always"
    assert found["list"]["found"] == "4 executions on the first page (completed, failed), 4 failed"
    assert found["list order"]["found"] == "newest first"
    assert "the second page brought 4 others" in found["list paging"]["found"]
    assert "REDIS_URL" in found["broker"]["found"]


@pytest.mark.parametrize(
    ("habits", "env", "expected"),
    [
        ({}, {"KINETIC_API_KEY": "another-key"}, ("api", "wrong", "KINETIC_API_KEY")),
        ({}, {"KINETIC_LIST_PATH": "/nowhere"}, ("api", "wrong", "KINETIC_LIST_PATH")),
        ({}, {"KINETIC_BASE_URL": "http://127.0.0.1:1"}, ("api", "wrong", "KINETIC_BASE_URL")),
        ({"has_list": False}, {}, ("api", "wrong", "DISCOVERY_MODE=track")),
        ({"has_list": False}, {"DISCOVERY_MODE": "track"}, ("api", "ok", "")),
        ({"order": "asc"}, {}, ("list order", "wrong", "KINETIC_LIST_ORDER=asc")),
        ({"order": "asc"}, {"KINETIC_LIST_ORDER": "asc"}, ("list order", "ok", "")),
        ({}, {"KINETIC_LIST_ORDER": "unknown"}, ("list order", "ok", "KINETIC_LIST_ORDER=desc")),
        ({"ignore_status_filter": True}, {}, ("list filter", "warning", "KINETIC_LIST_STATUS_PARAM")),
        ({"envelope": "data"}, {}, ("list", "ok", "")),
        ({"pagination": "none"}, {"KINETIC_LIST_PAGE_SIZE": "4"}, ("list paging", "warning", "PAGINATION")),
        (
            {},
            {"CELERY_BROKER_URL": "redis://:canary-pw@127.0.0.1:1/0"},
            ("broker", "wrong", "CELERY_BROKER_URL"),
        ),
    ],
)
def test_what_differs_is_named_with_its_cure(
    check: Check,
    simulator: SimulatorHandle,
    habits: dict[str, Any],
    env: dict[str, str],
    expected: tuple[str, str, str],
) -> None:
    """One habit or setting at a time: the finding, and the variable that has to change."""
    simulator.options(**habits)
    found = check(**env)
    about, verdict, cure = expected
    assert found[about]["verdict"] == verdict, found
    assert cure in found[about]["cure"]


@pytest.mark.parametrize(
    ("directives", "about", "verdict", "cure"),
    [
        ({}, "persistence", "wrong", "appendfsync always"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "persistence", "warning", "sent twice"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "wrong", "noeviction"),
    ],
)
def test_a_server_that_may_forget_is_named(
    check: Check, directives: dict[str, Any], about: str, verdict: str, cure: str
) -> None:
    """What it may lose, and what that would lead to."""
    with redis_server(**directives) as server:
        found = check(REDIS_URL=f"redis://127.0.0.1:{server.port}/0")
    assert found[about]["verdict"] == verdict
    assert cure in found[about]["cure"]


EVERY_SECOND = {"appendonly": "yes", "appendfsync": "everysec"}


@pytest.mark.parametrize(
    ("directives", "env", "about", "expected"),
    [
        (EVERY_SECOND, {"LEDGER_WAIT_DISK": "true"}, "persistence", ("ok", "")),
        (EVERY_SECOND, {"LEDGER_WAIT_DISK": "true"}, "replicas", ("ok", "")),
        ({}, {"LEDGER_WAIT_DISK": "true"}, "replicas", ("wrong", "needs appendonly yes")),
        (
            {**EVERY_SECOND, "appendfsync": "no"},
            {"LEDGER_WAIT_DISK": "true"},
            "replicas",
            ("wrong", "everysec"),
        ),
        (EVERY_SECOND, {"LEDGER_WAIT_REPLICAS": "1"}, "replicas", ("wrong", "no call leaves")),
        ({"replicaof": "127.0.0.1 1"}, {}, "redis", ("wrong", "the master")),
    ],
)
def test_what_intents_wait_for_is_compared_with_what_there_is(
    check: Check, directives: dict[str, Any], env: dict[str, str], about: str, expected: tuple[str, str]
) -> None:
    """A wait in vain is a worker that sends nothing: it is found before the worker is started."""
    with redis_server(**directives) as server:
        found = check(REDIS_URL=f"redis://127.0.0.1:{server.port}/0", **env)
    verdict, words = expected
    assert found[about]["verdict"] == verdict, found
    assert words in found[about]["cure"]


def test_replicas_that_nobody_waits_for_are_a_warning(check: Check) -> None:
    """One that takes over lacks the last intents; waiting for it is the cure."""
    with redis_server(appendonly="yes", appendfsync="always", repl_diskless_sync_delay="0") as master:
        url = f"redis://127.0.0.1:{master.port}/0"
        with redis_server(replicaof=f"127.0.0.1 {master.port}"):
            client: Any = redis.Redis(port=master.port)
            wait_until(lambda: "online" in str(client.info("replication")), "the replica is in step")
            alone = check(REDIS_URL=url)["replicas"]
            waiting = check(REDIS_URL=url, LEDGER_WAIT_REPLICAS="1")["replicas"]
    assert (alone["verdict"], waiting["verdict"]) == ("warning", "ok")
    assert "LEDGER_WAIT_REPLICAS=1" in alone["cure"]
    assert "on 1 replica" in waiting["found"]


def test_what_a_managed_server_hides_is_a_warning(check: Check) -> None:
    """`CONFIG` is forbidden on many: how the log is synced cannot be read, and that is said."""
    with redis_server(appendonly="yes", rename_command='CONFIG ""') as server:
        found = check(REDIS_URL=f"redis://127.0.0.1:{server.port}/0")
    assert found["persistence"]["verdict"] == "warning"
    assert "cannot be read" in found["persistence"]["found"]


def test_a_server_that_is_away_does_not_hide_the_rest(check: Check) -> None:
    """One line for it; the API is examined all the same."""
    found = check(REDIS_URL="redis://:canary-pw@127.0.0.1:1/0")
    assert (found["redis"]["verdict"], found["api"]["verdict"]) == ("wrong", "ok")


def test_wrong_settings_are_findings_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    """A line for each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINETIC_TIMEOUT", "soon")
    assert run(["check"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("✗ KINETIC_TIMEOUT") and '"soon"' in line for line in lines)
