"""A failed run's log decides: over real HTTP, and what a lineage that a rule holds is to others."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import load_settings
from tests.support.examples import execution
from tests.support.scripted_api import ScriptedApi, answering
from tests.support.simulation import start_simulator
from worker.cli.decisions import declare_not_delivered, suspected_clones
from worker.cli.person import Person
from worker.domain.delivery import NotDelivered
from worker.domain.executions import Execution, Status
from worker.domain.lineage import Lineage, State
from worker.domain.logs import LOG_RULE, LogRule, Then
from worker.domain.policy import PolicyBook
from worker.engine import discover, submit
from worker.engine.clones import take_in_ended
from worker.engine.context import Context
from worker.engine.gatekeeper import Gatekeeper
from worker.engine.log_rules import read_rules
from worker.kinetic import KineticClient, Throttled
from worker.ledger import Ledger
from worker.runtime import endpoint, list_contract, log_reader, options

RULES = """
[[log]]
pattern = 'invalid credentials'
then = "hold"
name = "bad credentials"
"""


@pytest.mark.parametrize("mode", ["url", "path", "off"])
async def test_a_log_is_read_and_its_rule_found(mode: str, ledger: Ledger, tmp_path: Path) -> None:
    """The settings, the reader, the gate and the rules work together; `off` asks for nothing."""
    (tmp_path / "policies.toml").write_text(RULES)
    with start_simulator() as simulator:
        login = simulator.add_workflow("Claims", failure_log="login failed: invalid credentials")
        (bad,), (other,) = simulator.fail(login), simulator.fail(simulator.add_workflow("Referrals"))
        config = load_settings(
            {
                "KINETIC_BASE_URL": simulator.url,
                "KINETIC_API_KEY": simulator.api_key,
                "KINETIC_LOGS": mode,
                "RETRY_POLICY_FILE": str(tmp_path / "policies.toml"),
            },
            env_file=None,
        )
        api = KineticClient(endpoint(config), list_contract(config), now=ledger.clock.now)
        logs = log_reader(config, ledger.clock.now)
        ctx = Context(ledger, api, config.policies, options(config), random=lambda: 0.0, logs=logs)
        rules = config.policies.default.log_rules
        found = await read_rules(ctx, bad, rules)
        if mode == "off":
            assert found is None
            assert simulator.record()["requests"] == {}
        else:
            assert found
            assert (found.name, found.then) == ("bad credentials", Then.HOLD)
            assert await read_rules(ctx, other, rules) is None
        await api.aclose()
        if logs:
            await logs.aclose()


class Log:
    """The same log for every run."""

    async def tail(self, execution: Execution) -> str | None:
        return f"{execution.uuid}: bad credentials"


def failed(uuid: str, fingerprint: str = "print") -> Execution:
    at = datetime.now(UTC) - timedelta(seconds=1)
    return execution(uuid, fingerprint=fingerprint, created_at=at, updated_at=at)


async def lineage_of(ctx: Context, root: str) -> Lineage:
    found = (await ctx.ledger.read([root]))[root]
    assert isinstance(found, Lineage)
    return found


async def submit_when_due(ctx: Context, root: str) -> Lineage:
    due_at = (await lineage_of(ctx, root)).due_at
    assert due_at
    await asyncio.sleep(max(0.0, (due_at - ctx.now()).total_seconds() + 0.01))
    await ctx.ledger.reschedule(State.SCHEDULED, {root: ctx.now()})
    await submit(ctx)
    return await lineage_of(ctx, root)


class Asked(ScriptedApi):
    """Asks for a rest as soon as it is asked for the execution whose log is to be read."""

    resting = False

    async def get(self, execution_uuid: str) -> Execution:
        if self.resting:
            self.gets += 1
            raise Throttled("rate_limited", "slow down", 429, pause=timedelta(minutes=1))
        return await super().get(execution_uuid)


def with_rule(ctx: Context, api: Asked, then: Then) -> None:
    ctx.api, ctx.logs = api, Log()
    ctx.calls = Gatekeeper(api, ctx.ledger, ctx.log, lists=lambda: True)
    rule = LogRule("credentials", re.compile("bad credentials"), then)
    ctx.policies = PolicyBook(replace(ctx.policies.default, log_rules=(rule,), strikes=2))


async def test_what_a_log_has_to_decide_waits_for_a_gate_that_closed(ctx: Context) -> None:
    """A clone is not given up as hopeless because nobody could ask what is known of its failure."""
    api = Asked()
    with_rule(ctx, api, Then.RETRY)
    api.add(replace(failed("a"), n_steps=7))
    await discover(ctx)
    await submit(ctx)
    running = await lineage_of(ctx, "a")
    api.end(running.newest.clone, Status.FAILED)
    api.resting = True
    await take_in_ended(ctx, list(api.executions.values()))
    assert (await lineage_of(ctx, "a")).state is State.RUNNING
    api.resting = False
    await ctx.ledger.connection.command("DEL", ctx.ledger.keys.gate)
    await take_in_ended(ctx, list(api.executions.values()))
    assert (await lineage_of(ctx, "a")).state is State.SCHEDULED


async def test_a_retry_whose_log_cannot_be_asked_for_is_given_back(ctx: Context) -> None:
    """The gate closes while the log is looked for: nothing is sent, and it is due as before."""
    api = Asked()
    with_rule(ctx, api, Then.HOLD)
    api.add(failed("a"))
    await discover(ctx)
    api.resting = True
    await submit(ctx)
    assert (api.calls, (await lineage_of(ctx, "a")).state) == ([], State.SCHEDULED)
    assert await ctx.ledger.count_due(State.SCHEDULED) == 1


async def held_after_a_call_that_never_left(ctx: Context, api: ScriptedApi) -> Lineage:
    """Return a lineage that its log holds, with the intent of the last call still on record."""
    api.add(failed("a"))
    api.answers.append(answering(NotDelivered("connect_error", "refused")))
    await discover(ctx)
    await submit(ctx)
    rule = LogRule("credentials", re.compile("bad credentials"), Then.HOLD)
    ctx.logs, ctx.policies = Log(), PolicyBook(replace(ctx.policies.default, log_rules=(rule,)))
    lineage = await submit_when_due(ctx, "a")
    assert (lineage.state, lineage.reason) == (State.HELD, LOG_RULE)
    assert lineage.intent is not None
    return lineage


async def test_a_lineage_that_its_log_holds_makes_no_suspects(ctx: Context, api: ScriptedApi) -> None:
    """None of its calls is in doubt: another failure with the same payload is one of its own."""
    held = await held_after_a_call_that_never_left(ctx, api)
    ctx.logs = None
    api.add(failed("twin", fingerprint=held.fingerprint))
    await discover(ctx)
    assert (await lineage_of(ctx, "twin")).state is State.SCHEDULED


async def test_a_person_releases_what_a_log_holds_once_and_for_all(ctx: Context, api: ScriptedApi) -> None:
    """`resolve --not-delivered`: this failure is retried whatever its log says, and not held again."""
    held = await held_after_a_call_that_never_left(ctx, api)
    assert await suspected_clones(ctx.ledger, held) == []
    await declare_not_delivered(ctx.ledger, held, Person("a@b", "the password is right again"), ctx.policies)
    released = await lineage_of(ctx, "a")
    assert (released.state, released.overruled, released.undelivered) == (State.SCHEDULED, "a", 1)
    after = await submit_when_due(ctx, "a")
    assert (after.state, api.clones) == (State.RUNNING, {"a": 1})


async def test_a_log_is_read_once_for_a_failure_that_has_to_wait(ctx: Context, api: ScriptedApi) -> None:
    """It is claimed again and again while its call is not sent; its log says the same each time."""
    read: list[str] = []

    class Counting(Log):
        async def tail(self, execution: Execution) -> str | None:
            read.append(execution.uuid)
            return await super().tail(execution)

    rule = LogRule("timeouts", re.compile("timed out"), Then.HOLD)
    ctx.logs, ctx.policies = Counting(), PolicyBook(replace(ctx.policies.default, log_rules=(rule,)))
    api.add(failed("a"))
    api.answers.append(answering(NotDelivered("connect_error", "refused")))
    await discover(ctx)
    await submit(ctx)
    assert (await submit_when_due(ctx, "a")).state is State.RUNNING
    assert (read, api.clones) == (["a"], {"a": 1})
