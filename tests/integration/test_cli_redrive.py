"""`redrive` as a person uses it: the plan, the start, and the same redrive from another terminal."""

from __future__ import annotations

import json
import shlex

from tests.integration.test_redrive import carry_on, dead_letters, worker
from tests.support.commands import Command
from tests.support.scripted_api import ScriptedApi
from worker.domain.breaker import UNTOUCHED, Forced, force
from worker.domain.executions import Status
from worker.engine.context import Context
from worker.ledger.redrives import Redrives
from worker.ledger.workflows import BreakerTold

__all__ = ["worker"]


async def test_it_is_planned_first_and_nothing_happens(
    worker: Context, api: ScriptedApi, command: Command
) -> None:
    """How many of which workflows, how, until when, what is left out; and the command that does it."""
    await dead_letters(worker, api, 7, "workflow-1", "a")
    await dead_letters(worker, api, 3, "workflow-2", "b")
    paused = force(UNTOUCHED, Forced.OPEN, "bob: the site is down", worker.now())
    await worker.ledger.workflows.store(BreakerTold("workflow-2", UNTOUCHED, paused, "said", {}))
    said = await command("redrive", "--since", "2h", "--rate", "500/h", "--canary", "2")
    assert said.code == 0, said.err
    for words in (
        "would redrive 7 lineages",
        "Name of workflow-1",
        "paused: bob: the site is down",
        "left out   3",
        "a canary of 2, of all workflows; then the rest, oldest first, 500/h with 20 under way at most",
        "when more than 50% of the canary",
        "at least, until",
        "kinetic-retry redrive --since 7200s --canary 2 --rate 500/h --yes --reason 'why'",
    ):
        assert words in said.out, said.out
    assert "no worker has been at work yet" in said.err
    assert await Redrives(worker.ledger).ids() == []
    plan = (await command("redrive", "--workflow", "*-1", "--verdict", "attempts*", "--json")).value
    assert (plan["total"], plan["groups"][0]["count"], plan["takes_s"]) == (7, 7, 5)
    typed = shlex.split(plan["command"])
    assert typed[1:6] == ["redrive", "--workflow", "*-1", "--verdict", "attempts*"]
    assert (await command("redrive", "--workflow", "other", "--json")).value["total"] == 0


async def test_it_is_begun_watched_paused_resumed_and_read_from_any_terminal(
    worker: Context, api: ScriptedApi, command: Command
) -> None:
    """The whole way, item by item, with who did what on record."""
    await dead_letters(worker, api, 8)
    assert (await command("redrive", "--yes")).code == 2
    terms = ("--canary", "2", "--rate", "1000/s", "--in-flight", "2", "--json")
    begun = (await command("redrive", "--yes", "--reason", "payer is back", *terms)).value
    one = begun["redrive"]
    assert (begun["status"], begun["total"], begun["reason"]) == ("running", 8, "payer is back")
    await carry_on(worker, api, Status.COMPLETED)
    await carry_on(worker, api, Status.COMPLETED)
    assert (await command("redrive", "pause", one, "--reason", "slow", "--by", "Ann")).code == 0
    refused = await command("redrive", "pause", one[:4], "--reason", "slow")
    assert refused.code == 1
    assert "is paused since" in refused.err
    assert "Ann" in refused.err
    assert "paused" in (await command("redrive", "list")).out
    paused = await command("redrive", "show", one, "--json")
    items = [json.loads(line) for line in paused.out.splitlines()]
    assert len(items) == 8
    assert [each["outcome"] for each in items].count("recovered") >= 2
    resumed = await command("redrive", "resume", one, "--reason", "fine now", "--json")
    assert resumed.value["phase"] == "rest"
    await carry_on(worker, api, Status.FAILED)
    assert (await command("redrive", "cancel", one, "--reason", "enough")).code == 0
    await carry_on(worker, api, Status.COMPLETED)
    watched = await command("redrive", "watch", one)
    assert watched.code == 1
    assert "cancelled" in watched.out
    shown = await command("redrive", "show", "--outcome", "failed")
    assert "failed again" in shown.out


async def test_what_cannot_be_asked_for_is_refused_in_words(
    worker: Context, api: ScriptedApi, command: Command
) -> None:
    """A line that says what to do instead; nothing is begun."""
    await dead_letters(worker, api, 1)
    for words, code, said in (
        (("redrive", "--rate", "0/s"), 2, "1/s, 30/m, 500/h"),
        (("redrive", "--canary", "2", "list"), 2, "--canary goes with `redrive` alone"),
        (("redrive", "watch"), 1, "no redrive is on record"),
        (("redrive", "pause", "zz", "--reason", "x"), 1, "no redrive 'zz'"),
        (("redrive", "--workflow", "none", "--yes", "--reason", "x"), 1, "nothing to redrive"),
    ):
        answer = await command(*words)
        assert (answer.code, said in answer.err) == (code, True), answer.err
    assert await Redrives(worker.ledger).ids() == []
