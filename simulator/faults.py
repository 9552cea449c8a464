"""Faults on demand: which request is to go wrong, and how.

Owns the rules and the choice among them; carrying a fault out is `middleware`'s work. For a request that
changes something, *when* matters more than *what*: `before` the commit nothing has happened, `after` it the
caller sees the same failure although everything has.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LONGEST_HANG_S = 600.0


class Operation(StrEnum):
    """What a request does, for rules and for counting."""

    RETRY = "retry"
    GET = "get"
    LIST = "list"
    RUN = "run"
    COMPLETE = "complete"
    OTHER = "other"


class Kind(StrEnum):
    """What goes wrong.

    `latency`: it takes `seconds` longer; before the commit, so a caller who gave up is obeyed late.
    `status`: answers `status`, with `Retry-After` if given. `unauthorized`: a 401, whatever the key.
    `html`: a proxy's page instead of JSON, with `status` (502 unless given).
    `broken_body`: the true answer, cut off in the middle of its JSON; after the commit.
    `close`: the connection ends without an answer. `reset`: the same by RST.
    `hang`: nothing for `seconds` (or until the caller goes), then the connection ends.
    """

    LATENCY = "latency"
    STATUS = "status"
    UNAUTHORIZED = "unauthorized"
    HTML = "html"
    BROKEN_BODY = "broken_body"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


class Rule(BaseModel):
    """One fault and when it strikes.

    Attributes:
        operation: which requests; `*` is every API call.
        kind: see `Kind`.
        probability: that it strikes a request it is for.
        remaining: how many more times it may strike; None: without end.
        workflow: only executions of this workflow, by uuid or name; None: all. A list has no workflow.
        when: before or after the request was obeyed.
        seconds: how long, for `latency` and `hang`.
        status: which code, for `status` and `html`.
        retry_after: the header's value for `status`: seconds, or any text such as an HTTP date.
    """

    model_config = ConfigDict(extra="forbid")

    operation: Literal["retry", "get", "list", "run", "complete", "*"] = "*"
    kind: Kind
    probability: float = Field(default=1.0, ge=0, le=1)
    remaining: int | None = Field(default=None, ge=0)
    workflow: str | None = None
    when: Literal["before", "after"] = "before"
    seconds: float = Field(default=1.0, ge=0, le=LONGEST_HANG_S)
    status: int | None = Field(default=None, ge=200, le=599)
    retry_after: float | str | None = None

    @property
    def after_commit(self) -> bool:
        """Whether the request is obeyed before the fault strikes."""
        return self.when == "after" or self.kind is Kind.BROKEN_BODY

    def is_for(self, operation: Operation, workflow: frozenset[str]) -> bool:
        """Whether the rule may strike a request of an operation and a workflow's uuid and name."""
        return (
            self.remaining != 0
            and self.operation in ("*", operation)
            and (self.workflow is None or self.workflow in workflow)
        )


class Faults:
    """The rules in force, in the order they were added.

    Args:
        rng: decides about probabilities; seeded, so that a run can be repeated.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.rules: list[Rule] = []

    def add(self, rules: list[Rule]) -> None:
        """Put rules behind those in force."""
        self.rules.extend(rules)

    def clear(self) -> None:
        """Drop every rule."""
        self.rules.clear()

    def strike(self, operation: Operation, workflow: frozenset[str]) -> list[Rule]:
        """Return what goes wrong with a request: every latency that strikes, then at most one other fault."""
        struck: list[Rule] = []
        other: Rule | None = None
        for rule in self.rules:
            if (rule.kind is not Kind.LATENCY and other) or not rule.is_for(operation, workflow):
                continue
            if rule.probability < 1 and self._rng.random() >= rule.probability:
                continue
            if rule.remaining is not None:
                rule.remaining -= 1
            if rule.kind is Kind.LATENCY:
                struck.append(rule)
            else:
                other = rule
        return [*struck, other] if other else struck
