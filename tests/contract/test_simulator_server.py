"""The simulator as a process on a real socket: faults do what they say, and the record knows the truth."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from tests.support.simulation import ROOT, SimulatorHandle, start_simulator

Fault = dict[str, Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[SimulatorHandle]:
    with start_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(shared: SimulatorHandle) -> Iterator[SimulatorHandle]:
    """The module's simulator, without faults."""
    shared.clear_faults()
    yield shared
    shared.clear_faults()


def clones_of(simulator: SimulatorHandle, execution_uuid: str) -> int:
    everyone = simulator.record(full=True)["all"]
    return next(len(each["clones"]) for each in everyone if each["execution_uuid"] == execution_uuid)


def outcome_of(execution_uuid: str) -> Callable[[dict[str, Any]], bool]:
    """A condition: the last call about that execution has an outcome."""

    def known(record: dict[str, Any]) -> bool:
        calls = [call for call in record["calls"] if call["execution_uuid"] == execution_uuid]
        return bool(calls) and calls[-1]["outcome"] is not None

    return known


def one_failure(simulator: SimulatorHandle, name: str = "Claims") -> str:
    return simulator.fail(simulator.add_workflow(name, "broken"))[0]


# Faults


@pytest.mark.parametrize(
    ("fault", "error", "outcome"),
    [
        ({"kind": "close"}, httpx.RemoteProtocolError, "closed"),
        ({"kind": "reset"}, httpx.ReadError, "reset"),
        ({"kind": "hang", "seconds": 0.05}, httpx.RemoteProtocolError, "hung"),
        ({"kind": "hang", "seconds": 600}, httpx.ReadTimeout, "hung"),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_connection_hides_whether_the_retry_was_obeyed(
    simulator: SimulatorHandle, fault: Fault, error: type[Exception], outcome: str, when: str
) -> None:
    """The caller sees the same error before and after the commit; only the record knows which it was."""
    failure = one_failure(simulator)
    simulator.faults({"operation": "retry", "when": when, **fault})
    with httpx.Client(base_url=simulator.url, headers=simulator.headers, timeout=0.3, verify=False) as client:
        with pytest.raises(error) as caught:
            client.post(f"/api/executions/{failure}/retry")
        assert type(caught.value) is error
    record = simulator.wait_until(outcome_of(failure), full=True)
    assert record["calls"][-1]["outcome"] == outcome
    assert clones_of(simulator, failure) == (1 if when == "after" else 0)


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        ({"kind": "status", "status": 503}, 503, "application/json"),
        ({"kind": "status", "status": 422}, 422, "application/json"),
        ({"kind": "html"}, 502, "text/html"),
        ({"kind": "html", "status": 201}, 201, "text/html"),
        ({"kind": "unauthorized"}, 401, "application/json"),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_can_be_replaced_before_and_after_the_commit(
    simulator: SimulatorHandle, fault: Fault, status: int, content_type: str, when: str
) -> None:
    """The answer says one thing, and the record whether a clone exists all the same."""
    failure = one_failure(simulator)
    simulator.faults({"operation": "retry", "when": when, **fault})
    answer = simulator.api("POST", f"/executions/{failure}/retry")
    assert (answer.status_code, answer.headers["content-type"]) == (status, content_type)
    if status == 422:
        assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}
    assert clones_of(simulator, failure) == (1 if when == "after" else 0)


def test_a_broken_body_is_a_whole_answer_with_half_its_json(simulator: SimulatorHandle) -> None:
    """201, complete as HTTP, unreadable as JSON, and the clone exists."""
    failure = one_failure(simulator)
    simulator.faults({"operation": "retry", "kind": "broken_body"})
    answer = simulator.api("POST", f"/executions/{failure}/retry")
    assert answer.status_code == 201
    with pytest.raises(ValueError, match=r"."):
        answer.json()
    assert clones_of(simulator, failure) == 1


@pytest.mark.parametrize(
    ("value", "header"),
    [(7, "7"), (0.5, "0.5"), ("Wed, 21 Oct 2026 07:28:00 GMT",) * 2],
)
def test_a_status_can_say_when_to_come_back(simulator: SimulatorHandle, value: Any, header: str) -> None:
    """`Retry-After` in seconds or as a date, exactly as ordered."""
    simulator.faults({"operation": "list", "kind": "status", "status": 429, "retry_after": value})
    answer = simulator.api("GET", "/executions")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, header)


def test_a_slow_server_obeys_a_caller_who_has_given_up(simulator: SimulatorHandle) -> None:
    """Latency longer than the caller's patience: a timeout there, and a clone here, later."""
    failure = one_failure(simulator)
    simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.4})
    with pytest.raises(httpx.ReadTimeout):
        simulator.api("POST", f"/executions/{failure}/retry", timeout=0.1)
    assert clones_of(simulator, failure) == 0
    simulator.wait_until(lambda record: clones_of(simulator, failure) == 1, within_s=5)


def test_a_rule_strikes_only_what_it_is_for(simulator: SimulatorHandle) -> None:
    """Another operation, another workflow and a used-up rule let the request through."""
    mine = one_failure(simulator, "mine")
    other = one_failure(simulator, "other")
    simulator.faults(
        {"operation": "get", "workflow": "mine", "remaining": 2, "kind": "status", "status": 500}
    )
    paths = [f"/executions/{other}", "/executions", *[f"/executions/{mine}"] * 3]
    assert [simulator.api("GET", path).status_code for path in paths] == [200, 200, 500, 500, 200]


