"""`status`, `list`, `show` and `track` over a ledger with every state in it, on a real server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.commands import Command
from tests.support.examples import PLAIN, discovered, execution, running, submitting
from tests.support.simulation import start_simulator
from worker.domain import transitions
from worker.domain.lineage import Lineage, State
from worker.domain.policy import GiveUp, GiveUpReason
from worker.domain.transitions import Change
from worker.ledger import Ledger
from worker.ledger.clock import to_ms
from worker.ledger.commits import Outcome
from worker.ledger.reports import Reports

MINUTE = timedelta(minutes=1)
NO_SERVER = "redis://:canary-password@127.0.0.1:1/0"


def now_ms() -> datetime:
    """Return now as exactly as the ledger keeps it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


async def put(ledger: Ledger, *changes: Change) -> Lineage:
    """Store changes one after the other and return where they end."""
    for change in changes:
        assert await ledger.commit(change) is Outcome.COMMITTED
    return changes[-1].after


def failed(root: str, *, now: datetime, **facts: Any) -> Change:
    return discovered(execution(root, **{"updated_at": now, **facts}), now=now)


async def one_of_each(ledger: Ledger) -> datetime:
    """Store a lineage in each state, named after it; return when the scheduled one is due."""
    await ledger.begin(timedelta(0))
    now = now_ms()
    started = {state: await put(ledger, failed(state.value, now=now)) for state in State}
    waiting = started.pop(State.SCHEDULED)
    ends = {
        State.RUNNING: lambda sent: transitions.accept(sent, execution("a-clone"), now=now, evidence="201"),
        State.UNRESOLVED: lambda sent: transitions.unresolve(
            sent, reason="read_timeout", detail="no answer", now=now
        ),
        State.REJECTED: lambda sent: transitions.reject(sent, reason="not_found", detail="gone", now=now),
        State.RECOVERED: lambda sent: transitions.recover(sent, now=now, ended_at=now),
    }
    for state, lineage in started.items():
        if state is State.HELD:
            await put(ledger, transitions.hold(lineage, reason="no_list", detail="nothing to read", now=now))
        elif state is State.EXHAUSTED:
            verdict = GiveUp(GiveUpReason.DEADLINE_PASSED, "too late")
            await put(ledger, transitions.give_up(lineage, verdict, PLAIN, "default", now=now))
        elif state is State.CANCELLED:  # a person's act, which no command offers yet
            after = replace(lineage, state=state, version=lineage.version + 1)
            await put(ledger, Change(lineage, after, ()))
        else:
            sent = await put(ledger, submitting(lineage, now=now))
            if state in ends:
                await put(ledger, ends[state](sent))
    assert waiting.due_at
    return waiting.due_at


async def test_status_counts_each_state(command: Command, ledger: Ledger) -> None:
    """Nine states in the order of the life cycle; what is due next, and what was counted."""
    due_at = await one_of_each(ledger)
    status = (await command("status", "--json")).value
    assert status["states"] == {state.value: 1 for state in State}
    assert list(status["states"]) == [state.value for state in State]
    assert datetime.fromisoformat(status["next_due"]) == due_at
    assert status["counters"]["execution_discovered"] == len(State)
    assert status["counters"]["retries_exhausted"] == 1
    assert datetime.fromisoformat(status["started_at"]) <= datetime.fromisoformat(status["now"])
    shown = await command("status")
    assert shown.code == 0
    for state in State:
        assert any(line.split()[:2] == [state.value, "1"] for line in shown.out.splitlines())


async def test_status_tells_what_each_job_did_last(command: Command, ledger: Ledger) -> None:
    """The age and the duration in seconds; the text leaves out what was zero."""
    await ledger.begin(timedelta(0))
    await ledger.jobs.tick("discover", timedelta(seconds=1.5), {"new_failures": 2, "pages": 0})
    tick = (await command("status", "--json")).value["ticks"]["discover"]
    assert set(tick) == {"finished_at", "age_s", "duration_s", "did"}
    assert (tick["duration_s"], tick["did"]) == (1.5, {"new_failures": 2, "pages": 0})
    assert -1 < tick["age_s"] < 60
    line = next(line for line in (await command("status")).out.splitlines() if line.startswith("discover"))
    assert line.endswith("took 1.5s: new failures 2")


