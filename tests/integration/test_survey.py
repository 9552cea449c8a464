"""What the survey sees of the list, and that failures are judged beside what completed with them."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.test_workflows import GUARDED, completed, mode_of
from tests.support.examples import execution
from tests.support.scripted_api import ScriptedApi
from worker.domain.breaker import Breaker, Mode, Rule, judge
from worker.domain.executions import Execution, Status
from worker.domain.health import Ended, Run
from worker.domain.policy import PolicyBook
from worker.engine import discover, survey
from worker.engine.context import Context
from worker.engine.desk import Workflow
from worker.ledger.workflows import Known

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
ONE = Workflow("workflow-1", "workflow-1", "Prior authorisation")


@pytest.fixture
def guarded(ctx: Context) -> Context:
    ctx.policies = PolicyBook(GUARDED)
    return ctx


def slow(uuid: str, status: Status, took: timedelta, ago: timedelta = SECOND) -> Execution:
    """Return a run of another workflow: it began `took` before it was touched last, `ago`."""
    at = datetime.now(UTC) - ago
    theirs = {"workflow_uuid": "slow", "workflow_version_uuid": "version-slow"}
    return execution(uuid, status, created_at=at - took, updated_at=at, **theirs)


def busy(api: ScriptedApi, hours: int = 1) -> None:
    """Fill the list with runs of three minutes, four a minute, on small pages."""
    api.page_size = 20
    for n in range(240 * hours):
        ended = completed(f"quick-{n}", ago=n * MINUTE / 4)
        api.add(replace(ended, created_at=ended.created_at and ended.created_at - 3 * MINUTE))


async def known_of(ctx: Context, workflow: str) -> Known:
    return (await ctx.ledger.workflows.look([workflow], timedelta(hours=6)))[workflow]


async def letters(ctx: Context, workflow: str) -> str:
    return "".join(run.ended.value for run in (await known_of(ctx, workflow)).runs)


async def read(ctx: Context) -> dict[str, int]:
    """Read the list, which must be our turn."""
    did = await survey(ctx)
    assert did is not None
    return did


async def remembered(ctx: Context) -> dict[str, Any]:
    memory = await ctx.ledger.connection.command("HGET", ctx.ledger.keys.job("survey"), "memory")
    found: dict[str, Any] = json.loads(memory)
    return found


# --- how far it reads ----------------------------------------------------------------------------------


async def test_a_slow_workflow_among_quick_ones_is_seen_to_complete(
    guarded: Context, api: ScriptedApi
) -> None:
    """Seven of ten runs of 25 minutes complete, where all others take three: that is no failing workflow."""
    busy(api)
    api.add(*(slow(f"slow-{n}", Status.RUNNING, 25 * MINUTE) for n in range(10)))
    await read(guarded)
    for n in range(10):
        ended = Status.FAILED if n in (0, 3, 6) else Status.COMPLETED
        api.add(slow(f"slow-{n}", ended, 25 * MINUTE, ago=(10 - n) * SECOND))
    did = await read(guarded)
    await discover(guarded)
    assert sorted(await letters(guarded, "slow")) == list("cccccccfff")
    assert await mode_of(guarded, "slow") is Mode.CLOSED
    assert did["pages"] <= 7  # and no farther than the oldest that was under way


async def test_one_that_hangs_does_not_make_every_reading_a_long_one(
    guarded: Context, api: ScriptedApi
) -> None:
    """Runs that are under way for longer than an hour are looked for by sweeps only."""
    busy(api, hours=3)
    api.add(slow("hangs", Status.RUNNING, 150 * MINUTE))
    assert (await read(guarded))["pages"] > 30
    assert (await read(guarded))["pages"] <= 13
    api.end("hangs", Status.COMPLETED)
    await read(guarded)
    assert await letters(guarded, "slow") == ""
    guarded.options = replace(guarded.options, discovery_sweep=timedelta(0))
    await read(guarded)
    assert await letters(guarded, "slow") == "c"


async def test_a_sweep_finds_runs_as_long_as_the_longest_that_is_known(
    guarded: Context, api: ScriptedApi
) -> None:
    """A run of two hours is noted when it ends, by when it ended; one that ended long ago is not."""
    busy(api, hours=3)
    api.add(slow("known", Status.COMPLETED, 2 * HOUR), slow("old", Status.COMPLETED, MINUTE, ago=2 * HOUR))
    await read(guarded)
    assert await letters(guarded, "slow") == "c"
    api.add(slow("next", Status.COMPLETED, 2 * HOUR, ago=10 * MINUTE))
    await read(guarded)
    assert await letters(guarded, "slow") == "c"
    guarded.options = replace(guarded.options, discovery_sweep=timedelta(0))
    await read(guarded)
    assert await letters(guarded, "slow") == "cc"


async def test_the_longest_run_is_kept_until_a_sweep_finds_out_anew(
    guarded: Context, api: ScriptedApi
) -> None:
    """A reading in which only quick runs ended must not make the next one too short."""
    busy(api)
    api.add(slow("a", Status.FAILED, 20 * MINUTE), slow("ended long ago", Status.FAILED, HOUR, ago=2 * HOUR))
    await read(guarded)
    assert (await remembered(guarded))["longest_run_ms"] < HOUR // timedelta(milliseconds=1)
    del api.executions["a"]
    await read(guarded)
    assert (await remembered(guarded))["longest_run_ms"] >= 20 * 60_000
    guarded.options = replace(guarded.options, discovery_sweep=timedelta(0))
    await read(guarded)
    assert (await remembered(guarded))["longest_run_ms"] < 5 * 60_000


async def test_what_was_cut_short_is_read_by_the_next(
    guarded: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of more than one turn may read: the next goes back as far, and nothing is taken for known."""
    await read(guarded)
    before = await remembered(guarded)
    api.page_size = 1
    api.add(*(completed(f"c{n}", ago=SECOND * n / 100) for n in range(6)))
    module = sys.modules["worker.engine.survey"]
    monkeypatch.setattr(module, "MOST_PAGES", 2)
    assert (await read(guarded))["pages"] == 2
    cut = await remembered(guarded)
    assert (cut["read_at"], cut["surveyed_at"]) == (before["read_at"], before["surveyed_at"])
    monkeypatch.undo()
    await read(guarded)
    assert await letters(guarded, "workflow-1") == "cccccc"
    assert (await remembered(guarded))["surveyed_at"] > before["surveyed_at"]


