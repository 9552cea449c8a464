"""`resolve`: a person's decision over a real ledger, against an API that a test scripts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.client_support import KEY, Wire, serving
from tests.support.commands import Command, commands_over, forget_settings
from tests.support.examples import PLAIN, discovered, execution, running, submitting
from tests.support.scripted_api import ScriptedApi
from worker.domain import transitions
from worker.domain.executions import Execution, Status, fingerprint_of
from worker.domain.lineage import Lineage, State
from worker.domain.policy import RetryAt
from worker.domain.transitions import Change, Hold
from worker.engine import discover, submit, watch
from worker.engine.context import Context
from worker.ledger import Ledger, LedgerUnavailable, Outcome
from worker.ledger.reports import Reports, StoredEvent

PAYLOAD = {"member": 4711}
MINUTE = timedelta(minutes=1)
WHY = ("--reason", "same claim number")


class Kinetic:
    """The API: what each GET of an execution is answered with, and what was asked for."""

    def __init__(self) -> None:
        self.executions: dict[str, dict[str, Any]] = {}
        self.status = 200
        self.asked: list[str] = []

    def add(self, uuid: str, status: str = "running", **fields: Any) -> None:
        self.executions[uuid] = {
            "execution_uuid": uuid,
            "workflow_version_uuid": "version-1",
            "status": status,
            "input_payload": PAYLOAD,
            "created_at": datetime.now(UTC).isoformat(),
            **fields,
        }

    async def __call__(self, wire: Wire) -> None:
        while True:
            seen = await wire.request()
            self.asked.append(f"{seen.method} {seen.target}")
            found = self.executions.get(seen.target.rpartition("/")[2])
            status = self.status if found else 404
            await wire.answer(status, found if status == 200 else {"detail": "no such thing"})


@pytest.fixture
async def kinetic(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kinetic]:
    kinetic = Kinetic()
    async with serving(kinetic) as server:
        forget_settings(monkeypatch)
        monkeypatch.setenv("KINETIC_BASE_URL", server.url)
        monkeypatch.setenv("KINETIC_API_KEY", KEY)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield kinetic


@pytest.fixture
def command(
    *,
    kinetic: Kinetic,
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run a command over this test's own ledger, in a thread: it brings its own event loop."""
    return commands_over(redis_url, namespace, tmp_path, monkeypatch, capsys)


async def put(ledger: Ledger, *changes: Change) -> Lineage:
    """Store changes one after the other and return where they end."""
    for change in changes:
        assert await ledger.commit(change) is Outcome.COMMITTED
    return changes[-1].after


def failure(root: str = "root", **facts: Any) -> Execution:
    now = datetime.now(UTC)
    return execution(
        root,
        **{"fingerprint": fingerprint_of(PAYLOAD), "created_at": now - MINUTE, "updated_at": now, **facts},
    )


async def in_doubt(ledger: Ledger, root: str = "root", *, held: bool = True, **facts: Any) -> Lineage:
    """Store a lineage whose call nobody knows the outcome of; held when nobody will find out."""
    await ledger.begin(timedelta(minutes=10))
    now = datetime.now(UTC)
    found = discovered(failure(root, **facts), now=now)
    sent = submitting(found.after, now=now)
    unclear = transitions.unresolve(sent.after, reason="read_timeout", detail="no answer", now=now)
    changes = [found, sent, unclear]
    if held:
        changes.append(transitions.hold(unclear.after, reason="unclear", detail="two may be it", now=now))
    return await put(ledger, *changes)


async def suspect(ledger: Ledger, uuid: str = "clone", of: str = "root") -> Lineage:
    """Store a failure that is held because it may be the clone of a held lineage."""
    now = datetime.now(UTC)
    found = transitions.discover(
        failure(uuid),
        failed_at=now,
        seen_at=now,
        source="list",
        dated=True,
        decision=Hold(
            "may_be_a_clone", f"it may be the clone of the held lineage {of}; decide that one first"
        ),
        policy=PLAIN,
        policy_name="default",
    )
    return await put(ledger, found)