async def test_status_says_first_that_nobody_works_or_that_the_list_is_not_read(
    command: Command, ledger: Ledger
) -> None:
    """The last job is some time ago; one that is under way counts as work."""
    await ledger.begin(timedelta(0))
    await Reports(ledger).summary()
    now_ms = to_ms(ledger.clock.now())

    async def ticked(job: str, ago_s: int) -> None:
        tick = json.dumps({"finished_at": now_ms - ago_s * 1000, "duration_ms": 5})
        await ledger.connection.command("HSET", ledger.keys.ticks, job, tick)

    await ticked("submit", 60)
    assert "no worker is working since" in (await command("status")).out
    await ledger.connection.command("HSET", ledger.keys.busy, "submit", now_ms)
    assert "no worker" not in (await command("status")).out
    await ticked("submit", 0)
    await ticked("discover", 3600)
    assert "the list was not read since" in (await command("status")).out
    await ticked("discover", 5)
    assert "not read" not in (await command("status")).out


async def test_status_says_that_work_is_suspended(command: Command, ledger: Ledger) -> None:
    """Why, since when and what to do; and not any more when it goes on."""
    before = (await command("status", "--json")).value
    assert (before["suspended"], before["suspended_reason"], before["suspended_since"]) == (False, None, None)
    await ledger.gate.suspend("unauthorized", "the key is not accepted", MINUTE, MINUTE)
    during = (await command("status", "--json")).value
    assert (during["suspended"], during["suspended_reason"]) == (True, "unauthorized")
    assert during["suspended_since"].endswith("Z")
    assert ": unauthorized. Check KINETIC_API_KEY: kinetic-retry check" in (await command("status")).out
    await ledger.gate.open()
    assert not (await command("status", "--json")).value["suspended"]


async def test_status_says_that_work_rests(command: Command, ledger: Ledger) -> None:
    """Until when and why; a pause is no suspension."""
    await ledger.gate.pause("rate_limited", MINUTE)
    status = (await command("status", "--json")).value
    assert (status["suspended"], status["pause_reason"]) == (False, "rate_limited")
    left = datetime.fromisoformat(status["paused_until"]) - datetime.fromisoformat(status["now"])
    assert timedelta(0) < left <= MINUTE
    assert ": rate_limited" in (await command("status")).out


async def test_list_by_each_state(command: Command, ledger: Ledger) -> None:
    """One state shows its own alone; several show each; none shows all in the order of the states."""
    await one_of_each(ledger)
    for state in State:
        found = (await command("list", "--json", "--state", state.value)).value
        assert [(each["root"], each["state"]) for each in found] == [(state.value, state.value)]
    two = (await command("list", "--json", "--state", "held", "--state", "exhausted")).value
    assert {each["root"] for each in two} == {"held", "exhausted"}
    everything = (await command("list", "--json")).value
    assert [each["root"] for each in everything] == [state.value for state in State]
    shown = (await command("list")).out
    for reason in ("read_timeout: no answer", "deadline_passed: too late", "not_found: gone", "due in "):
        assert reason in shown


async def test_list_begins_with_the_newest_and_ends_at_the_limit(command: Command, ledger: Ledger) -> None:
    """And says that there is more."""
    await ledger.begin(timedelta(0))
    now = now_ms()
    for number in range(5):
        await put(ledger, failed(f"root-{number}", now=now + number * MINUTE))
    found = (await command("list", "--json", "--limit", "3")).value
    assert [each["root"] for each in found] == ["root-4", "root-3", "root-2"]
    assert "the first 3; --limit for more" in (await command("list", "--limit", "3")).out
    assert "--limit for more" not in (await command("list", "--limit", "6")).out


async def test_list_by_workflow(command: Command, ledger: Ledger) -> None:
    """By exact uuid or by a name with wildcards, in any case; the limit counts what matches."""
    await ledger.begin(timedelta(0))
    now = now_ms()
    for root, workflow, name in (
        ("one", "w-1", "Eligibility checks"),
        ("two", "w-2", "Claims [batch]"),
        ("three", "w-3", ""),
    ):
        await put(ledger, failed(root, now=now, workflow_uuid=workflow, workflow_name=name))

    async def roots(workflow: str) -> list[str]:
        found = (await command("list", "--json", "--limit", "1", "--workflow", workflow)).value
        return [each["root"] for each in found]

    assert await roots("ELIG*") == ["one"]
    assert await roots("w-1") == ["one"]
    assert await roots("w-") == []
    assert await roots("claims ?batch?") == ["two"]
    assert await roots("w-3") == ["three"]
    nothing = await command("list", "--workflow", "Elig")
    assert (nothing.code, nothing.out) == (0, "nothing to list\n")


