"""Deployments differ where nothing is published: every habit of the list, and the choice of faults."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from simulator.app import create_app
from simulator.behaviours import RecoversAfter
from simulator.executions import Execution, Status, Workflow
from simulator.faults import Faults, Kind, Operation, Rule
from simulator.options import Envelope, Options
from simulator.world import World

NO_WORKFLOW: frozenset[str] = frozenset()


@pytest.fixture
def world() -> World:
    world = World(lambda: datetime.now(UTC), random.Random(1))
    world.add_workflow(Workflow("w", "v", "Claims", RecoversAfter(1)))
    return world


@pytest.fixture
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(world, Faults(random.Random(1)), Options(api_key="key"))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://simulator", headers={"X-Kinetic-Key": "key"}
    ) as client:
        yield client


def put(world: World, outcome: Status, age_s: float = 0) -> Execution:
    age = timedelta(seconds=age_s)
    return world.put(world.workflow("w"), outcome, created=age, ended=age)


async def set_options(api: httpx.AsyncClient, **options: Any) -> int:
    return (await api.post("/_control/options", json=options)).status_code


async def read_all(api: httpx.AsyncClient, pagination: str, envelope: str, limit: int) -> list[str]:
    """Read the failed executions page by page, as a client of that deployment would."""
    found: list[str] = []
    cursor: str | None = None
    for number in range(1, 10):
        place: dict[str, dict[str, Any]] = {
            "offset": {"offset": len(found)},
            "page": {"page": number},
            "cursor": {"cursor": cursor},
        }
        params: dict[str, Any] = {"status": "failed", "limit": limit, **place.get(pagination, {})}
        answer = await api.get("/api/executions", params={k: v for k, v in params.items() if v is not None})
        body = answer.json()
        items = body if envelope == "bare" else body[envelope]
        found += [each["execution_uuid"] for each in items]
        cursor = answer.headers.get("x-next-cursor") if envelope == "bare" else body.get("next_cursor")
        if pagination == "none" or not items or (pagination == "cursor" and not cursor):
            break
        assert len(items) <= min(3, limit)
    return found


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("pagination", ["offset", "page", "cursor", "none"])
async def test_the_list_can_be_read_to_its_end(
    world: World, api: httpx.AsyncClient, pagination: str, order: str
) -> None:
    """Every deployment lists the same failures, each once, by date of creation, never above its cap."""
    expected = [put(world, Status.FAILED, age).uuid for age in (60, 30, 0, 0, 0, 0, 0)]
    put(world, Status.COMPLETED, 10)
    await set_options(api, pagination=pagination, order=order, page_cap=3)
    for envelope in Envelope:
        await set_options(api, envelope=envelope)
        for limit in (2, 100):
            found = await read_all(api, pagination, envelope, limit)
            assert found == (expected if order == "asc" else expected[::-1]), (envelope, limit)


async def test_a_foreign_cursor_is_a_validation_error(api: httpx.AsyncClient) -> None:
    """422 in the published shape, and it names the parameter."""
    await set_options(api, pagination="cursor")
    answer = await api.get("/api/executions", params={"cursor": "nonsense"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "cursor"]


async def test_a_deployment_can_lack_what_others_have(world: World, api: httpx.AsyncClient) -> None:
    """No status filter, no payloads in lists, no list at all: each only when asked for."""
    put(world, Status.COMPLETED)
    put(world, Status.FAILED)
    listed = (await api.get("/api/executions", params={"status": "failed"})).json()
    assert [each["status"] for each in listed] == ["failed"]
    assert listed[0]["input_payload"]
    await set_options(api, ignore_status_filter=True, payload_in_list=False)
    listed = (await api.get("/api/executions", params={"status": "failed"})).json()
    assert [each["status"] for each in listed] == ["failed", "completed"]
    assert all("input_payload" not in each for each in listed)
    await set_options(api, has_list=False)
    assert (await api.get("/api/executions")).status_code == 404


async def test_a_deployment_can_retry_in_place(world: World, api: httpx.AsyncClient) -> None:
    """201 with the uuid that failed; it runs again, and no clone comes to be."""
    failure = put(world, Status.FAILED)
    await set_options(api, retry_in_place=True)
    answer = await api.post(f"/api/executions/{failure.uuid}/retry")
    assert (answer.status_code, answer.json()["execution_uuid"]) == (201, failure.uuid)
    assert (await api.get(f"/api/executions/{failure.uuid}")).json()["status"] == "completed"
    assert failure.clones == []


async def test_options_change_all_together_or_not_at_all(api: httpx.AsyncClient) -> None:
    """One wrong value leaves the others as they were."""
    assert await set_options(api, has_list=False, pagination="sideways") == 422
    assert await set_options(api, has_lists=False) == 422
    assert (await api.get("/api/executions")).status_code == 200


async def test_the_key_can_change_while_it_runs(api: httpx.AsyncClient) -> None:
    """A rotated key locks the old one out at once, and is not shown to whoever rotates it."""
    answer = await api.post("/_control/options", json={"api_key": "rotated"})
    assert "rotated" not in answer.text
    assert (await api.get("/api/executions")).status_code == 401
    assert (await api.get("/api/executions", headers={"X-Kinetic-Key": "rotated"})).status_code == 200


# The choice of faults


def strikes(faults: Faults, n: int, operation: Operation = Operation.GET) -> list[bool]:
    return [bool(faults.strike(operation, NO_WORKFLOW)) for _ in range(n)]


def test_chance_is_seeded() -> None:
    """The same seed strikes the same requests; 1,000 requests at 0.5 lie within five standard deviations."""
    rule = Rule(kind=Kind.CLOSE, probability=0.5)
    outcomes = []
    for _ in range(2):
        faults = Faults(random.Random(42))
        faults.add([rule.model_copy()])
        outcomes.append(strikes(faults, 1_000))
    assert outcomes[0] == outcomes[1]
    assert abs(sum(outcomes[0]) - 500) < 5 * 15.9


def test_a_used_up_rule_strikes_no_more() -> None:
    """`remaining` counts strikes, not requests: others do not use it up."""
    faults = Faults(random.Random(1))
    faults.add([Rule(kind=Kind.CLOSE, operation="get", remaining=2)])
    assert strikes(faults, 3, Operation.LIST) == [False] * 3
    assert strikes(faults, 4) == [True, True, False, False]


def test_latencies_add_up_and_one_other_fault_strikes() -> None:
    """A slow answer can also be a wrong one; of two wrong ones the first counts, and the second waits."""
    faults = Faults(random.Random(1))
    slow, wrong = Rule(kind=Kind.LATENCY), Rule(kind=Kind.STATUS, status=500, remaining=1)
    lost = Rule(kind=Kind.CLOSE, remaining=1)
    faults.add([wrong, slow, lost, slow])
    assert [rule.kind for rule in faults.strike(Operation.GET, NO_WORKFLOW)] == [
        "latency",
        "latency",
        "status",
    ]
    assert [rule.kind for rule in faults.strike(Operation.GET, NO_WORKFLOW)] == [
        "latency",
        "latency",
        "close",
    ]