async def test_a_sweep_that_was_cut_short_is_not_begun_again_at_once(
    guarded: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies behind the pages of a sweep is given up; the next reading is complete again by itself."""
    busy(api)
    monkeypatch.setattr(sys.modules["worker.engine.survey"], "MOST_PAGES_OF_A_SWEEP", 5)
    assert (await read(guarded))["pages"] == 5
    assert (await read(guarded))["pages"] < 5


async def test_one_slow_run_does_not_leave_the_others_to_be_judged_by_their_failures(
    guarded: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy platform the pages do not last for its hour: what is quicker is known all the same."""
    busy(api)
    api.add(slow("slow", Status.FAILED, HOUR))
    await read(guarded)
    before = await remembered(guarded)
    monkeypatch.setattr(sys.modules["worker.engine.survey"], "MOST_PAGES", 2)
    assert (await read(guarded))["pages"] == 2
    cut = await remembered(guarded)
    assert cut["read_at"] == before["read_at"]
    assert cut["surveyed_at"] > before["surveyed_at"]


# --- failures are compared with what completed beside them -----------------------------------------------


async def one_in_twenty_fails(api: ScriptedApi, name: str) -> None:
    """Let a hundred runs end within a moment from now on, and wait until they have."""
    begins_at = datetime.now(UTC) + timedelta(milliseconds=20)
    for n in range(100):
        at = begins_at + n * timedelta(milliseconds=3)
        how = Status.FAILED if n % 20 == 7 else Status.COMPLETED
        api.add(execution(f"{name}{n}", how, created_at=at - SECOND, updated_at=at))
    while datetime.now(UTC) < begins_at + timedelta(milliseconds=320):
        await asyncio.sleep(0.02)


async def test_failures_are_not_judged_before_what_completed_beside_them(
    guarded: Context, api: ScriptedApi
) -> None:
    """Five of a hundred fail and are known first: the breaker waits for the ninety-five."""
    await read(guarded)
    await one_in_twenty_fails(api, "a")
    await discover(guarded)
    assert await letters(guarded, "workflow-1") == "fffff"
    assert await mode_of(guarded) is Mode.CLOSED
    await read(guarded)
    await guarded.desk.look([ONE], fresh=True)
    assert await mode_of(guarded) is Mode.CLOSED
    assert (await known_of(guarded, "workflow-1")).usage.runs == 100


async def test_a_real_outage_opens_it_with_the_next_reading(guarded: Context, api: ScriptedApi) -> None:
    """One interval later, and no more: nothing completed beside those that failed."""
    await read(guarded)
    await asyncio.sleep(0.01)
    now = datetime.now(UTC)
    api.add(*(execution(f"e{n}", Status.FAILED, created_at=now, updated_at=now) for n in range(5)))
    await discover(guarded)
    assert await mode_of(guarded) is Mode.CLOSED
    await read(guarded)
    await guarded.desk.look([ONE], fresh=True)
    assert await mode_of(guarded) is Mode.OPEN


async def test_a_survey_that_is_out_of_date_says_nothing(guarded: Context, api: ScriptedApi) -> None:
    """When nobody reads what completes any more, failures alone have to open it."""
    await read(guarded)
    memory = await remembered(guarded) | {"fresh_until": 1}
    await guarded.ledger.connection.command(
        "HSET", guarded.ledger.keys.job("survey"), "memory", json.dumps(memory)
    )
    now = datetime.now(UTC)
    api.add(*(execution(f"e{n}", Status.FAILED, created_at=now, updated_at=now) for n in range(5)))
    await discover(guarded)
    assert await mode_of(guarded) is Mode.OPEN


@pytest.mark.parametrize("memory", ["", "{", "[]", "{}", '{"read_at": 1, "longest_run_ms": 0}'])
async def test_a_memory_that_says_nothing_of_it_is_no_survey(guarded: Context, memory: str) -> None:
    """As an older version left it, or damaged."""
    await guarded.ledger.connection.command("HSET", guarded.ledger.keys.job("survey"), "memory", memory)
    assert (await known_of(guarded, "workflow-1")).surveyed_at is None
    assert await survey(guarded) is not None
    assert (await known_of(guarded, "workflow-1")).surveyed_at is not None


@pytest.mark.parametrize("mode", [Mode.CLOSED, Mode.CLOSING])
def test_only_opening_waits_for_what_completed(mode: Mode) -> None:
    """Whichever way it would open; a success counts at once, whenever it was."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    breaker = Breaker(mode, noon - 10 * MINUTE, noon - HOUR, version=1)
    failures = [Run(noon - MINUTE + n * SECOND, Ended.FAILED) for n in range(3)]
    opened = judge(breaker, failures, noon, Rule(), known_until=noon)
    assert opened.mode is Mode.OPEN
    assert judge(breaker, failures, noon, Rule(), known_until=noon - MINUTE + SECOND) is breaker
    works = [*failures, Run(noon + SECOND, Ended.COMPLETED)]
    assert judge(opened, works, noon + MINUTE, Rule(), known_until=noon).mode is Mode.CLOSING
