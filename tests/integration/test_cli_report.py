"""`report`: the return on retries, counted by the commits of real lineages, on a real server."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.support.commands import Command
from tests.support.examples import PLAIN, discovered, execution, submitting
from worker.domain import transitions
from worker.domain.executions import Status
from worker.domain.lineage import Lineage
from worker.domain.policy import RetryAt
from worker.domain.worth import Counts, Suggestion, suggest
from worker.ledger import Ledger
from worker.ledger.reports import Reports
from worker.ledger.return_reports import Return
from worker.ledger.returns import Returned, hour_of, step_of

MINUTE = timedelta(minutes=1)


async def lived(ledger: Ledger, root: str, ends: str, now: datetime, workflow: str = "Claims") -> None:
    """Store a lineage whose clones end as told: `f` failed, `c` completed, `r` still running."""

    async def put(change: transitions.Change) -> Lineage:
        await ledger.commit(change)
        return change.after

    failed_at = now - 10 * MINUTE
    failed = execution(root, workflow_name=workflow, workflow_uuid=f"w-{workflow}", updated_at=failed_at)
    lineage = await put(discovered(failed, now=failed_at))
    for number, end in enumerate(ends, 1):
        clone = f"{root}-{number}"
        sent = await put(submitting(lineage, now=now, token=f"call-{number}"))
        made = execution(clone, Status.QUEUED, fingerprint=lineage.fingerprint)
        lineage = await put(transitions.accept(sent, made, now=now, evidence="201"))
        if end == "c":
            lineage = await put(transitions.recover(lineage, now=now, ended_at=now))
        elif end == "f":
            change = transitions.fail_again(
                lineage,
                execution(clone, fingerprint=lineage.fingerprint),
                RetryAt(number + 1, now, timedelta(0)),
                failed_at=now,
                now=now,
                policy=PLAIN,
                policy_name="default",
            )
            lineage = await put(change)


async def test_clones_by_workflow_and_attempt(command: Command, ledger: Ledger) -> None:
    """Made, recovered and wasted, as the commits counted them; what is under way is neither."""
    await ledger.begin(timedelta(hours=1))
    now = await Reports(ledger).now()
    for root, ends, workflow in (
        *(("a", "c", "Claims"), ("b", "fc", "Claims"), ("c", "ff", "Claims"), ("d", "r", "Claims")),
        *(("e", "f", "Referral [1]"), ("f", "ffc", "Referral [1]")),
    ):
        await lived(ledger, root, ends, now, workflow)
    report = (await command("report", "--json")).value
    assert {key: report["all"][key] for key in ("made", "recovered", "wasted")} == {
        "made": 10, "recovered": 3, "wasted": 6,
    }  # fmt: skip
    by_name = {each["workflow_name"]: each for each in report["workflows"]}
    claims = [
        (each["attempt"], each["made"], each["recovered"], each["failed"])
        for each in by_name["Claims"]["attempts"]
    ]
    assert claims == [(1, 4, 1, 2), (2, 2, 1, 1)]
    assert by_name["Claims"]["median_s"] == pytest.approx(600, rel=0.1)
    one = (await command("report", "--workflow", "referral*", "--json")).value
    assert [each["workflow_name"] for each in one["workflows"]] == ["Referral [1]"]
    assert one["all"]["made"] == 4
    shown = (await command("report")).out
    assert "10 clones made, 3 recovered a failure, 33% of those that ended; 6 wasted" in shown
    assert "Referral [1]" in shown
    assert "█" in shown


async def test_a_period_is_made_of_hours(command: Command, ledger: Ledger) -> None:
    """What became known before it or after it is not counted; a period without anything says so."""
    await ledger.begin(timedelta(hours=1))
    now = await Reports(ledger).now()
    for days in (1, 3, 40):
        hour = ledger.keys.returns(hour_of(now - timedelta(days=days)))
        await ledger.connection.command("HINCRBY", hour, Returned("w", 1, "made").field, days)

    async def made(*words: str) -> int:
        return int((await command("report", "--json", *words)).value["all"]["made"])

    assert await made() == 1 + 3
    assert await made("--since", "2d") == 1
    assert await made("--since", "60d", "--until", "2d") == 3 + 40
    assert "no clone was made" in (await command("report", "--since", "10m")).out
    assert (await command("report", "--since", "1d", "--until", "2d")).code == 2


async def test_a_maximum_is_suggested_where_attempts_bring_nothing(command: Command, ledger: Ledger) -> None:
    """With how many clones it rests on, and beside the maximum in force; unknown counters are passed over."""
    await ledger.begin(timedelta(hours=1))
    now = await Reports(ledger).now()
    hour = ledger.keys.returns(hour_of(now))
    counts = {
        (1, "recovered"): 60,
        (1, "failed"): 200,
        (2, "recovered"): 20,
        (2, "failed"): 150,
        (3, "failed"): 80,
        (4, "failed"): 70,
        (4, "lost"): 3,
    }
    for (attempt, what), count in counts.items():
        await ledger.connection.command("HINCRBY", hour, Returned("w-1", attempt, what).field, count)
    for odd in ("nonsense", "w-1\nx\nmade", "w-1\n1\ttomorrow", "w-1\n1\ntx"):
        await ledger.connection.command("HSET", hour, odd, 7)
    await ledger.connection.command("HSET", ledger.keys.names, "w-1", "[b]Claims")
    (claims,) = (await command("report", "--json")).value["workflows"]
    assert (claims["max_attempts"], claims["suggested_max_attempts"]) == (5, 2)
    shown = (await command("report")).out
    assert "[b]Claims: max_attempts 2 instead of 5: the attempts after it recovered 0 of 153" in shown
    assert "fewer than 1 in 20" in shown


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ({}, None),
        ({1: Counts(0, 0)}, None),
        ({1: Counts(51, 0)}, None),
        ({1: Counts(52, 0)}, Suggestion(0, 52, 0)),
        ({1: Counts(500, 250), 2: Counts(30, 0), 3: Counts(25, 0)}, Suggestion(1, 55, 0)),
        ({1: Counts(500, 250), 2: Counts(100, 10), 3: Counts(9000, 0)}, Suggestion(2, 9000, 0)),
        ({1: Counts(500, 0), 2: Counts(10, 5)}, None),
        ({0: Counts(900, 0), 1: Counts(10, 5)}, None),
    ],
)
def test_the_rule(attempts: dict[int, Counts], expected: Suggestion | None) -> None:
    """Evidence has a minimum, an attempt that pays is kept, and so is everything before it."""
    assert suggest(attempts) == expected


def test_a_median_is_right_within_a_tenth() -> None:
    """Whatever the time: the steps of the histogram are no wider."""
    for seconds in (1.1, 2.0, 3.3, 59.0, 60.1, 3600.0, 86_400.0):
        one = Return()
        one.took[step_of(timedelta(seconds=seconds))] += 1
        assert one.median is not None
        assert abs(one.median.total_seconds() / seconds - 1) <= 0.1
    assert Return().median is None
