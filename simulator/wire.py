"""What goes over the wire: the published models, and an execution written as one of them.

The models define the OpenAPI document; field for field and required for required they are the published
contract (version 0.1.0). Answers are written directly, without validating our own data on the way out.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from simulator.executions import FINAL, Execution, Status


class ExecutionStatus(StrEnum):
    """The statuses that the contract publishes; `pending` is only in the documentation's prose."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"


class ExecutionResponse(BaseModel):
    """One execution, as the API shows it."""

    execution_uuid: str
    created_at: datetime | None = None
    updated_at: datetime | None = None
    workflow_version_uuid: str
    workflow_uuid: str | None = None
    workflow_name: str | None = None
    status: ExecutionStatus | None = None
    input_payload: Any = None
    duration_ms: int | None = None
    n_steps: int | None = None
    n_agent_actions: int | None = None
    n_screenshots: int | None = None
    output_url: str | None = None
    video_url: str | None = None
    logs_url: str | None = None


class RunWorkflowRequest(BaseModel):
    """The body of a request to run a workflow."""

    input_payload: Any = Field(default_factory=dict)

    @field_validator("input_payload")
    @classmethod
    def _can_be_answered(cls, payload: Any) -> Any:
        # The parser lets NaN and lone surrogates in, which no answer could carry out again.
        json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        return payload


class CompleteExecutionRequest(BaseModel):
    """The body of a request to end an execution by hand."""

    status: Literal["completed", "failed"]


class Problem(BaseModel):
    """Why a request was turned away, in words."""

    detail: str


VALIDATION_ERROR: dict[str, Any] = {
    "type": "object",
    "title": "ValidationError",
    "required": ["loc", "msg", "type"],
    "properties": {
        "loc": {
            "type": "array",
            "title": "Location",
            "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "msg": {"type": "string", "title": "Message"},
        "type": {"type": "string", "title": "Error Type"},
    },
}
"""The published shape of one validation error; newer framework versions would publish more."""


def written(
    execution: Execution,
    now: datetime,
    *,
    status: Status | None = None,
    payload: bool = True,
    logs_below: str = "https://kinetic.example/",
) -> dict[str, Any]:
    """Return an execution as the JSON object of the API.

    Args:
        execution: what to show; its clone relation is not shown.
        now: when it is looked at.
        status: shown in place of the true one: a new execution is announced as queued even if it ends
            in the same moment, because the answer describes what was created.
        payload: whether `input_payload` is part of it.
        logs_below: where this server's logs are read, with a final slash; "" for none.
    """
    status = status or execution.status(now)
    ended = status in FINAL
    steps = steps_of(execution, status) if ended else None
    link = f"https://kinetic.example/executions/{execution.uuid}"
    answer = {
        "execution_uuid": execution.uuid,
        "created_at": _moment(execution.created_at),
        "updated_at": _moment(execution.updated_at(now) if status is execution.status(now) else now),
        "workflow_version_uuid": execution.workflow.version_uuid,
        "workflow_uuid": execution.workflow.uuid,
        "workflow_name": execution.workflow.name,
        "status": status.value,
        "input_payload": execution.payload,
        "duration_ms": round((execution.ends_at - execution.started_at).total_seconds() * 1000)
        if ended
        else None,
        "n_steps": steps,
        "n_agent_actions": steps * 4 if steps else None,
        "n_screenshots": steps * 2 if steps else None,
        "output_url": f"{link}/output" if status is Status.COMPLETED else None,
        "video_url": f"{link}/video" if ended else None,
        "logs_url": f"{logs_below}api/executions/{execution.uuid}/logs" if ended and logs_below else None,
    }
    if not payload:
        del answer["input_payload"]
    return answer


def steps_of(execution: Execution, status: Status) -> int:
    """Return how many steps a run of that status has taken."""
    return 3 + execution.seq % 17 if status in FINAL else 0


def validation_problem(errors: list[Any] | tuple[Any, ...]) -> dict[str, Any]:
    """Return the body of a 422: where, what and which kind; never the rejected input itself."""
    return {
        "detail": [
            {
                "loc": list(error.get("loc", ())),
                "msg": str(error.get("msg", "")),
                "type": str(error.get("type", "")),
            }
            for error in errors
        ]
    }


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