async def stored(ledger: Ledger, root: str = "root") -> Lineage:
    lineage = (await ledger.read([root]))[root]
    assert isinstance(lineage, Lineage)
    return lineage


async def work(job: Callable[[Context], Awaitable[Any]], ctx: Context) -> None:
    """Run a job until it moves the lineage; what is due now may be due in a moment by the server's clock."""
    before = await stored(ctx.ledger)
    for _ in range(500):
        await job(ctx)
        if (await stored(ctx.ledger)).version != before.version:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(before)


async def story(ledger: Ledger, root: str = "root") -> list[StoredEvent]:
    return await Reports(ledger).story(await stored(ledger, root))


@pytest.mark.parametrize("held", [True, False])
async def test_a_clone_is_adopted_and_watched_at_once(
    *, command: Command, kinetic: Kinetic, ledger: Ledger, ctx: Context, api: ScriptedApi, held: bool
) -> None:
    """An attempt is spent, who and why are on record, and the next look at it is due now."""
    await in_doubt(ledger, held=held)
    kinetic.add("clone")
    done = await command("resolve", "root", "--clone", "clone", *WHY)
    assert (done.code, done.err) == (0, "")
    after = await stored(ledger)
    assert (after.state, after.intent) == (State.RUNNING, None)
    assert [attempt.clone for attempt in after.attempts] == ["clone"]
    assert after.newest.evidence.startswith("decided_by_person: ")
    assert after.newest.evidence.endswith(": same claim number")
    decided, accepted = (await story(ledger))[-2:]
    assert (decided.name, accepted.name) == ("person_decided", "retry_accepted")
    assert {key: decided.facts[key] for key in ("decision", "why", "clone_uuid")} == {
        "decision": "clone",
        "why": "same claim number",
        "clone_uuid": "clone",
    }
    assert "@" in decided.facts["by"]
    assert kinetic.asked == ["GET /api/executions/clone"]  # nothing but a look
    api.add(failure(), failure("clone", status=Status.COMPLETED))
    await work(watch, ctx)
    assert (await stored(ledger)).state is State.RECOVERED


async def test_the_story_of_a_decision_reads_well(command: Command, kinetic: Kinetic, ledger: Ledger) -> None:
    """Who decided what and why, once; then what follows."""
    await in_doubt(ledger)
    kinetic.add("clone")
    said = (await command("resolve", "root", "--clone", "clone", *WHY)).out
    assert "its clone is clone" in said
    assert "next: the clone is looked at at once" in said
    told = (await command("show", "clone", "--no-links")).out
    assert " decided that clone is the clone: same claim number" in told
    assert "the clone clone is watched as attempt 1" in told
    assert told.count("same claim number") == 1