def test_a_rule_with_a_typing_error_is_refused(simulator: SimulatorHandle) -> None:
    """A rule that would do nothing for want of a letter is an error where it is ordered."""
    with pytest.raises(AssertionError, match="422"):
        simulator.faults({"kind": "close", "operatoin": "retry"})


# Counting


async def test_the_record_knows_how_many_came_at_a_time() -> None:
    """Requests in flight together are counted together, by operation."""
    with start_simulator() as simulator:
        failures = simulator.fail(simulator.add_workflow("Claims"), 8)
        simulator.faults({"operation": "retry", "kind": "latency", "seconds": 0.3})
        async with httpx.AsyncClient(
            base_url=simulator.url, headers=simulator.headers, verify=False
        ) as client:
            await asyncio.gather(*(client.post(f"/api/executions/{each}/retry") for each in failures))
        record = simulator.record()
        assert record["most_concurrent"]["retry"] == 8
        assert record["requests"] == {"retry": {"201": 8}}


def test_answers_carry_the_servers_date(simulator: SimulatorHandle) -> None:
    """The Date header is the time by which executions are dated, to within two seconds."""
    answer = simulator.api("GET", "/executions")
    age = datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])
    assert -1 < age.total_seconds() < 3


def test_a_kept_connection_answers_without_delay(simulator: SimulatorHandle) -> None:
    """Twenty answers on one connection take far less than twenty delayed acknowledgements (40 ms each)."""
    started = time.monotonic()
    for _ in range(20):
        simulator.api("GET", "/executions", params={"limit": 1})
    assert time.monotonic() - started < 20 * 0.04


# The process


def test_it_refuses_connections_for_as_long_as_it_was_told() -> None:
    """Idle connections are dropped, new ones refused; afterwards it is the same world on the same port."""
    with start_simulator() as simulator:
        failure = one_failure(simulator)
        with httpx.Client(base_url=simulator.url, headers=simulator.headers, verify=False) as client:
            assert client.get(f"/api/executions/{failure}").status_code == 200
            assert simulator.control("POST", "/refuse", {"seconds": 1}) == {"refusing": True}
            time.sleep(0.3)  # longer than it takes to answer first, far shorter than the second
            for _ in range(3):
                with pytest.raises(httpx.ConnectError):
                    client.get(f"/api/executions/{failure}")
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert client.get(f"/api/executions/{failure}").status_code == 200
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline, "it never came back"
                    time.sleep(0.05)


def test_it_ends_soon_while_it_refuses_connections() -> None:
    """SIGTERM is heard with the port closed."""
    with start_simulator() as simulator:
        simulator.control("POST", "/refuse", {"seconds": 600})
        time.sleep(0.2)
        os.kill(simulator.pid, signal.SIGTERM)
        assert simulator.wait(5) == 0


async def test_sigterm_ends_it_soon_whatever_hangs() -> None:
    """With a request that would hang for minutes it is gone soon, with exit code 0 and no answer given."""
    with start_simulator() as simulator:
        failure = one_failure(simulator)
        simulator.faults({"operation": "get", "kind": "hang", "seconds": 600})
        async with httpx.AsyncClient(headers=simulator.headers, timeout=30, verify=False) as client:
            hanging = asyncio.create_task(client.get(f"{simulator.url}/api/executions/{failure}"))
            await asyncio.to_thread(simulator.wait_until, lambda record: "get" in record["most_concurrent"])
            os.kill(simulator.pid, signal.SIGTERM)
            assert await asyncio.to_thread(simulator.wait, 5) == 0
            with pytest.raises(httpx.RemoteProtocolError):
                await hanging


def test_ctrl_c_ends_it_quietly() -> None:
    """SIGINT is an ordinary end: exit code 0."""
    with start_simulator() as simulator:
        os.kill(simulator.pid, signal.SIGINT)
        assert simulator.wait(5) == 0


def test_it_ends_when_its_parent_was_killed() -> None:
    """SIGKILL of the starting process leaves no orphan."""
    starter = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'simulator', '--exit-with-parent',"
        " '--scenario', 'empty'], stdout=subprocess.PIPE, text=True)\n"
        "print(child.pid, child.stdout.readline(), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", starter]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        try:
            pid, _, line = parent.stdout.readline().partition(" ") if parent.stdout else ("", "", "")
        finally:
            parent.kill()
    assert line.startswith("simulator listening on ")
    url = line.removeprefix("simulator listening on ").strip()
    deadline = time.monotonic() + 10
    while True:
        try:
            httpx.get(f"{url}/_control/record", timeout=1, verify=False)
        except httpx.ConnectError:
            break
        assert time.monotonic() < deadline, f"process {pid} outlived its parent"
        time.sleep(0.05)


def test_a_taken_port_is_said_in_one_line(simulator: SimulatorHandle) -> None:
    """A port in use is an error for people: which address, and why; no traceback."""
    port = simulator.url.rpartition(":")[2]
    command = [sys.executable, "-m", "simulator", "--port", port, "--scenario", "empty"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr
