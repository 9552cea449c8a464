"""What the log of a run says: invented lines, the same for everyone who asks.

Owns the lines; which error ends a failed run's log is a rule of its workflow.
"""

from __future__ import annotations

from datetime import datetime

from simulator.executions import Execution, Status
from simulator.wire import steps_of


def log_of(execution: Execution, now: datetime) -> str:
    """Return the log of an execution at a time: a line per step, and how it ended."""
    status = execution.status(now)
    lines = [f"INFO run {execution.run} of {execution.uuid} started"]
    lines += [f"INFO step {step} done" for step in range(1, steps_of(execution, status))]
    if status is Status.FAILED:
        lines.append(f"ERROR {execution.workflow.failure_log}")
    if status is Status.COMPLETED:
        lines.append("INFO completed")
    return "".join(f"{execution.created_at.isoformat()} {line}\n" for line in lines)
