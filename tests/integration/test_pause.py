"""A person pauses everything or one workflow: what waits, what goes on, who is told, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from tests.integration.test_engine import failed, lineage_of, watch
from tests.support.commands import Command
from tests.support.examples import submitting
from tests.support.scripted_api import ScriptedApi
from worker.cli import forcing
from worker.cli.errors import CommandError
from worker.cli.person import Person
from worker.domain.breaker import UNTOUCHED, Breaker, Forced
from worker.domain.delivery import Delivery, NotDelivered
from worker.domain.executions import Status
from worker.domain.lineage import State
from worker.engine import discover, submit
from worker.engine.context import Context
from worker.engine.desk import Workflow
from worker.engine.pauses import note_pauses
from worker.ledger import Admission, Ledger, Outcome
from worker.ledger.gate import Halt
from worker.ledger.pauses import Pauses
from worker.ledger.reports import Reports, StoredEvent
from worker.ledger.workflow_reports import Named

WHY = ("--reason", "Kinetic is upgraded")
BACK = ("--reason", "the upgrade is done")
ANN, BOB = Person("ann@ops", "upgrade"), Person("bob@ops", "payer site is down")
ONE = Workflow("workflow-1", "workflow-1", "Prior authorisation")
SHORT = timedelta(milliseconds=300)


async def halt(ledger: Ledger, lasts: timedelta | None = None) -> Halt:
    """Pause everything, as `pause` does."""
    now = (await Reports(ledger).summary()).now
    wanted = Halt(str(ANN.by), ANN.why, now, now + lasts if lasts else None)
    changed, _ = await ledger.gate.halt(wanted, event="retries_paused", facts={"by": ANN.by})
    assert changed
    return wanted


async def told(ledger: Ledger, *names: str) -> list[StoredEvent]:
    found = [event for _, event in await Reports(ledger).events_since("-")]
    return [event for event in found if event.name in names]


async def eventually(what: Callable[[], Awaitable[object]], within_s: float = 15) -> None:
    """Wait for a condition."""
    ends_at = asyncio.get_running_loop().time() + within_s
    while not await what():
        assert asyncio.get_running_loop().time() < ends_at, "it did not come about"
        await asyncio.sleep(0.02)


def quiet(ctx: Context) -> tuple[Context, LogCapture]:
    """Return another process of the same workers, and what it logs."""
    captured = LogCapture()
    log = structlog.wrap_logger(None, processors=[captured])
    other = Context(ctx.ledger, ctx.api, ctx.policies, ctx.options, random=lambda: 0.0, log=log)
    return other, captured


# --- everything ----------------------------------------------------------------------------------------


async def test_while_everything_is_paused_no_retry_call_leaves_and_everything_else_goes_on(
    ctx: Context, api: ScriptedApi
) -> None:
    """Failures are found and clones are watched to their end; what is due waits, and spends nothing."""
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    clone = (await lineage_of(ctx, "a")).newest.clone
    await halt(ctx.ledger)
    api.add(failed("b"))
    await discover(ctx)
    api.end(clone, Status.COMPLETED)
    await watch(ctx)
    assert (await lineage_of(ctx, "a")).state is State.RECOVERED
    assert await submit(ctx) == {}
    waits = await lineage_of(ctx, "b")
    assert (waits.state, waits.made, api.calls) == (State.SCHEDULED, 0, ["a"])
    assert (await ctx.ledger.gate.halt(None, event="retries_resumed", facts={}))[0]
    await submit(ctx)
    assert api.calls == ["a", "b"]


async def test_a_claim_says_that_everything_is_paused(ctx: Context, api: ScriptedApi) -> None:
    """And hides nothing: when the pause ends all of it is due at that moment."""
    api.add(failed("a"))
    await discover(ctx)
    await halt(ctx.ledger)
    hide, lease = timedelta(minutes=1), timedelta(minutes=2)
    claim = await ctx.ledger.claim(State.SCHEDULED, limit=10, hide_for=hide, lease=lease)
    assert (claim.gate, claim.members) == ("halted", ())
    looks = await ctx.ledger.claim(State.RUNNING, limit=10, hide_for=hide)
    assert looks.gate == "open"
    assert await Pauses(ctx.ledger).due() == 1


async def test_an_intent_is_refused_when_the_pause_came_between_the_claim_and_the_commit(
    ctx: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker has claimed and prepared does not leave: the step that records it refuses."""
    commit, calls = ctx.ledger.commit, 0

    async def paused_meanwhile(change: Any, **options: Any) -> Outcome:
        nonlocal calls
        if options.get("admission"):
            calls += 1
            if calls == 1:
                await halt(ctx.ledger)
        return await commit(change, **options)

    api.add(failed("a"), failed("b"))
    await discover(ctx)
    monkeypatch.setattr(ctx.ledger, "commit", paused_meanwhile)
    await submit(ctx)
    assert (calls, api.calls) == (1, [])
    assert {(await lineage_of(ctx, each)).state for each in "ab"} == {State.SCHEDULED}
    assert await Pauses(ctx.ledger).due() == 2  # given back at once
    intent = submitting(await lineage_of(ctx, "a"), now=ctx.now())
    assert await commit(intent, admission=Admission()) is Outcome.GATED


