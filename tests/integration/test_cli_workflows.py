"""`breaker`, and what `status`, `show` and `list` say of workflows: the real engine over a real server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli_terminal import HOSTILE, SHOWN, assert_harmless, on_a_terminal
from tests.support.commands import Command
from tests.support.examples import execution
from tests.support.scripted_api import ScriptedApi
from worker.cli import forcing
from worker.cli.errors import CommandError
from worker.cli.person import Person
from worker.domain.breaker import Breaker, Forced, Mode
from worker.domain.executions import Execution
from worker.domain.lineage import Lineage, State
from worker.domain.policy import Jitter, Policy, PolicyBook
from worker.engine import discover, submit
from worker.engine.context import Context, Options
from worker.engine.desk import Workflow
from worker.ledger import Ledger
from worker.ledger.clock import to_ms
from worker.ledger.workflow_reports import Named
from worker.ledger.workflows import BreakerTold

CLAIMS, OTHER = "0b0f5a3e-7a64-4d0e-9b51-0c4d7fd6f001", "0b0f5a3e-7a64-4d0e-9b51-0c4d7fd6f002"
THIRD = "0b0f5a3e-7a64-4d0e-9b51-0c4d7fd6f003"
WHY = ("--reason", "the payer site is down")
EAGER = Policy(base_delay=timedelta(0), jitter=Jitter.NONE, prompt=False)
"""As by default, except that every attempt is due at once: what waits then waits for its workflow."""
WITHIN_S = 20
ANN = Person("ann@ops", "maintenance")


@pytest.fixture
async def eager(ledger: Ledger, api: ScriptedApi) -> Context:
    """A worker with the limits and breakers that are there by default."""
    await ledger.begin(timedelta(minutes=10))
    options = Options(
        discovery_interval=timedelta(0), watch_interval=timedelta(0), survey_patience=timedelta(0)
    )
    return Context(ledger, api, PolicyBook(EAGER), options, random=lambda: 0.0)


def failed(
    uuid: str, seconds_ago: float = 1, workflow: str = CLAIMS, name: str = "Claims intake"
) -> Execution:
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return execution(uuid, created_at=at, updated_at=at, workflow_uuid=workflow, workflow_name=name)


async def poll(ctx: Context) -> None:
    """Read the list; it is our turn at the second look at the latest."""
    assert await discover(ctx) is not None


async def submit_until(ctx: Context, api: ScriptedApi, calls: int) -> float:
    """Run ticks until so many calls have left; return how long that took, in seconds."""
    began_s = time.monotonic()
    while len(api.calls) < calls:
        assert time.monotonic() - began_s < WITHIN_S, api.calls
        await submit(ctx)
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


async def lineage(ledger: Ledger, root: str) -> Lineage:
    found = (await ledger.read([root]))[root]
    assert isinstance(found, Lineage)
    return found


async def four_that_wait(ctx: Context, api: ScriptedApi) -> None:
    """Four failures of one workflow: its breaker opens, and all of them wait for it. `f1` failed first."""
    api.add(*(failed(f"f{n}", seconds_ago=4.9 - n) for n in range(1, 5)))
    await poll(ctx)
    await submit(ctx)
    assert api.calls == []


async def test_status_has_no_block_where_there_is_nothing_to_say(command: Command, ledger: Ledger) -> None:
    """Programs get the same keys, quiet or not."""
    await ledger.begin(timedelta(0))
    status = (await command("status", "--json")).value
    assert (status["workflows"], status["waiting"]) == ([], 0)
    assert status["budget"] == {
        "window_s": 21600.0,
        "runs": 0,
        "made": 0,
        "most_made": 100,
        "pace_window_s": 300.0,
        "made_lately": 0,
        "most_made_lately": 20,
        "in_flight": 0,
        "most_in_flight": None,
    }
    shown = (await command("status")).out
    assert "workflows" not in shown
    assert "waiting" not in shown
    assert "every breaker is closed" in (await command("breaker", "list")).out


async def test_status_says_which_workflow_fails_and_who_waits(
    command: Command, ledger: Ledger, eager: Context, api: ScriptedApi
) -> None:
    """Name, mode, since when, why, the next canary and how many wait."""
    await four_that_wait(eager, api)
    status = (await command("status", "--json")).value
    assert status["waiting"] == 4
    assert status["next_due"] is None  # what waits is not due at a time
    (claims,) = status["workflows"]
    assert (claims["workflow_uuid"], claims["workflow_name"]) == (CLAIMS, "Claims intake")
    assert (claims["waiting"], claims["waits_for"]) == (4, "workflow_failing")
    breaker = claims["breaker"]
    assert (breaker["mode"], breaker["forced"], breaker["places"]) == ("open", None, 0)
    assert breaker["detail"] == "all of the last 4 runs failed"
    since, canary = (datetime.fromisoformat(breaker[at]) for at in ("since", "next_canary_at"))
    assert canary - since == timedelta(minutes=1)
    shown = (await command("status")).out
    line = next(line for line in shown.splitlines() if "Claims intake" in line)
    assert line.startswith("  Claims intake: open since ")
    assert ": all of the last 4 runs failed; one clone tries it at " in line
    assert line.endswith("; 4 wait")
    assert "waiting    4 of those scheduled" in shown
    assert "next due   nothing" in shown
    assert (await command("breaker", "list", "--json")).value == status["workflows"]
    listed = (await command("breaker", "list")).out
    assert f"Claims intake {CLAIMS}" in listed
    assert "; 4 wait" in listed


async def test_show_says_what_a_lineage_waits_for_now(
    command: Command, eager: Context, api: ScriptedApi
) -> None:
    """Why it was scheduled, why it waits, and the figures of this moment; its place in the queue."""
    await four_that_wait(eager, api)
    told = (await command("show", "f3", "--no-links")).out
    assert "attempt 1 of 5 scheduled for " in told
    assert "(policy default; exponential backoff" in told
    assert "attempt 1 is due, and waits (workflow_failing: the workflow fails: all of the last" in told
    assert "reason: workflow_failing: the workflow fails" in told
    assert "now: still so\n" in told
    assert "4 wait for this workflow, 2 of them before it" in told
    assert "clones in 6h: 0/10 of the workflow, 0/100 of all; in 5m: 0/18" in told
    assert "it is the first of them" in (await command("show", "f1", "--no-links")).out
    now = (await command("show", "f3", "--json")).value["now"]
    assert (now["waits_for"], now["waiting"], now["waiting_before"]) == ("workflow_failing", 4, 2)
    assert now["breaker"]["mode"] == "open"
    rows = (await command("list", "--state", "scheduled")).out.splitlines()
    row = next(row for row in rows if row.split()[:1] == ["f3"])
    assert row.rstrip().endswith("waits: workflow_failing")
    await eager.ledger.workflows.note_completed([(CLAIMS, "other", datetime.now(UTC))])
    told = (await command("show", "f3", "--no-links")).out
    assert "reason: workflow_failing: the workflow fails" in told  # as it was
    assert "now: there is room for it: it goes within seconds" in told
    now_ms = to_ms(eager.now())
    await eager.ledger.connection.command("ZADD", eager.ledger.keys.flight(CLAIMS), now_ms, "x", now_ms, "y")
    told = (await command("show", "f3", "--no-links")).out
    assert "now: the workflow works again and is let go by steps: 2 of 2 clones are in flight" in told


async def test_a_breaker_that_is_forced_closed_lets_go_at_once(
    command: Command, ledger: Ledger, eager: Context, api: ScriptedApi
) -> None:
    """Within a second or two, whatever the runs say; who and why is on record and shown."""
    await four_that_wait(eager, api)
    forced = await command("breaker", "close", "claims*", "--by", "Ann", "--reason", "fixed", "--json")
    assert (forced.value["forced"], forced.value["changed"], forced.value["waiting"]) == ("closed", True, 4)
    assert forced.value["by"].startswith("Ann (")
    assert await submit_until(eager, api, 4) < WITHIN_S / 2
    assert sorted(api.calls) == ["f1", "f2", "f3", "f4"]
    (event,) = [
        fields
        for _, fields in await ledger.connection.command("XRANGE", ledger.keys.events, "-", "+")
        if "workflow_breaker_forced" in str(fields)
    ]
    assert '"to":"closed"' in str(event)
    assert '"why":"fixed"' in str(event)
    shown = (await command("status")).out
    assert "Claims intake: forced closed since " in shown
    assert "Ann (" in shown
    assert "fixed" in shown
    # Failures that come now do not open it: only a person or `auto` does.
    api.add(*(failed(f"n{n}", seconds_ago=0) for n in range(4)))
    await poll(eager)
    workflow = Workflow(CLAIMS, CLAIMS, "Claims intake")
    await eager.desk.look([workflow], fresh=True)
    assert eager.desk.view(workflow).standing.mode is Mode.CLOSED
    stored = (await ledger.workflows.breakers())[CLAIMS]
    assert (stored.mode, stored.forced) == (Mode.CLOSED, Forced.CLOSED)


async def test_a_breaker_that_is_forced_open_stops_intents_already_prepared(
    command: Command, ledger: Ledger, eager: Context, api: ScriptedApi
) -> None:
    """What a worker believed a moment ago does not count: the ledger refuses its intent."""
    api.add(failed("f1"))
    await poll(eager)
    workflow = Workflow(CLAIMS, CLAIMS, "Claims intake")
    await eager.desk.look([workflow])
    assert eager.desk.view(workflow).objection is None  # and it is believed for a second
    forced = await command("breaker", "open", CLAIMS, *WHY)
    assert forced.code == 0, forced.err
    assert "forced open: no clone of it is made" in forced.out
    eager.desk._read_at_s = dict.fromkeys(eager.desk._read_at_s, time.monotonic() + 60)  # believed for longer
    await submit(eager)
    await submit(eager)
    assert api.calls == []
    waiting = await lineage(ledger, "f1")
    assert (waiting.state, waiting.reason, waiting.made) == (State.SCHEDULED, "workflow_paused", 0)
    told = (await command("show", "f1", "--no-links")).out
    assert ": the payer site is down" in told
    back = await command("breaker", "auto", CLAIMS, "--reason", "it is back")
    assert "decides by itself again" in back.out
    assert "1 lineage waits for it and may go now" in back.out
    eager.desk._read_at_s.clear()
    await submit_until(eager, api, 1)
    assert "forced" not in (await command("status")).out


async def test_what_is_automatic_already_stays_so(
    command: Command, ledger: Ledger, eager: Context, api: ScriptedApi
) -> None:
    """`auto` is no way to reset a breaker that opened by itself."""
    await four_that_wait(eager, api)
    answer = await command("breaker", "auto", "Claims intake", *WHY)
    assert answer.code == 0
    assert "nobody forced it: it decides by itself, and is open" in answer.out
    assert (await ledger.workflows.breakers())[CLAIMS].mode is Mode.OPEN


async def test_a_workflow_is_named_by_uuid_name_or_pattern(
    command: Command, ledger: Ledger, eager: Context, api: ScriptedApi
) -> None:
    """Several, or none: nothing is forced, and what there is is said."""
    api.add(failed("a"), failed("b", workflow=OTHER, name="Claims intake (new)"))
    api.add(failed("c", workflow=THIRD, name="Intake [EU]"))
    await poll(eager)
    ambiguous = await command("breaker", "open", "claims*", *WHY)
    assert ambiguous.code == 2
    assert f"{CLAIMS}  Claims intake\n" in ambiguous.err
    assert f"{OTHER}  Claims intake (new)" in ambiguous.err
    unknown = await command("breaker", "open", "Claim intake", *WHY)
    assert unknown.code == 1
    assert "no workflow that is known is called 'Claim intake'" in unknown.err
    assert await ledger.workflows.breakers() == {}
    for wanted in (CLAIMS.upper(), "CLAIMS INTAKE"):  # the whole name comes before the pattern
        assert (await command("breaker", "open", wanted, *WHY, "--json")).value["workflow"] == CLAIMS
    assert (await command("breaker", "open", "*new)", *WHY, "--json")).value["workflow"] == OTHER
    assert (await command("breaker", "open", "intake [eu]", *WHY, "--json")).value["workflow"] == THIRD
    assert (await command("breaker", "open", CLAIMS, "--reason", " \x1b[0m")).code == 2


async def test_a_workflow_that_never_ran_is_forced_by_its_uuid(
    command: Command, eager: Context, api: ScriptedApi
) -> None:
    """Before the first failure: it then waits."""
    forced = await command("breaker", "open", OTHER, *WHY, "--json")
    assert (forced.value["workflow"], forced.value["workflow_name"]) == (OTHER, None)
    assert OTHER in (await command("status")).out
    api.add(failed("b", workflow=OTHER, name="New one"))
    await poll(eager)
    await submit(eager)
    assert api.calls == []
    assert "New one: forced open since" in (await command("status")).out


async def test_another_person_who_was_faster_is_not_overruled(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a breaker did by itself meanwhile is no reason to refuse; what a person said meanwhile is."""
    store, workflow = ledger.workflows.store, Named(CLAIMS, CLAIMS, "Claims intake")
    meanwhile: list[Breaker] = []

    async def slower(told: BreakerTold) -> bool:
        if meanwhile:
            first = replace(meanwhile.pop(), version=told.before.version + 1)
            assert await store(replace(told, after=first))
        return await store(told)

    monkeypatch.setattr(ledger.workflows, "store", slower)
    meanwhile.append(Breaker(Mode.OPEN, detail="all of the last 3 runs failed"))
    forced, changed = await forcing.force(ledger, workflow, Forced.OPEN, ANN)
    assert (forced.forced, forced.version, changed) == (Forced.OPEN, 2, True)
    meanwhile.append(Breaker(forced=Forced.CLOSED, detail="bob@ops: it works"))
    with pytest.raises(
        CommandError, match=r"faster, nothing is changed.*forced closed \(bob@ops: it works\)"
    ):
        await forcing.force(ledger, workflow, None, ANN)
    assert (await ledger.workflows.breakers())[CLAIMS].forced is Forced.CLOSED