async def test_no_clone_means_that_the_next_call_is_due_now(
    command: Command, ledger: Ledger, ctx: Context, api: ScriptedApi
) -> None:
    """No attempt is spent, and the workers send the call of the same attempt."""
    await in_doubt(ledger)
    done = await command("resolve", "root", "--not-delivered", *WHY, "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert (value["root"], value["state"], value["decision"]) == ("root", "scheduled", "not_delivered")
    assert (value["why"], value["clone"], value["next"]) == (
        "same claim number",
        None,
        "attempt 1 of 5 is due now",
    )
    after = await stored(ledger)
    assert (after.state, after.reason, after.attempts) == (State.SCHEDULED, "decided_by_person", ())
    assert after.detail.endswith(": same claim number")
    assert [event.name for event in await story(ledger)][-2:] == ["person_decided", "retry_not_delivered"]
    told = (await command("show", "root", "--no-links")).out
    assert " decided that the call made no clone: same claim number" in told
    api.add(failure())
    await work(submit, ctx)
    assert api.calls == ["root"]


async def test_it_says_what_follows_from_the_policy_and_who_else_waits(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline that has passed, and failures that were held for maybe being the clone of this call."""
    await in_doubt(ledger)
    await suspect(ledger)
    monkeypatch.setenv("RETRY_DEADLINE", "1ms")
    refused = await command("resolve", "root", "--not-delivered", *WHY)
    assert (refused.code, refused.out) == (1, "")
    assert (
        "nothing is decided: 1 held failures may be the clone of this call, the first is clone" in refused.err
    )
    assert "kinetic-retry resolve root --clone clone" in refused.err
    said = (await command("resolve", "root", "--not-delivered", "--force", *WHY)).out
    assert "no further attempt, if the workers' policy is the one here: the deadline is" in said
    assert "decide about it, too: clone" in said


async def test_a_suspect_may_be_a_failure_of_its_own(
    command: Command, ledger: Ledger, ctx: Context, api: ScriptedApi
) -> None:
    """Its first attempt is scheduled by the policy, as if it had never been held."""
    await in_doubt(ledger)
    await suspect(ledger)
    done = await command("resolve", "clone", "--not-delivered", *WHY)
    assert done.code == 0
    assert "it is a failure of its own" in done.out
    after = await stored(ledger, "clone")
    assert (after.state, after.reason, after.policy) == (State.SCHEDULED, "decided_by_person", "default")
    assert after.due_at is not None
    assert timedelta(0) < after.due_at - after.since <= MINUTE
    decided, scheduled = (await story(ledger, "clone"))[-2:]
    assert (decided.facts["decision"], scheduled.name) == ("stands_alone", "retry_scheduled")


async def test_a_policy_that_is_not_the_workers_ends_nothing(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of the terminal may differ: it is due now, and the workers' own policy decides."""
    await in_doubt(ledger)
    await suspect(ledger)
    monkeypatch.setenv("RETRY_MAX_ATTEMPTS", "0")
    assert (await command("resolve", "clone", "--not-delivered", *WHY)).code == 0
    after = await stored(ledger, "clone")
    assert (after.state, after.due_at) == (State.SCHEDULED, after.since)


async def test_a_suspect_has_no_clone_of_its_own(command: Command, kinetic: Kinetic, ledger: Ledger) -> None:
    """No call was made for it: the answer says what to do instead, and Kinetic is not even asked."""
    await in_doubt(ledger)
    await suspect(ledger)
    refused = await command("resolve", "clone", "--clone", "another", *WHY)
    assert (refused.code, refused.out) == (1, "")
    assert "no retry call is on record for clone" in refused.err
    assert "the held lineage root" in refused.err
    assert "kinetic-retry resolve clone --not-delivered" in refused.err
    assert kinetic.asked == []


OLD = (datetime.now(UTC) - timedelta(hours=1)).isoformat()


@pytest.mark.parametrize(
    ("clone", "said"),
    [
        ({"uuid": "unknown-there"}, "Kinetic does not know the clone"),
        ({"workflow_version_uuid": "version-2"}, "workflow version version-2"),
        ({"created_at": OLD}, "before the failure"),
        ({"uuid": "root", "status": "failed"}, "it shows failed"),
        ({"uuid": "root", "status": "hibernating"}, "it shows unknown"),
        ({"input_payload": {"member": 1}}, f"of the failed execution {fingerprint_of(PAYLOAD)}"),
        ({"uuid": "clone-of-another"}, "belongs to another lineage. another is running"),
        ({"uuid": "another"}, "belongs to another lineage. another is running"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_cannot_be_the_clone_is_refused(
    command: Command, kinetic: Kinetic, ledger: Ledger, clone: dict[str, Any], said: str
) -> None:
    """In words, with code 1, and nothing is changed."""
    before = await in_doubt(ledger)
    other = discovered(failure("another"), now=datetime.now(UTC))
    await put(ledger, other, submitting(other.after), running(other.after, "clone-of-another"))
    for uuid in ("another", "clone-of-another"):
        kinetic.add(uuid)
    uuid = clone.get("uuid", "clone")
    if uuid != "unknown-there":
        kinetic.add(uuid, **{key: value for key, value in clone.items() if key != "uuid"})
    refused = await command("resolve", "root", "--clone", uuid, *WHY)
    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err
    assert (await stored(ledger)).version == before.version
    assert "4711" not in refused.err


async def test_force_admits_another_payload_and_nothing_else(
    command: Command, kinetic: Kinetic, ledger: Ledger
) -> None:
    """A deployment may fill the payload in; a version is never another one."""
    await in_doubt(ledger)
    kinetic.add("other-version", workflow_version_uuid="version-2")
    assert (await command("resolve", "root", "--clone", "other-version", "--force", *WHY)).code == 1
    kinetic.add("filled-in", input_payload={**PAYLOAD, "region": "north"})
    assert (await command("resolve", "root", "--clone", "filled-in", *WHY)).code == 1
    assert (await command("resolve", "root", "--clone", "filled-in", "--force", *WHY)).code == 0
    assert (await stored(ledger)).newest.clone == "filled-in"


async def test_a_run_in_place_is_adopted_once_it_runs_again(
    command: Command, kinetic: Kinetic, ledger: Ledger
) -> None:
    """It is older than its own failure, and that is no objection."""
    await in_doubt(ledger)
    kinetic.add("root", "running", created_at=OLD)
    assert (await command("resolve", "root", "--clone", "root", *WHY)).code == 0
    assert (await stored(ledger)).newest.in_place


async def test_an_earlier_clone_of_the_lineage_is_not_the_new_one(
    command: Command, kinetic: Kinetic, ledger: Ledger
) -> None:
    """Attempt 1 cannot be what the call of attempt 2 made."""
    await ledger.begin(timedelta(minutes=10))
    now = datetime.now(UTC)
    found = discovered(failure(), now=now)
    alive = running(found.after, "first", now=now)
    again = RetryAt(2, now, timedelta(0))
    failed = transitions.fail_again(
        alive.after, failure("first"), again, failed_at=now, now=now, policy=PLAIN, policy_name="default"
    )
    sent = submitting(failed.after, now=now)
    unclear = transitions.unresolve(sent.after, reason="http_500", detail="", now=now)
    await put(ledger, found, submitting(found.after, now=now), alive, failed, sent, unclear)
    for uuid in ("root", "first"):
        kinetic.add(uuid)
    refused = await command("resolve", "first", "--clone", "root", *WHY)
    assert (refused.code, refused.out) == (1, "")
    assert "belongs to this lineage already" in refused.err
    assert (await command("resolve", "first", "--clone", "first", *WHY)).code == 0  # in place


@pytest.mark.parametrize(
    ("status", "said"), [(401, "unauthorized"), (503, "unavailable"), (500, "http_500"), (404, "not know")]
)
async def test_an_api_that_cannot_tell_decides_nothing(
    command: Command, kinetic: Kinetic, ledger: Ledger, status: int, said: str
) -> None:
    """Code 3 where it cannot be asked, 1 where it says no."""
    before = await in_doubt(ledger)
    kinetic.add("clone")
    kinetic.status = status
    refused = await command("resolve", "root", "--clone", "clone", *WHY)
    assert refused.code == (1 if status == 404 else 3)
    assert said in refused.err
    assert KEY not in refused.err
    assert (await stored(ledger)).version == before.version


@pytest.mark.parametrize("state", ["scheduled", "submitting", "running", "recovered"])
async def test_where_nothing_is_in_doubt_nothing_is_decided(
    command: Command, ledger: Ledger, state: str
) -> None:
    """It says where the lineage stands."""
    await ledger.begin(timedelta(minutes=10))
    found = discovered(failure(), now=datetime.now(UTC))
    alive = running(found.after)
    steps = [found, submitting(found.after), alive]
    steps.append(transitions.recover(alive.after, now=alive.after.since, ended_at=alive.after.since))
    names = ["scheduled", "submitting", "running", "recovered"]
    await put(ledger, *steps[: names.index(state) + 1])
    refused = await command("resolve", "root", "--not-delivered", *WHY, "--json")
    assert (refused.code, refused.out) == (1, "")
    assert f"root is {state}" in refused.err
    assert "there is nothing to decide" in refused.err


async def test_an_unknown_execution_is_code_1(command: Command) -> None:
    """In words."""
    refused = await command("resolve", "stranger\x1b[2J", "--not-delivered", *WHY)
    assert (refused.code, refused.err) == (1, "no lineage has the execution stranger\n")


@pytest.mark.parametrize(
    "words",
    [
        ("root", "--reason", "x"),
        ("root", "--clone", "c", "--not-delivered", "--reason", "x"),
        ("root", "--not-delivered"),
        ("root", "--not-delivered", "--reason", " \x1b[2J\u202e"),
        ("root", "--clone", "..", "--reason", "x"),
        ("root", "--clone", "", "--reason", "x"),
    ],
)
async def test_wrong_usage_is_code_2(command: Command, ledger: Ledger, words: tuple[str, ...]) -> None:
    """Exactly one decision, with a reason that can be read; nothing is changed."""
    before = await in_doubt(ledger)
    refused = await command("resolve", *words)
    assert (refused.code, refused.out) == (2, "")
    assert (await stored(ledger)).version == before.version


async def test_the_api_settings_are_needed_for_a_clone_only(
    command: Command, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 2 with the variable's name; to say that there is none, the ledger is enough."""
    await in_doubt(ledger)
    monkeypatch.delenv("KINETIC_BASE_URL")
    monkeypatch.delenv("KINETIC_API_KEY")
    refused = await command("resolve", "root", "--clone", "clone", *WHY)
    assert refused.code == 2
    assert "KINETIC_BASE_URL" in refused.err
    assert (await command("resolve", "root", "--not-delivered", *WHY)).code == 0


async def test_a_reason_is_stored_as_harmless_words(command: Command, ledger: Ledger) -> None:
    """No terminal sequence and no key that was pasted along."""
    await in_doubt(ledger)
    reason = f"curl -H 'X-Kinetic-Key: {KEY}'\x1b]0;t\x07 says\r\nno \u202eclone [red]x"
    assert (await command("resolve", "root", "--not-delivered", "--reason", reason)).code == 0
    why = (await story(ledger))[-2].facts["why"]
    assert why == "curl -H 'X-Kinetic-Key: ***' says no clone [red]x"
    assert "[red]x" in (await command("show", "root", "--no-links")).out
    assert KEY not in str(await ledger.connection.command("GET", ledger.keys.lineage("root")))


# --- a clone that is held as a lineage of its own --------------------------------------------------


async def test_the_suspicion_ends_when_the_clone_is_adopted(
    command: Command, kinetic: Kinetic, ledger: Ledger, ctx: Context, api: ScriptedApi
) -> None:
    """One lineage remains, and the clone's failure is an attempt of it."""
    await in_doubt(ledger)
    await suspect(ledger)
    kinetic.add("clone", "failed")
    assert (await command("resolve", "root", "--clone", "clone", *WHY)).code == 0
    assert await ledger.owners(["clone"]) == {"clone": "root"}
    assert await ledger.read(["clone"]) == {}
    assert (await Reports(ledger).summary()).states[State.HELD] == 0
    assert (await story(ledger))[-2].facts["clone_was_held"] is True
    api.add(failure(), failure("clone"))
    await discover(ctx)
    await work(watch, ctx)
    after = await stored(ledger)
    assert (after.state, after.failing, after.next_attempt) == (State.SCHEDULED, "clone", 2)


async def test_a_crash_between_the_two_leaves_the_clone_to_be_found_again(
    *,
    command: Command,
    kinetic: Kinetic,
    ledger: Ledger,
    ctx: Context,
    api: ScriptedApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is held again, never a new root that is retried; and the same command then works."""
    await in_doubt(ledger)
    await suspect(ledger)
    kinetic.add("clone", "failed")
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "commit", unavailable)
        assert (await command("resolve", "root", "--clone", "clone", *WHY)).code == 3
    assert await ledger.owners(["clone"]) == {}
    api.add(failure(), failure("clone", created_at=datetime.now(UTC)))
    await discover(ctx)
    again = await stored(ledger, "clone")
    assert (again.state, again.reason) == (State.HELD, "may_be_a_clone")
    assert (await command("resolve", "root", "--clone", "clone", *WHY)).code == 0
    assert (await stored(ledger)).newest.clone == "clone"


async def unavailable(*_: Any, **__: Any) -> Outcome:
    raise LedgerUnavailable("gone")


async def test_a_clone_without_dates_is_not_taken_for_dealt_with_after_a_crash(
    command: Command, kinetic: Kinetic, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undated failures are remembered by name when they are forgotten: this one must not be."""
    await in_doubt(ledger)
    held = await suspect(ledger)
    undated = replace(held, dated=False, version=held.version + 1)
    await put(ledger, Change(held, undated, ()))
    kinetic.add("clone", "failed", created_at=None)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "commit", unavailable)
        assert (await command("resolve", "root", "--clone", "clone", *WHY)).code == 3
    assert await ledger.owners(["clone"]) == {}


async def test_a_poll_that_finds_the_clone_between_the_two_changes_nothing(
    command: Command, kinetic: Kinetic, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held anew while it is being adopted: looked at again, and adopted."""
    await in_doubt(ledger)
    first = await suspect(ledger)
    kinetic.add("clone", "failed")
    forgotten: list[str] = []

    async def forget(self: Ledger, lineages: list[Lineage]) -> int:
        gone = await real_forget(self, lineages)
        if not forgotten:
            assert await self.commit(Change(None, first, ())) is Outcome.COMMITTED
        forgotten.extend(each.root for each in lineages)
        return gone

    real_forget = Ledger.forget
    monkeypatch.setattr(Ledger, "forget", forget)
    assert (await command("resolve", "root", "--clone", "clone", *WHY)).code == 0
    assert forgotten == ["clone", "clone"]
    assert await ledger.owners(["clone"]) == {"clone": "root"}


@pytest.mark.parametrize("clone", [None, "clone"])
async def test_somebody_else_who_was_first_has_decided(
    command: Command,
    kinetic: Kinetic,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    clone: str | None,
) -> None:
    """The loser says what the lineage is now, and a held clone is where it was."""
    before = await in_doubt(ledger)
    await suspect(ledger)
    held = await stored(ledger, "clone")
    kinetic.add("clone", "failed")
    late = execution("late-clone", Status.QUEUED)
    rival = transitions.accept(before, late, now=before.since, evidence="201")
    raced = False

    async def commit(self: Ledger, change: Change, **options: Any) -> Outcome:
        nonlocal raced
        if not raced:
            raced = True
            assert await real_commit(self, rival) is Outcome.COMMITTED
        return await real_commit(self, change, **options)

    real_commit = Ledger.commit
    monkeypatch.setattr(Ledger, "commit", commit)
    decision = ("--clone", clone) if clone else ("--not-delivered", "--force")
    refused = await command("resolve", "root", *decision, *WHY)
    assert (refused.code, refused.out) == (1, "")
    assert "somebody else was faster, nothing is changed" in refused.err
    assert "root is running, with the clone late-clone" in refused.err
    assert "person_decided" not in [event.name for event in await story(ledger)]
    assert await stored(ledger, "clone") == held


async def test_a_clone_that_another_lineage_takes_meanwhile_is_refused(
    command: Command, kinetic: Kinetic, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late answer names it for another lineage between the look and the commit."""
    before = await in_doubt(ledger)
    other = await in_doubt(ledger, "other")
    kinetic.add("clone")
    rival = transitions.accept(other, execution("clone"), now=other.since, evidence="201")

    async def commit(self: Ledger, change: Change, **options: Any) -> Outcome:
        await real_commit(self, rival)
        return await real_commit(self, change, **options)

    real_commit = Ledger.commit
    monkeypatch.setattr(Ledger, "commit", commit)
    refused = await command("resolve", "root", "--clone", "clone", *WHY)
    assert refused.code == 1
    assert "belongs to another lineage. other is running, with the clone clone" in refused.err
    assert (await stored(ledger)).version == before.version


async def test_a_late_answer_still_counts_after_a_person_said_that_there_is_no_clone(
    command: Command, ledger: Ledger
) -> None:
    """Persons err: the 201 that comes after all names the clone, and no second call is sent."""
    await in_doubt(ledger)
    assert (await command("resolve", "root", "--not-delivered", *WHY)).code == 0
    after = await stored(ledger)
    late = transitions.accept(after, execution("late"), now=after.since, evidence="201")
    assert await ledger.commit(late) is Outcome.COMMITTED
