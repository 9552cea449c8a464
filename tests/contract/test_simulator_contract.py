"""The simulator offers the published operation to the letter, and answers as its own document says."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    negative_data_rejection,
    positive_data_acceptance,
    status_code_conformance,
    unsupported_method,
)

from simulator.app import create_app
from simulator.behaviours import Timing
from simulator.executions import Status, Workflow
from simulator.faults import Faults
from simulator.options import Options
from simulator.world import World

PUBLISHED = json.loads(Path(__file__).with_name("kinetic_retry_operation.json").read_text())
PATH = "/api/executions/{execution_uuid}/retry"
KEY = {"X-Kinetic-Key": "contract-key"}
ANNOTATIONS = {"title", "description", "summary"}


def client(app: FastAPI, headers: dict[str, Any] = KEY) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://simulator", headers=headers)


def make_world() -> World:
    world = World(lambda: datetime.now(UTC), random.Random(1))
    workflow = world.add_workflow(Workflow("w", "v", "Claims", timing=Timing(longest=timedelta(seconds=1))))
    for _ in range(3):
        world.put(workflow, Status.FAILED, created=timedelta(0), ended=timedelta(0))
        world.start(workflow)
    return world


def make_app(world: World | None = None) -> FastAPI:
    return create_app(world or make_world(), Faults(random.Random(1)), Options(api_key=KEY["X-Kinetic-Key"]))


WORLD = make_world()
FAILED_UUID = WORLD.at(WORLD.keys(Status.FAILED)[0]).uuid
APP = make_app(WORLD)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


def operation(document: dict[str, Any]) -> dict[str, Any]:
    """The retry operation with every reference followed, without prose, in one order."""

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return sorted((plain(each) for each in node), key=lambda each: json.dumps(each, sort_keys=True))
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = document
            for step in node["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            return plain(target)
        # A field may be *called* title; only an annotation's value is a string.
        return {
            name: plain(value)
            for name, value in node.items()
            if not (name in ANNOTATIONS and isinstance(value, str))
        }

    return {
        "openapi": document["openapi"],
        "version": document["info"]["version"],
        "operation": plain(document["paths"][PATH]),
        "security": plain(document["components"]["securitySchemes"]),
    }


def test_the_retry_operation_is_the_published_one() -> None:
    """Path, method, operation id, key header, parameters and both answers equal the published contract."""
    assert operation(APP.openapi()) == operation(PUBLISHED)


@pytest.mark.parametrize(
    ("schema", "change"),
    [
        ("ExecutionResponse", {"required": ["execution_uuid"]}),
        ("ExecutionStatus", {"enum": ["queued", "failed"]}),
        ("ValidationError", {"required": ["loc", "msg"]}),
    ],
)
def test_the_comparison_sees_a_change(schema: str, change: dict[str, Any]) -> None:
    """A contract that differs in one required field or one status is not equal."""
    other = json.loads(json.dumps(PUBLISHED))
    other["components"]["schemas"][schema].update(change)
    assert operation(other) != operation(PUBLISHED)


def test_the_control_is_not_in_the_document() -> None:
    """Who reads the document sees the API, not the puppeteer's strings."""
    assert all(path.startswith("/api/") for path in APP.openapi()["paths"])


# The published retry operation names neither 401 nor 404, but every server of its kind answers them.
# Ids are opaque text, and bodies may carry more than is known: rejecting such input is not promised. The
# right key is put into every case here, also into those that were drawn with another one: what a wrong key
# gets is asked below, by name.
NOT_PROMISED = [
    ignored_auth,
    status_code_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
]
EXPECTED = {200, 201, 400, 401, 404, 405, 409, 422}
BOUNDED = hypothesis.settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@SCHEMA.parametrize()
@BOUNDED
def test_answers_conform_to_the_document(case: schemathesis.Case[Any]) -> None:
    """Whatever is asked, the answer has the documented shape and is never a server error."""
    case.headers.update(KEY)  # some cases send none on purpose
    answer = case.call_and_validate(excluded_checks=NOT_PROMISED)
    assert answer.status_code in EXPECTED


@SCHEMA.parametrize()
@BOUNDED
def test_answers_about_known_things_conform_to_the_document(case: schemathesis.Case[Any]) -> None:
    """The same for executions and workflows that exist: with the key a retry of one is always a 201."""
    known = {"execution_uuid": FAILED_UUID, "workflow_uuid": "w"}
    case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
    case.headers.update(KEY)  # some cases send none on purpose
    answer = case.call_and_validate(excluded_checks=NOT_PROMISED)
    assert answer.status_code in EXPECTED - {404}
    if case.method == "POST" and case.path == PATH:
        assert answer.status_code == (201 if KEY.items() <= dict(answer.request.headers).items() else 401)


@pytest.mark.parametrize("key", [None, "", "contract-kez", "schlüssel".encode()])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/executions"),
        ("GET", "/api/executions/x"),
        ("POST", "/api/executions/x/retry"),
        ("POST", "/api/workflows/x/run"),
        ("POST", "/api/executions/x/complete"),
    ],
)
async def test_every_call_needs_the_key(method: str, path: str, key: str | bytes | None) -> None:
    """A missing or wrong key is a 401 on every route, before anything is looked up."""
    headers = {} if key is None else {"X-Kinetic-Key": key}
    async with client(APP, headers) as api:
        answer = await api.request(method, path, json={})
    assert answer.status_code == 401
    assert isinstance(answer.json()["detail"], str)


async def test_a_retry_answers_a_new_queued_execution_like_the_old() -> None:
    """201, another uuid, the same version and payload, queued, and nothing that names the parent."""
    async with client(make_app()) as api:
        old = (await api.get("/api/executions", params={"status": "failed"})).json()[0]
        answer = await api.post(f"/api/executions/{old['execution_uuid']}/retry")
    clone = answer.json()
    assert answer.status_code == 201
    assert clone["execution_uuid"] != old["execution_uuid"]
    assert clone["status"] == "queued"
    assert clone.keys() == old.keys()
    assert (clone["workflow_version_uuid"], clone["input_payload"]) == ("v", old["input_payload"])
    assert old["execution_uuid"] not in answer.text


async def test_a_retry_of_an_unknown_execution_is_not_found() -> None:
    """An unknown uuid is a 404 with a readable detail."""
    async with client(APP) as api:
        answer = await api.post("/api/executions/nobody/retry")
    assert answer.status_code == 404
    assert "detail" in answer.json()


@pytest.mark.parametrize("payload", ["NaN", r'"\ud800"'])
async def test_what_cannot_be_answered_is_not_accepted(payload: str) -> None:
    """A payload that no answer could carry out again is a 422 in the published shape, not a later 500."""
    async with client(APP) as api:
        answer = await api.post("/api/workflows/w/run", content=f'{{"input_payload": {payload}}}')
    assert answer.status_code == 422
    assert set(answer.json()["detail"][0]) == {"loc", "msg", "type"}