async def test_show_has_the_record_and_its_own_events(command: Command, ledger: Ledger) -> None:
    """By any member; events of others, stored in between, are not part of it."""
    await ledger.begin(timedelta(0))
    now = now_ms()
    found = await put(ledger, failed("root", now=now))
    await put(ledger, failed("another", now=now))
    await put(ledger, submitting(found, now=now), running(found, "its-clone", now=now))
    await put(ledger, submitting(await stored(ledger, "another"), now=now))
    by_root, by_clone = [(await command("show", uuid, "--json")).value for uuid in ("root", "its-clone")]
    assert by_root == by_clone
    assert (by_root["root"], by_root["state"], by_root["version"]) == ("root", "running", 3)
    assert [attempt["clone"] for attempt in by_root["attempts"]] == ["its-clone"]
    assert [event["event"] for event in by_root["events"]] == [
        *("execution_discovered", "retry_scheduled", "retry_submitted", "retry_accepted")
    ]
    assert all(event["at"].endswith("Z") for event in by_root["events"])


async def test_show_links_to_the_runs_and_stores_no_link(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for when they are wanted; one that cannot be had costs a line, not the story."""
    await ledger.begin(timedelta(0))
    with start_simulator(api_key="canary-key-0123456789") as simulator:
        root = simulator.fail(simulator.add_workflow("Claims"))[0]
        monkeypatch.setenv("KINETIC_BASE_URL", simulator.url)
        monkeypatch.setenv("KINETIC_API_KEY", "canary-key-0123456789")
        now = now_ms()
        found = await put(ledger, failed(root, now=now))
        await put(ledger, submitting(found, now=now), running(found, "unknown-there", now=now))
        shown = await command("show", root)
        assert "video http" in shown.out
        assert "logs http" in shown.out
        assert "unknown-there: no links now" in shown.out
        assert "http" not in (await command("show", root, "--no-links")).out
    gone = await command("show", root)
    assert gone.code == 0
    assert f"{root}: no links now" in gone.out
    assert "its clone is running" in gone.out
    assert "canary" not in shown.out + gone.out + gone.err
    assert "http" not in str(await ledger.connection.command("GET", ledger.keys.lineage(root)))


async def test_show_says_why_a_record_cannot_be_read(command: Command, ledger: Ledger) -> None:
    """A newer worker's record is left to it: code 1 and words."""
    await ledger.begin(timedelta(0))
    await put(ledger, failed("root", now=now_ms()))
    await ledger.connection.command("SET", ledger.keys.lineage("root"), '{"format": 99}')
    shown = await command("show", "root")
    assert (shown.code, shown.out) == (1, "")
    assert "its record has format 99" in shown.err


async def test_an_unknown_execution_is_code_1(command: Command) -> None:
    """Also where nothing was ever stored; `--json` prints no half of an object."""
    for words in (("show", "stranger"), ("show", "stranger", "--json")):
        shown = await command(*words)
        assert (shown.code, shown.out) == (1, "")
        assert "no lineage has the execution stranger" in shown.err
        assert "kinetic-retry track stranger" in shown.err


async def test_errors_quote_what_was_given(command: Command) -> None:
    """Whole, because it is there to be copied, and without an escape that only tables need."""
    uuid = "[execution]" + "x" * 100
    assert f"kinetic-retry track '{uuid}'" in (await command("show", uuid)).err
    assert "'[red]x'" in (await command("track", "\x1b[31m[red]x")).err


@pytest.mark.parametrize("uuid", ["..", ".", "", "\x1b[31mx", "a\nb", "x" * 1000])
async def test_what_cannot_be_a_uuid_is_not_tracked(command: Command, ledger: Ledger, uuid: str) -> None:
    """Code 2, and none of the others is tracked either."""
    refused = await command("track", "fine", uuid)
    assert (refused.code, refused.out) == (2, "")
    assert "nothing is tracked" in refused.err
    assert "\x1b" not in refused.err
    assert (await Reports(ledger).summary()).tracked == 0


async def test_track_says_what_is_new(command: Command) -> None:
    """In words and as an object."""
    assert (await command("track", "a", "b", "a")).out == "2 under watch\n"
    assert (await command("track", "b", "c")).out == "1 under watch, 1 were already\n"
    assert (await command("track", "c", "--json")).value == {"tracked": 0, "known": 1}


@pytest.mark.parametrize("words", [("status",), ("list", "--json"), ("show", "x"), ("track", "x")])
async def test_a_server_that_is_away_is_code_3(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Two lines: what happened and what to do."""
    monkeypatch.setenv("REDIS_URL", NO_SERVER)
    away = await command(*words)
    assert (away.code, away.out) == (3, "")
    said, cure = away.err.splitlines()
    assert said.startswith("Redis is not available")
    assert cure.startswith("Check REDIS_URL")
    assert "canary" not in away.err


async def stored(ledger: Ledger, root: str) -> Lineage:
    lineage = (await ledger.read([root]))[root]
    assert isinstance(lineage, Lineage)
    return lineage
