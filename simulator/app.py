"""The simulated API: routes, authentication and the OpenAPI document.

The retry operation is the published one to the letter; the list, which nobody publishes, follows `Options`.
Function names matter here: they are part of the published operation ids.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import APIKeyHeader

from simulator.control import control_router
from simulator.executions import Execution, Key, Status
from simulator.faults import Faults
from simulator.logs import log_of
from simulator.middleware import FaultMiddleware
from simulator.options import Envelope, Options, Order, Pagination
from simulator.paging import Page, by_cursor, by_offset
from simulator.traffic import Traffic
from simulator.wire import (
    VALIDATION_ERROR,
    CompleteExecutionRequest,
    ExecutionResponse,
    Problem,
    RunWorkflowRequest,
    validation_problem,
    written,
)
from simulator.world import EndedError, UnknownError, World

VERSION = "0.1.0"
UNPUBLISHED: dict[int | str, dict[str, Any]] = {401: {"model": Problem}, 404: {"model": Problem}}

api_key_header = APIKeyHeader(name="X-Kinetic-Key", auto_error=False)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The query of a list; which of its paging parameters count depends on the deployment."""

    status: Annotated[Status | None, Query()] = None
    limit: Annotated[int, Query(ge=1)] = 100
    offset: Annotated[int, Query(ge=0)] = 0
    page: Annotated[int, Query(ge=1)] = 1
    cursor: Annotated[str | None, Query()] = None


def create_app(world: World, faults: Faults, options: Options) -> FastAPI:
    """Return the ASGI application: the API under /api, the control under /_control."""
    traffic = Traffic()
    app = FastAPI(title="Kinetic API (simulated)", version=VERSION, docs_url=None, redoc_url=None)
    app.include_router(_api_router(world, options))
    app.include_router(control_router(world, faults, options, traffic))
    app.add_middleware(FaultMiddleware, world=world, faults=faults, traffic=traffic)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UnknownError, _unknown)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to adapt it
    return app


def _api_router(world: World, options: Options) -> APIRouter:
    async def check_key(key: Annotated[str | None, Depends(api_key_header)]) -> None:
        if not secrets.compare_digest((key or "").encode(), options.api_key.encode()):
            raise HTTPException(401, "Missing or invalid API key")

    shown = partial(_shown, world, options)
    router = APIRouter(prefix="/api", dependencies=[Depends(check_key)])

    @router.get(
        "/executions",
        response_model=list[ExecutionResponse] | dict[str, Any],
        responses=UNPUBLISHED,
    )
    async def list_executions(query: Annotated[ListQuery, Depends()], request: Request) -> JSONResponse:
        if not options.has_list:
            raise HTTPException(404, "Not Found")
        keys = world.keys(None if options.ignore_status_filter else query.status)
        page = _page(keys, query, options)
        items = [shown(world.at(key), request, payload=options.payload_in_list) for key in page.keys]
        return _enveloped(items, len(keys), page.next_cursor, options)

    @router.get("/executions/{execution_uuid}", response_model=ExecutionResponse, responses=UNPUBLISHED)
    async def get_execution(execution_uuid: str, request: Request) -> JSONResponse:
        return JSONResponse(shown(world.execution(execution_uuid), request))

    @router.get("/executions/{execution_uuid}/logs", include_in_schema=False)  # nobody publishes it
    async def get_logs(execution_uuid: str) -> PlainTextResponse:
        if not options.has_logs:
            raise HTTPException(404, "Not Found")
        return PlainTextResponse(log_of(world.execution(execution_uuid), world.now()))

    @router.post("/executions/{execution_uuid}/retry", response_model=ExecutionResponse, status_code=201)
    async def retry_execution(execution_uuid: str, request: Request) -> JSONResponse:
        created = world.retry(execution_uuid, in_place=options.retry_in_place)
        return JSONResponse(shown(created, request, status=Status.QUEUED), 201)

    _add_run_routes(router, world, options)
    return router


def _add_run_routes(router: APIRouter, world: World, options: Options) -> None:
    shown = partial(_shown, world, options)

    @router.post(
        "/workflows/{workflow_uuid}/run",
        response_model=ExecutionResponse,
        status_code=201,
        responses=UNPUBLISHED,
    )
    async def run_workflow(workflow_uuid: str, body: RunWorkflowRequest, request: Request) -> JSONResponse:
        started = world.start(world.workflow(workflow_uuid), body.input_payload, own_payload=True)
        return JSONResponse(shown(started, request, status=Status.QUEUED), 201)

    @router.post(
        "/executions/{execution_uuid}/complete",
        response_model=ExecutionResponse,
        responses={**UNPUBLISHED, 409: {"model": Problem}},
    )
    async def complete_execution(
        execution_uuid: str, body: CompleteExecutionRequest, request: Request
    ) -> JSONResponse:
        try:
            ended = world.complete(execution_uuid, Status(body.status))
        except EndedError as exc:
            raise HTTPException(409, str(exc)) from exc
        return JSONResponse(shown(ended, request))


def _shown(
    world: World, options: Options, execution: Execution, request: Request, **how: Any
) -> dict[str, Any]:
    """Return an execution as this deployment answers it: its logs are where it was asked."""
    logs_below = str(request.base_url) if options.has_logs else ""
    return written(execution, world.now(), logs_below=logs_below, **how)


def _page(keys: Sequence[Key], query: ListQuery, options: Options) -> Page:
    newest_first = options.order is Order.DESC
    limit = min(query.limit, options.page_cap)
    match options.pagination:
        case Pagination.OFFSET:
            return by_offset(keys, query.offset, limit, newest_first=newest_first)
        case Pagination.PAGE:
            return by_offset(keys, (query.page - 1) * limit, limit, newest_first=newest_first)
        case Pagination.CURSOR:
            try:
                return by_cursor(keys, query.cursor, limit, newest_first=newest_first)
            except ValueError as exc:
                problem = {"loc": ("query", "cursor"), "msg": str(exc), "type": "value_error"}
                raise RequestValidationError([problem]) from exc
        case Pagination.NONE:
            return by_offset(keys, 0, len(keys), newest_first=newest_first)


def _enveloped(items: list[dict[str, Any]], total: int, cursor: str | None, options: Options) -> JSONResponse:
    if options.envelope is Envelope.BARE:
        return JSONResponse(items, headers={"X-Next-Cursor": cursor} if cursor else None)
    envelope: dict[str, Any] = {options.envelope.value: items, "total": total}
    if options.pagination is Pagination.CURSOR:
        envelope[options.next_field] = cursor
    return JSONResponse(envelope)


async def _invalid(_request: Request, exc: Exception) -> JSONResponse:
    errors = exc.errors() if isinstance(exc, RequestValidationError) else ()
    return JSONResponse(validation_problem(list(errors)), 422)


async def _unknown(_request: Request, exc: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"Not found: {exc}"}, 404)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        document["components"]["schemas"]["ValidationError"] = VALIDATION_ERROR
        app.openapi_schema = document
    return app.openapi_schema