async def test_status_says_when_the_budget_is_nearly_used(
    command: Command, eager: Context, api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From four fifths on, and with what is held up by it."""
    api.add(failed("f1"), failed("f2", workflow=OTHER, name="Other"))
    await poll(eager)
    await submit_until(eager, api, 2)
    assert "workflows" not in (await command("status")).out
    monkeypatch.setenv("BUDGET_FLOOR", "2")
    monkeypatch.setenv("RETRY_IN_FLIGHT", "2")
    shown = (await command("status")).out
    assert "budget: 2 of 2 clones in 6h, for 2 runs" in shown
    assert "in flight: 2 of 2 clones at once" in shown
    assert "pace" not in shown
    assert (await command("status", "--json")).value["budget"]["most_made"] == 2


@pytest.mark.parametrize("columns", ["80", "120"])
async def test_names_and_reasons_are_text_on_a_terminal(
    *, eager: Context, api: ScriptedApi, redis_url: str, namespace: str, tmp_path: Path, columns: str
) -> None:
    """Workflow name and a person's reason, at any width; ours alone are the colours."""
    api.add(*(replace(failed(f"f{n}"), workflow_name=HOSTILE) for n in range(4)))
    await poll(eager)
    await submit(eager)
    env: dict[str, Any] = {"REDIS_URL": redis_url, "LEDGER_NAMESPACE": namespace, "COLUMNS": columns}
    said = on_a_terminal(tmp_path, "breaker", "open", CLAIMS, "--reason", HOSTILE.replace("\0", ""), **env)
    for words in (("status",), ("breaker", "list"), ("show", "f1", "--no-links")):
        said += on_a_terminal(tmp_path, *words, **env)
    assert "\x1b[" in said
    assert_harmless(said)
    assert said.count(SHOWN[:7]) >= 4