async def test_a_call_that_has_left_is_followed_to_its_end(ctx: Context, api: ScriptedApi) -> None:
    """A pause takes nothing back, and nothing is called not delivered that may have been."""

    async def paused_meanwhile(api: ScriptedApi, of: str) -> Delivery:
        await halt(ctx.ledger)
        return NotDelivered("connect_error")

    api.answers.append(paused_meanwhile)
    api.add(failed("a"))
    await discover(ctx)
    await submit(ctx)
    put_back = await lineage_of(ctx, "a")
    assert (put_back.state, put_back.reason) == (State.SCHEDULED, "connect_error")


async def test_pausing_and_resuming_is_on_record_and_status_says_it_first(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """Who, why, since and until; how long it was, and what is due."""
    api.add(failed("a"), failed("b"))
    await discover(ctx)
    paused = await command("pause", "--for", "2h", "--by", "Ann", *WHY)
    assert paused.code == 0, paused.err
    assert "everything is paused: no retry call leaves; it goes on at " in paused.out
    assert "2 lineages due now" in paused.out
    await submit(ctx)
    assert api.calls == []
    status = (await command("status")).out
    assert status.splitlines()[0].startswith(" everything is paused  since ")
    assert "by Ann (" in status.splitlines()[0]
    assert status.splitlines()[0].endswith("Kinetic is upgraded")
    halted = (await command("status", "--json")).value["paused"]
    assert halted["why"] == "Kinetic is upgraded"
    ends_at, since = datetime.fromisoformat(halted["until"]), datetime.fromisoformat(halted["since"])
    assert ends_at - since == timedelta(hours=2)
    assert "now: everything is paused since" in (await command("show", "a", "--no-links")).out
    assert (await command("show", "a", "--no-links", "--json")).value["paused"] == halted
    again = await command("pause", "--reason", "me too")
    assert again.code == 1
    assert "everything is paused already" in again.err
    assert "Kinetic is upgraded" in again.err
    resumed = await command("resume", *BACK, "--json")
    assert (resumed.value["paused"], resumed.value["waiting"]) == (False, 2)
    assert 0 <= resumed.value["paused_for_s"] < 60
    twice = await command("resume", *BACK)
    assert (twice.code, "nothing is paused" in twice.err) == (1, True)
    begun, ended = await told(ctx.ledger, "retries_paused", "retries_resumed")
    assert (begun.root, begun.facts["why"]) == ("", "Kinetic is upgraded")
    assert begun.facts["until"] == halted["until"]
    assert (ended.facts["why"], ended.facts["paused_by"]) == ("the upgrade is done", halted["by"])
    assert "everything is paused" not in (await command("status")).out
    assert (await command("status", "--json")).value["paused"] is None
    await submit(ctx)
    await submit(ctx)
    assert sorted(api.calls) == ["a", "b"]


async def test_of_two_people_who_pause_one_wins_and_the_other_is_told(
    command: Command, ledger: Ledger
) -> None:
    """At the same moment: one event, one reason on record."""
    await ledger.begin(timedelta(0))
    answers = await asyncio.gather(
        *(
            ledger.gate.halt(
                Halt(each.by, each.why, datetime.now(UTC), None),
                event="retries_paused",
                facts={"by": each.by, "why": each.why},
            )
            for each in (ANN, BOB)
        )
    )
    assert [changed for changed, _ in answers] == [True, False]
    assert answers[1][1] is not None
    assert answers[1][1].by == ANN.by
    assert len(await told(ledger, "retries_paused")) == 1
    assert "by ann@ops: upgrade" in (await command("pause", *WHY)).err


async def test_a_pause_that_runs_out_holds_nobody_up_and_its_end_is_told_once(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """Whoever looks first tells the stream; `status` is right before anybody has looked."""
    api.add(failed("a"))
    await discover(ctx)
    wanted = await halt(ctx.ledger, SHORT)
    await submit(ctx)
    assert api.calls == []

    async def it_is_over() -> bool:
        return (await Reports(ctx.ledger).summary()).gate.halt is None

    await eventually(it_is_over)
    assert await ctx.ledger.connection.command("HEXISTS", ctx.ledger.keys.gate, "halt")  # nobody has looked
    assert (await command("status", "--json")).value["paused"] is None
    await submit(ctx)
    assert api.calls == ["a"]
    assert "nothing is paused" in (await command("resume", *BACK)).err
    ended = await asyncio.gather(*(Pauses(ctx.ledger).look() for _ in range(4)))
    assert ended == [(None, None)] * 4  # `resume` looked first
    (event,) = await told(ctx.ledger, "retries_resumed")
    assert (event.facts["by"], event.facts["paused_by"]) == ("its end", wanted.by)
    again = await command("pause", "--reason", "once more")
    assert again.code == 0, again.err


async def test_every_process_says_once_that_everything_is_paused_and_once_that_it_is_over(
    ctx: Context,
) -> None:
    """With who, why and until; also for one that began while it lasted, and where nobody resumed it."""
    first, said = quiet(ctx)
    second, heard = quiet(ctx)
    await note_pauses(first)
    assert said.entries == []
    wanted = await halt(ctx.ledger, SHORT)
    for process in (first, first, second):
        await note_pauses(process)
    (paused,) = said.entries
    assert (paused["event"], paused["log_level"]) == ("retries_paused", "warning")
    assert (paused["paused_by"], paused["why"]) == (wanted.by, wanted.why)
    assert paused["until"]
    assert [each["event"] for each in heard.entries] == ["retries_paused"]

    async def first_says_that_it_is_over() -> bool:
        await note_pauses(first)
        return len(said.entries) > 1

    await eventually(first_says_that_it_is_over)
    await note_pauses(first)
    await note_pauses(second)
    for entries in (said.entries, heard.entries):
        assert [each["event"] for each in entries] == ["retries_paused", "retries_resumed"]
        assert entries[1]["duration"] >= SHORT.total_seconds()
    assert len(await told(ctx.ledger, "retries_resumed")) == 1
    third, nothing = quiet(ctx)
    await note_pauses(third)
    assert nothing.entries == []


async def test_the_end_is_told_by_a_process_that_began_after_it(ctx: Context) -> None:
    """All workers were down while it ran out: the stream still tells its end, and so does one log."""
    await halt(ctx.ledger, timedelta(milliseconds=1))
    await asyncio.sleep(0.05)
    await Reports(ctx.ledger).summary()
    late, said = quiet(ctx)
    await note_pauses(late)
    assert [each["event"] for each in said.entries] == ["retries_resumed"]
    assert len(await told(ctx.ledger, "retries_resumed")) == 1


async def test_a_pause_that_is_not_over_is_not_taken_off(ctx: Context) -> None:
    """A process whose clock is ahead believes that it is over: the server's clock decides."""
    wanted = await halt(ctx.ledger, timedelta(minutes=1))
    text = await ctx.ledger.connection.command("HGET", ctx.ledger.keys.gate, "halt")
    assert not await Pauses(ctx.ledger)._take_off(text, wanted)
    assert (await ctx.ledger.gate.look()).halt is not None
    assert await told(ctx.ledger, "retries_resumed") == []


async def test_an_ordered_retry_waits_for_the_end_of_a_pause_and_says_so(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """A person's pause comes before a person's order; it goes as soon as the pause is over."""
    api.add(failed("a"))
    await discover(ctx)
    await command("pause", "--for", "2h", *WHY)
    ordered = await command("retry", "a", "--reason", "urgent")
    assert ordered.code == 0
    assert "attempt 1 goes now, but not before the pause of everything ends, at " in ordered.out
    assert "Kinetic is upgraded" in ordered.out
    await submit(ctx)
    assert api.calls == []
    await command("resume", *BACK)
    await submit(ctx)
    assert api.calls == ["a"]


# --- one workflow --------------------------------------------------------------------------------------


async def test_one_workflow_is_paused_and_the_others_go_on(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """The same as its breaker forced open, in the ledger and in every command; an order waits as well."""
    api.add(failed("a"), failed("b", workflow_uuid="workflow-2", workflow_name="Claim status"))
    await discover(ctx)
    answer = await command("pause", "claim*", "--for", "2h", *WHY)
    assert answer.code == 0, answer.err
    assert "Claim status is paused: no retry call leaves; it goes on at " in answer.out
    await submit(ctx)
    await submit(ctx)
    assert api.calls == ["a"]
    waits = await lineage_of(ctx, "b")
    assert (waits.state, waits.reason) == (State.SCHEDULED, "workflow_paused")
    assert "Kinetic is upgraded, until 20" in waits.detail
    status = await command("status")
    assert status.out.splitlines()[0].startswith(" Claim status is paused  since ")
    (paused,) = (await command("status", "--json")).value["paused_workflows"]
    assert (paused["workflow"], paused["workflow_name"]) == ("workflow-2", "Claim status")
    assert paused["until"]
    shown = (await command("breaker", "list", "--json")).value[0]["breaker"]
    assert (shown["forced"], shown["forced_until"]) == ("open", paused["until"])
    twice = await command("pause", "workflow-2", "--reason", "me too")
    assert (twice.code, "Claim status is paused already" in twice.err) == (1, True)
    assert "Kinetic is upgraded" in twice.err
    ordered = await command("retry", "b", "--reason", "urgent")
    assert "but not before the pause of its workflow ends" in ordered.out

    async def it_waits() -> bool:
        await submit(ctx)
        assert api.calls == ["a"]
        return await ctx.ledger.workflows.count_waiting() == 1

    await eventually(it_waits)
    assert "single workflows are paused (Claim status)" in (await command("resume", *BACK)).err
    resumed = await command("resume", "claim*", *BACK, "--json")
    assert (resumed.value["paused"], resumed.value["waiting"]) == (False, 1)
    assert (await command("resume", "claim*", *BACK)).code == 1
    forced = await told(ctx.ledger, "workflow_breaker_forced")
    assert [each.facts["to"] for each in forced] == ["open", "auto"]
    assert forced[0].facts["until"] == paused["until"]

    async def it_goes() -> bool:
        ctx.options = replace(ctx.options, release_interval=timedelta(0))
        await submit(ctx)
        return api.calls == ["a", "b"]

    await eventually(it_goes)


async def test_the_pause_of_a_workflow_ends_by_itself(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """What waited goes, and `status` does not speak of it any more."""
    ctx.options = replace(ctx.options, release_interval=timedelta(0))
    api.add(failed("a"))
    await discover(ctx)
    now = (await Reports(ctx.ledger).summary()).now
    workflow = Named("workflow-1", "workflow-1", "Prior authorisation")
    await forcing.force(ctx.ledger, workflow, Forced.OPEN, ANN, until=now + SHORT)
    await submit(ctx)
    assert (await lineage_of(ctx, "a")).reason == "workflow_paused"

    async def it_goes() -> bool:
        await submit(ctx)
        return api.calls == ["a"]

    await eventually(it_goes)
    assert (await command("status", "--json")).value["paused_workflows"] == []


async def test_the_end_of_the_pause_of_a_workflow_is_told_as_what_it_is(ctx: Context) -> None:
    """It ran out: nobody forced anything, and no canary failed."""
    now = (await Reports(ctx.ledger).summary()).now
    await forcing.force(ctx.ledger, Named(ONE.key, ONE.uuid, ONE.name), Forced.OPEN, ANN, until=now + SHORT)

    async def its_end_is_told() -> bool:  # a view says so a moment before it is on record
        await ctx.desk.look([ONE], fresh=True)
        return len(await told(ctx.ledger, "workflow_breaker_forced", "workflow_canary_failed")) > 1

    await eventually(its_end_is_told)
    begun, ended = await told(ctx.ledger, "workflow_breaker_forced", "workflow_canary_failed")
    assert (ended.name, ended.facts["to"], ended.facts["by"]) == (
        "workflow_breaker_forced",
        "auto",
        "its end",
    )
    assert ended.facts["why"] == str(ANN)
    assert begun.facts["to"] == "open"


async def test_who_paused_a_workflow_meanwhile_is_not_overruled(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """Ann decides by what she saw; Bob was faster, and she is told."""
    api.add(failed("a"))
    await discover(ctx)
    await Reports(ctx.ledger).summary()
    workflow = Named("workflow-1", "workflow-1", "Prior authorisation")
    await forcing.force(ctx.ledger, workflow, Forced.OPEN, BOB)
    with pytest.raises(CommandError, match=r"faster.*bob@ops: payer site is down"):
        await forcing.force(ctx.ledger, workflow, Forced.OPEN, ANN, seen=UNTOUCHED)
    closed = await command("breaker", "close", "workflow-1", *WHY)
    assert closed.code == 0, closed.err
    refused = await command("resume", "workflow-1", *BACK)
    assert (refused.code, "is not paused: its breaker is forced closed" in refused.err) == (1, True)
    stored: Breaker = await forcing.stored(ctx.ledger, workflow)
    assert stored.forced is Forced.CLOSED


async def test_when_everything_resumes_a_workflow_that_is_paused_by_itself_stays_so(
    command: Command, ctx: Context, api: ScriptedApi
) -> None:
    """And `resume` says which."""
    api.add(failed("a"))
    await discover(ctx)
    await command("pause", *WHY)
    await command("pause", "workflow-1", *WHY)
    resumed = await command("resume", *BACK)
    assert "still paused by themselves: Prior authorisation" in resumed.out
    await submit(ctx)
    assert api.calls == []
