"""The puppeteer's strings, under /_control: no key, not in the OpenAPI document, never called by a worker.

Tests and demos define workflows, make failures, order faults and read the record here.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simulator.behaviours import (
    Behaviour,
    Broken,
    Flaky,
    Healthy,
    Outage,
    PayloadStyle,
    RecoversAfter,
    Timing,
)
from simulator.executions import FAILURE_LOG, Execution, Status, Workflow
from simulator.faults import LONGEST_HANG_S, Faults, Rule
from simulator.options import Options
from simulator.record import every_execution, summary
from simulator.server import DOOR
from simulator.traffic import Traffic
from simulator.world import World

Seconds = Annotated[float, Field(ge=0)]


class WorkflowRequest(BaseModel):
    """A workflow to define, or (same uuid) to give new rules. Uuids left out are drawn by the world.

    `probability` is for `flaky`, `retries` for `recovers_after`; `outage_from_s` and `outage_to_s` count
    from now; `per_second` makes executions arrive by themselves (0 ends it, None leaves it as it was).
    `failure_log` is the error that ends a failed run's log, such as `login failed: invalid credentials`.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    uuid: str | None = None
    version_uuid: str | None = None
    behaviour: Literal["healthy", "broken", "flaky", "recovers_after", "outage"] = "healthy"
    probability: float = Field(default=0.5, ge=0, le=1)
    retries: int = Field(default=1, ge=0)
    outage_from_s: float = 0
    outage_to_s: float = 60
    shortest_run_s: Seconds = 0
    longest_run_s: float | None = Field(default=None, ge=0, description="None: as long as the shortest")
    pending_s: Seconds = 0
    queued_s: Seconds = 0
    pauses: bool = False
    payloads: PayloadStyle = PayloadStyle.DISTINCTIVE
    failure_log: str = Field(default=FAILURE_LOG, max_length=1_000_000)
    per_second: float | None = Field(default=None, ge=0)

    def rule(self, now: datetime) -> Behaviour:
        """Return the behaviour that was asked for."""
        match self.behaviour:
            case "healthy":
                return Healthy()
            case "broken":
                return Broken()
            case "flaky":
                return Flaky(self.probability)
            case "recovers_after":
                return RecoversAfter(self.retries)
            case "outage":
                start, end = timedelta(seconds=self.outage_from_s), timedelta(seconds=self.outage_to_s)
                return Outage(now + start, now + end)

    def timing(self) -> Timing:
        """Return the run times; never a longest below the shortest."""
        longest = (
            self.shortest_run_s
            if self.longest_run_s is None
            else max(self.longest_run_s, self.shortest_run_s)
        )
        return Timing(
            shortest=timedelta(seconds=self.shortest_run_s),
            longest=timedelta(seconds=longest),
            pending=timedelta(seconds=self.pending_s),
            queued=timedelta(seconds=self.queued_s),
            pauses=self.pauses,
        )


class ExecutionsRequest(BaseModel):
    """Executions to create: ended ones with an `outcome`, or (None) ones that run by their workflow's rules.

    `created_age_s` is how long ago each was created; `updated_age_s` how long ago it ended (None: when it
    was created; not used without an outcome).
    """

    model_config = ConfigDict(extra="forbid")

    workflow: str
    count: int = Field(default=1, ge=0, le=1_000_000)
    outcome: Literal["completed", "failed"] | None = "failed"
    created_age_s: Seconds = 0
    updated_age_s: float | None = Field(default=None, ge=0)

    def create(self, world: World) -> list[Execution]:
        """Create them, in order."""
        workflow = world.workflow(self.workflow)
        created = timedelta(seconds=self.created_age_s)
        if self.outcome is None:
            return [world.start(workflow, age=created) for _ in range(self.count)]
        ended = created if self.updated_age_s is None else min(created, timedelta(seconds=self.updated_age_s))
        outcome = Status(self.outcome)
        return [world.put(workflow, outcome, created=created, ended=ended) for _ in range(self.count)]


class RefusalRequest(BaseModel):
    """How long the port is to refuse connections; the control is as deaf as the API meanwhile."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(gt=0, le=LONGEST_HANG_S)


def control_router(world: World, faults: Faults, options: Options, traffic: Traffic) -> APIRouter:
    """Return the routes under /_control."""
    router = APIRouter(prefix="/_control", include_in_schema=False)
    _add_world_routes(router, world)
    _add_fault_routes(router, faults)
    _add_options_route(router, options)

    @router.get("/record")
    async def read_record(full: Annotated[bool, Query()] = False) -> dict[str, Any]:
        record = {**summary(world), **traffic.summary()}
        if full:
            record |= {"all": every_execution(world), "calls": traffic.calls()}
        return record

    return router


def _add_world_routes(router: APIRouter, world: World) -> None:
    @router.post("/workflows")
    async def define_workflow(body: WorkflowRequest) -> dict[str, str]:
        now = world.now()
        workflow = world.add_workflow(
            Workflow(
                uuid=body.uuid or world.new_uuid(),
                version_uuid=body.version_uuid or world.new_uuid(),
                name=body.name,
                behaviour=body.rule(now),
                timing=body.timing(),
                payloads=body.payloads,
                failure_log=body.failure_log,
            )
        )
        if body.per_second is not None:
            world.let_arrive(workflow, body.per_second)
        return {"uuid": workflow.uuid, "version_uuid": workflow.version_uuid, "name": workflow.name}

    @router.post("/executions")
    async def create_executions(body: ExecutionsRequest) -> dict[str, list[str]]:
        return {"execution_uuids": [each.uuid for each in body.create(world)]}


def _add_fault_routes(router: APIRouter, faults: Faults) -> None:
    @router.post("/faults")
    async def add_faults(body: list[Rule]) -> dict[str, int]:
        faults.add(body)
        return {"rules": len(faults.rules)}

    @router.get("/faults")
    async def list_faults() -> list[Rule]:
        return faults.rules

    @router.delete("/faults")
    async def clear_faults() -> dict[str, int]:
        faults.clear()
        return {"rules": 0}

    @router.post("/refuse")
    async def refuse_connections(body: RefusalRequest, request: Request) -> dict[str, bool]:
        door = request.scope.get("extensions", {}).get(DOOR)
        if door is None:
            raise HTTPException(501, "only the simulator's own server can refuse connections")
        return {"refusing": door.refuse(body.seconds)}


def _add_options_route(router: APIRouter, options: Options) -> None:
    @router.post("/options")
    async def change_options(body: dict[str, Any]) -> dict[str, Any]:
        try:  # all or nothing: checked together before any is set
            changed = Options.model_validate({**options.model_dump(), **body})
        except ValidationError as exc:
            raise RequestValidationError(exc.errors()) from exc
        for name in body:
            setattr(options, name, getattr(changed, name))
        return options.model_dump(mode="json", exclude={"api_key"})
