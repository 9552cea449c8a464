"""`policy explain`: the entry that applies, and numbers that are the policy's own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from config.settings import load_settings
from tests.support.daemons import OURS
from worker.cli import rules
from worker.cli.app import run
from worker.domain.calendar import Calendar, parse_span
from worker.domain.policy import Backoff, GiveUp, History, Jitter, Policy, RetryAt, decide, delay_band

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NEARLY_ONE = 1 - 2**-53
ENTRIES = """
[[policy]]
name = "urgent [bold]x[/]"
workflow = ["Elig*", "5f0c2b6e-8d1f-4a52-9d0e-3a5b0c7d9e11"]
max_attempts = 2

[[policy]]
name = "all claims"
workflow = "*laims*"
enabled = false

[[policy]]
name = "everything else that is eligible"
workflow = "Eligibility"
max_attempts = 0
"""

Explain = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Explain:
    """Return what `--json` prints for a workflow under those settings."""

    def explain(workflow: str = "", **env: str) -> dict[str, Any]:
        for name, text in env.items():
            monkeypatch.setenv(name, text)
        assert run(["policy", "explain", "--workflow", workflow, "--json"]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return told

    return explain


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policies.toml").write_text(ENTRIES)
    monkeypatch.setenv("RETRY_POLICY_FILE", "policies.toml")


def seconds(*durations: timedelta) -> list[float]:
    return [duration.total_seconds() for duration in durations]


@pytest.mark.parametrize("jitter", list(Jitter))
@pytest.mark.parametrize("backoff", list(Backoff))
def test_the_numbers_are_the_policys_own(explained: Explain, backoff: Backoff, jitter: Jitter) -> None:
    """Each delay is the band of the domain; `after_s` adds them up."""
    policy = Policy(
        max_attempts=4,
        backoff=backoff,
        base_delay=timedelta(seconds=7),
        multiplier=2.5,
        max_delay=timedelta(seconds=60),
        jitter=jitter,
    )
    told = explained(
        RETRY_MAX_ATTEMPTS="4",
        RETRY_BACKOFF=backoff.value,
        RETRY_BASE_DELAY="7s",
        RETRY_MULTIPLIER="2.5",
        RETRY_MAX_DELAY="1m",
        RETRY_JITTER=jitter.value,
    )
    bands = [delay_band(policy, number) for number in range(1, 5)]
    assert [row["attempt"] for row in told["attempts"]] == [1, 2, 3, 4]
    assert [row["delay_s"] for row in told["attempts"]] == [seconds(*band) for band in bands]
    for number, row in enumerate(told["attempts"], start=1):
        sums = [sum(ends, timedelta(0)) for ends in zip(*bands[:number], strict=True)]
        assert row["after_s"] == pytest.approx(seconds(*sums))


@pytest.mark.parametrize("jitter", list(Jitter))
@pytest.mark.parametrize("die", [0.0, 0.5, NEARLY_ONE])
def test_what_the_worker_will_decide_falls_inside(explained: Explain, jitter: Jitter, die: float) -> None:
    """Chains decided by the domain, each run failing at once, keep to the times that were told."""
    told = explained(RETRY_JITTER=jitter.value, RETRY_DEADLINE="9h")
    policy = Policy(jitter=jitter, deadline=timedelta(hours=9))
    at, last_delay, made = NOW, None, 0
    while isinstance(
        decision := decide(History(made, NOW, at, last_delay), policy, at, lambda: die), RetryAt
    ):
        first, last = told["attempts"][made]["after_s"]
        assert first - 1e-3 <= (decision.due_at - NOW).total_seconds() <= last + 1e-3
        assert not told["attempts"][made]["past_deadline"]
        at, last_delay, made = decision.due_at, decision.delay, made + 1
    assert isinstance(decision, GiveUp)
    assert made == policy.max_attempts or told["attempts"][made]["may_pass_deadline"]


def test_the_deadline_cuts_what_it_certainly_cuts(
    explained: Explain, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that may still be in time is told as such; behind the first that cannot, nothing is listed."""
    settings = {"RETRY_BASE_DELAY": "10s", "RETRY_BACKOFF": "fixed", "RETRY_DEADLINE": "18s"}
    rows = explained(**settings)["attempts"]
    assert [(row["past_deadline"], row["may_pass_deadline"]) for row in rows] == [
        (False, False),  # 5 to 10 s
        (False, True),  # 10 to 20 s
        (False, True),  # 15 to 30 s
        (True, True),  # 20 to 40 s
    ]
    assert run(["policy", "explain"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("or never: the deadline") == 2
    assert printed.count("never: past the deadline") == 1
    assert "none starts later than 18s after the first failure" in printed


@pytest.mark.usefixtures("policy_file")
@pytest.mark.parametrize(
    ("workflow", "entry", "matches", "attempts"),
    [
        ("eligibility", "urgent [bold]x[/]", [True, False, True], 2),
        ("5f0c2b6e-8d1f-4a52-9d0e-3a5b0c7d9e11", "urgent [bold]x[/]", [True, False, False], 2),
        ("Eligible claims", "urgent [bold]x[/]", [True, True, False], 2),
        ("Dental claims", "all claims", [False, True, False], 5),
        ("Something", "default", [False, False, False], 5),
        ("", "default", [False, False, False], 5),
    ],
)
def test_the_first_entry_that_matches_applies(
    explained: Explain, workflow: str, entry: str, matches: list[bool], attempts: int
) -> None:
    """By name in any case or by uuid; the others are told, too."""
    told = explained(workflow)
    assert told["policy"] == entry
    assert [each["matches"] for each in told["entries"]] == matches
    assert told["max_attempts"] == attempts


@pytest.mark.usefixtures("policy_file")
def test_entries_are_printed_in_their_order_and_as_they_are_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A name is no markup."""
    assert run(["policy", "explain", "--workflow", "eligibility"]) == 0
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == "For the workflow eligibility the policy urgent [bold]x[/] applies."
    assert printed[1:4] == [
        "✓ urgent [bold]x[/] Elig*, 5f0c2b6e-8d1f-4a52-9d0e-3a5b0c7d9e11",
        "· all claims *laims*",
        "✓ everything else that is eligible Eligibility",
    ]


@pytest.mark.usefixtures("policy_file")
def test_one_that_is_switched_off_has_no_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what becomes of failures instead."""
    assert run(["policy", "explain", "--workflow", "Dental claims"]) == 0
    printed = capsys.readouterr().out
    assert "failures are recorded as rejected (policy_disabled)" in printed
    assert "falls at" not in printed


def test_no_attempts_is_report_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zero is a value."""
    monkeypatch.setenv("RETRY_MAX_ATTEMPTS", "0")
    assert run(["policy", "explain"]) == 0
    printed = capsys.readouterr().out
    assert "There is no policy file (RETRY_POLICY_FILE)" in printed
    assert "failures are only reported" in printed
    assert "falls at" not in printed


def test_a_policy_file_with_a_mistake_is_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, with the entry; no schedule by half of a file."""
    (tmp_path / "policies.toml").write_text('[[policy]]\nname = "a"\nworkflow = "*"\nmax_atempts = 2\n')
    monkeypatch.setenv("RETRY_POLICY_FILE", "policies.toml")
    assert run(["policy", "explain"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean max_attempts?" in captured.err


def lines(printed: str) -> dict[str, str]:
    """Return what is printed of each rule."""
    called = (
        "prompt",
        "strikes",
        "breaker",
        "budget",
        "pace",
        "in flight",
        "rate",
        "calendar",
        "log rules",
        "others",
    )
    return {
        word: line.strip().removeprefix(word).strip()
        for line in printed.splitlines()
        for word in called
        if line.startswith(f"  {word} ")
    }


def test_every_rule_is_told_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """The defaults, in plain words."""
    assert run(["policy", "explain"]) == 0
    assert lines(capsys.readouterr().out) == {
        "prompt": "while other runs of the workflow complete, an attempt after a failure of a new kind "
        "comes at once",
        "strikes": "the same failure 3 times in a row ends it, unless the workflow as a whole is in trouble",
        "breaker": "after 3 failures in a row within 1h all of them wait; one clone tries 1m after the "
        "newest failure, then ever later, at least every 1h",
        "budget": "in 6h: 2 clones per run of the workflow, at least 10; all workflows together "
        "1 clone per run, at least 100",
        "pace": "in 5 minutes no more clones of all workflows than 1 x the runs of the busiest "
        "5 minutes, at least 20",
        "in flight": "any number of the workflow, any number of all workflows together",
        "rate": "as fast as they come",
        "calendar": "at any time",
        "log rules": "none",
        "others": "a retry that someone else made (same distinctive payload) takes the place of the next "
        "attempt",
    }


def test_what_is_switched_off_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the entry of one workflow does it; what is of all workflows comes from variables."""
    entry = """
        [[policy]]
        workflow = "A"
        prompt = false
        join = false
        strikes = 0
        breaker_failures = 0
        budget_share = 0
        in_flight = 2
        [[policy.log]]
        name = "bad [bold]credentials[/]"
        pattern = "invalid credentials"
        then = "hold"
    """
    (tmp_path / "policies.toml").write_text(entry)
    for variable, text in {
        "RETRY_POLICY_FILE": "policies.toml",
        "BUDGET_SHARE": "0",
        "BUDGET_PACE": "0",
        "RETRY_IN_FLIGHT": "50",
        "SUBMIT_RATE": "0.5",
    }.items():
        monkeypatch.setenv(variable, text)
    assert run(["policy", "explain", "--workflow", "A"]) == 0
    told = lines(capsys.readouterr().out)
    assert all(told[word].startswith("off: ") for word in ("prompt", "strikes", "breaker", "pace", "others"))
    assert told["budget"] == "in 6h: any number of clones; all workflows together any number of clones"
    assert told["in flight"] == "2 of the workflow, 50 of all workflows together"
    assert told["rate"] == "0.5 retry calls per second of all workers together, up to 10 at once after a rest"
    assert told["log rules"] == "bad [bold]credentials[/] → hold (logs are not read: KINETIC_LOGS=off)"
    assert run(["policy", "explain"]) == 0
    assert lines(capsys.readouterr().out)["strikes"].startswith("the same failure 3 times")


@pytest.mark.parametrize(
    ("useless_after", "words", "told"),
    [
        (time(18), "useless from 18:00 on", "18:00"),
        (timedelta(hours=6), "useless 6h after the failure", "6h"),
    ],
)
def test_a_calendar_in_words(useless_after: time | timedelta, words: str, told: str) -> None:
    """The rules as they are written, and the zone whose clock they are read off."""
    quiet = (parse_span("22:00-06:00"), parse_span("sun"))
    calendar = Calendar(ZoneInfo("America/New_York"), quiet, (parse_span("mon-fri"),), useless_after)
    settings = load_settings({}, env_file=None, require_api=False)
    says = dict(rules.in_words(Policy(calendar=calendar), settings))["calendar"]
    windows, hours, useless = says.split("; ")
    assert windows.startswith("only mon-fri")
    assert hours.startswith("not 22:00-06:00, sun")
    assert useless == f"{words} (America/New_York)"
    shown = rules.as_object(Policy(calendar=calendar), settings)["calendar"]
    assert (shown["timezone"], shown["useless_after"]) == ("America/New_York", told)
    assert [parse_span(text) for text in shown["quiet_hours"]] == list(quiet)


def test_the_rules_as_an_object(explained: Explain) -> None:
    """Every figure, durations in seconds; what belongs to all workflows is apart."""
    told = explained(BREAKER_MEMORY="2h", BUDGET_WORKFLOW_SHARE="0.25", RETRY_WORKFLOW_IN_FLIGHT="3")
    assert (told["prompt"], told["join"], told["strikes"], told["in_flight"]) == (True, True, 3, 3)
    assert told["breaker"] == {
        "failures": 3,
        "memory_s": 7200.0,
        "first_pause_s": 60.0,
        "longest_pause_s": 3600.0,
    }
    assert told["budget"] == {"share": 0.25, "floor": 10, "window_s": 21600.0}
    assert told["calendar"]["quiet_hours"] == []
    assert (told["log_rules"], told["logs"]) == ([], "off")
    assert told["all_workflows"] == {
        "share": 1.0,
        "floor": 100,
        "pace": 1.0,
        "pace_floor": 20,
        "in_flight": 0,
        "rate": 0.0,
        "burst": 10,
    }
