"""Someone deletes the retry that they made: the lineage goes back to where it was before it joined."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.examples import execution
from tests.support.scripted_api import ScriptedApi, answering
from worker.domain.delivery import Refused
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.policy import PolicyBook
from worker.domain.transitions import Change
from worker.engine import discover, submit, survey
from worker.engine import watch as look_at_what_is_due
from worker.engine.context import Context
from worker.ledger.reports import Reports

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def joins(ctx: Context, api: ScriptedApi) -> None:
    """Someone else's retries join, ours come an hour later, and the list shows that payloads differ."""
    change_delay(ctx, HOUR)
    api.add(run("another-payload", Status.COMPLETED, 2 * HOUR, fingerprint="another"))


def change_delay(ctx: Context, delay: timedelta) -> None:
    ctx.policies = PolicyBook(replace(ctx.policies.default, join=True, base_delay=delay))


def run(uuid: str, status: Status, ago: timedelta = timedelta(0), fingerprint: str = "print") -> Execution:
    at = datetime.now(UTC) - ago
    return execution(uuid, status, fingerprint=fingerprint, created_at=at, updated_at=at)


async def lineage_of(ctx: Context) -> Lineage:
    found = (await ctx.ledger.read(["a"]))["a"]
    assert isinstance(found, Lineage)
    return found


async def join_and_delete(ctx: Context, api: ScriptedApi) -> Lineage:
    """Let someone's retry join and vanish; two looks later its grace (none, here) is over."""
    api.add(run("theirs", Status.RUNNING))
    await survey(ctx)
    assert (await lineage_of(ctx)).state is State.RUNNING
    del api.executions["theirs"]
    for _ in range(2):
        await ctx.ledger.reschedule(State.RUNNING, {"a": datetime.fromtimestamp(0, UTC)})
        await look_at_what_is_due(ctx)
    return await lineage_of(ctx)


async def test_what_was_scheduled_is_scheduled_again(ctx: Context, api: ScriptedApi) -> None:
    """With all attempts left; the story says why, and the retry is of the failure that it was of."""
    api.add(run("a", Status.FAILED, timedelta(seconds=1)))
    await discover(ctx)
    before = await lineage_of(ctx)
    lineage = await join_and_delete(ctx, api)
    assert (lineage.state, lineage.reason, lineage.made) == (State.SCHEDULED, "backoff", 0)
    assert (lineage.failing, lineage.due_at, lineage.delay) == ("a", before.due_at, HOUR)
    assert (lineage.newest.outcome, lineage.missing_since) == ("unknown", None)
    assert "theirs that someone else made is not there any more" in lineage.detail
    assert api.calls == []

    change_delay(ctx, timedelta(0))
    due = replace(lineage, version=lineage.version + 1, due_at=ctx.now())
    await ctx.ledger.commit(Change(lineage, due, ()))
    await submit(ctx)
    assert api.calls == ["a"]


async def test_what_had_ended_ends_as_before(ctx: Context, api: ScriptedApi) -> None:
    """The policy would allow attempts; the verdict is the old one, and what made it so is told."""
    change_delay(ctx, timedelta(0))
    api.add(run("a", Status.FAILED, timedelta(seconds=1)))
    api.answers.append(answering(Refused("validation_error", "no such member", 422)))
    await discover(ctx)
    await submit(ctx)
    lineage = await join_and_delete(ctx, api)
    assert (lineage.state, lineage.reason) == (State.REJECTED, "validation_error")
    assert lineage.detail == "no such member"
    told = (await Reports(ctx.ledger).story(lineage))[-1]
    assert told.name == "retry_rejected"
    assert "theirs" in str(told.facts["detail"])
    assert api.calls == ["a"]


async def test_a_policy_that_allows_no_more_ends_it_for_its_own_reason(
    ctx: Context, api: ScriptedApi
) -> None:
    """The run held the lineage up beyond its deadline: that is the verdict, and not a clone unknown."""
    api.add(run("a", Status.FAILED, timedelta(seconds=1)))
    await discover(ctx)
    ctx.policies = PolicyBook(replace(ctx.policies.default, deadline=timedelta(milliseconds=1)))
    lineage = await join_and_delete(ctx, api)
    assert (lineage.state, lineage.reason) == (State.EXHAUSTED, "deadline_passed")
