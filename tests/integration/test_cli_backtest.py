"""`policy backtest`: from the ledger and from files, with files that nobody would want."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Command
from tests.support.examples import discovered, execution, running, submitting
from worker.domain import transitions
from worker.ledger import Ledger, records
from worker.ledger.commits import Outcome

CANARY = "canary-of-a-patient"
LATE = """
[[policy]]
name = "one late attempt"
workflow = "*"
max_attempts = 1
backoff = "fixed"
base_delay = "1h"
jitter = "none"
prompt = false
breaker_failures = 0
strikes = 0
"""


@pytest.fixture
def command(command: Command, tmp_path: Path) -> Command:
    """Run a command beside the policy file of this test."""
    (tmp_path / "late.toml").write_text(LATE)
    return command


def record(root: str, *outcomes: str, workflow: str = "Claims", **changes: Any) -> dict[str, Any]:
    """Return what `list --json` prints of a lineage whose clones started a minute apart."""
    noon_ms = 1_770_000_000_000
    attempts = [
        {
            "clone": f"{root}-{n}",
            "submitted_at": noon_ms + n * 60_000,
            "accepted_at": noon_ms + n * 60_000,
            "ended_at": noon_ms + n * 60_000 + 30_000,
            "outcome": outcome,
        }
        for n, outcome in enumerate(outcomes, 1)
    ]
    state = "recovered" if "completed" in outcomes else "exhausted"
    times = dict.fromkeys(("since", "root_failed_at", "seen_at", "last_failed_at"), noon_ms)
    facts = {"root": root, "format": 2, "version": 1, "state": state, "workflow": workflow, **times}
    return {**facts, "workflow_name": workflow, "attempts": attempts, **changes}


def write(path: Path, *entries: object) -> str:
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in entries))
    return path.name


async def test_the_ledger_is_replayed_and_not_changed(command: Command, ledger: Ledger) -> None:
    """What is on record beside what the other policy would have done; nothing is written."""
    await ledger.begin(timedelta(0))
    now = datetime.now(UTC)
    waiting, change = (discovered(execution(name, updated_at=now), now=now) for name in ("one", "two"))
    sent = running(change.after, now=now)
    recovered = transitions.recover(sent.after, now=now, ended_at=now)
    for step in (waiting, change, submitting(change.after, now=now), sent, recovered):
        assert await ledger.commit(step) is Outcome.COMMITTED
    before = await ledger.read(["one", "two"])
    answer = await command("policy", "backtest", "--policy", "late.toml", "--json")
    assert answer.value["recorded"]["recovered"] == 1
    assert answer.value["policy"]["unknown_clones_fail"]["recovered"] == 1
    assert answer.value["left_out"] == {"under_way": 1}
    assert await ledger.read(["one", "two"]) == before


async def test_lines_and_arrays_say_the_same(command: Command, tmp_path: Path) -> None:
    """An export by `list --json` needs no other tool."""
    entries = [
        record("a", "failed", "completed"),
        record("b", "failed"),
        record("c", "completed", workflow="X"),
    ]
    lines = write(tmp_path / "lines.jsonl", *entries)
    (tmp_path / "array.json").write_text(json.dumps(entries, indent=2))
    told = [
        (await command("policy", "backtest", "--policy", "late.toml", "--from", source, "--json")).value
        for source in (lines, "array.json")
    ]
    assert told[0] == told[1]
    least, most = (
        told[0]["policy"][each]["recovered"] for each in ("unknown_clones_fail", "unknown_clones_complete")
    )
    assert (told[0]["failures"], told[0]["recorded"]["recovered"], least, most) == (3, 2, 2, 3)


async def test_the_table_says_what_nobody_knows(command: Command, tmp_path: Path) -> None:
    """Ranges in words, the workflows that differ, and both things that a record does not hold."""
    source = write(
        tmp_path / "l", record("a", "failed", "completed"), record("b", "failed", workflow="[bold]X")
    )
    answer = await command("policy", "backtest", "--policy", "late.toml", "--from", source)
    assert answer.code == 0, answer.err
    assert "with late.toml" in answer.out
    assert "at least 1, at most 2" in answer.out
    assert "[bold]X" in answer.out
    assert "nobody knows" in answer.out
    assert "Runs that completed by themselves are not on record" in answer.out


async def test_variables_count_as_they_do_for_the_worker(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file the policy in force is replayed."""
    source = write(tmp_path / "l", *(record(f"r{n}", "failed", "failed", "completed") for n in range(3)))
    monkeypatch.setenv("RETRY_MAX_ATTEMPTS", "0")
    told = (await command("policy", "backtest", "--from", source, "--json")).value
    assert told["recorded"]["clones"] == 9
    assert told["policy"]["unknown_clones_complete"]["clones"] == 0


@pytest.mark.parametrize(
    "line",
    [
        CANARY,
        f'{{"root": "{CANARY}"}}',
        f'["{CANARY}"]{{',
        f'"{CANARY}"',
        "null",
        "{}",
        '{"root": 7}',
        '{"root": ""}',
        json.dumps({**record(CANARY, "failed"), "format": 99}),
        json.dumps({**record(CANARY, "failed"), "format": "2"}),
        json.dumps({**record(CANARY, "failed"), "attempts": [CANARY]}),
        json.dumps({**record(CANARY, "failed"), "attempts": {CANARY: 1}}),
        json.dumps({**record(CANARY, "failed"), "attempts": 5}),
        json.dumps({**record(CANARY, "failed"), "state": CANARY}),
        json.dumps({**record(CANARY, "failed"), "root_failed_at": 1e300}),
        json.dumps({**record(CANARY, "failed"), "root_failed_at": float("nan")}),
        json.dumps({**record(CANARY, "failed"), "root_failed_at": CANARY}),
        json.dumps({**record(CANARY, "failed"), "workflow_name": [CANARY]}),
        json.dumps({**record(CANARY, "failed"), "workflow": {CANARY: 1}}),
        json.dumps({**record(CANARY, "failed"), "failed_as": CANARY}),
        json.dumps({**record(CANARY, "failed"), "failed_as": {"steps": 1, "duration_ms": CANARY}}),
        json.dumps({**record(CANARY, "failed"), "intent": CANARY}),
        json.dumps({**record(CANARY, "failed"), "version": CANARY}),
        "[" * 100_000,
        "9" * 10_000,
        " " * 1_048_600 + CANARY,
        "\x00\x1b[31m" + CANARY,
    ],
    ids=range(27),
)
async def test_a_line_that_is_no_record_is_named_and_not_shown(
    command: Command, tmp_path: Path, line: str
) -> None:
    """By its number, never with what it holds; the other lines count, and there is no traceback."""
    source = write(tmp_path / "l", record("a", "completed"), line, record("b", "completed"))
    answer = await command("policy", "backtest", "--from", source)
    assert answer.code == 0, answer.err
    assert "not read: 1 of the file's lines: 2 (" in answer.out
    assert "2 failures" in answer.out
    assert CANARY not in answer.out + answer.err


async def test_a_newer_record_of_the_same_lineage_counts(command: Command, tmp_path: Path) -> None:
    """Two exports put together are one."""
    old, new = record("a", "failed"), record("a", "failed", "completed", version=2)
    source = write(tmp_path / "l", new, old, old)
    told = (await command("policy", "backtest", "--from", source, "--json")).value
    assert (told["failures"], told["recorded"]["recovered"]) == (1, 1)


async def test_since_counts_from_the_newest_failure(command: Command, tmp_path: Path) -> None:
    """A file is as old as it is: its last days are those before its newest failure."""
    day_ms = 86_400_000
    old = record("old", "completed")
    new = record("new", "completed", root_failed_at=old["root_failed_at"] + 8 * day_ms)
    source = write(tmp_path / "l", old, new)
    told = (await command("policy", "backtest", "--from", source, "--since", "7d", "--json")).value
    assert told["failures"] == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--from", "absent"], 2, "cannot read 'absent': no such file or directory"),
        (["--from", "."], 2, "cannot read '.': is a directory"),
        (["--from", "half"], 2, "it begins like an array, and is no JSON"),
        (["--from", "empty"], 1, "there is nothing to replay"),
        (["--policy", "absent.toml"], 2, 'cannot read "absent.toml"'),
        (["--policy", "wrong.toml"], 2, "wrong.toml entry 1"),
        (["--since", "soon"], 2, "takes a duration"),
    ],
)
async def test_what_cannot_be_done_is_said_in_words(
    command: Command, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    """A file or a policy that is not there, or wrong, and a ledger or a file with nothing in it."""
    (tmp_path / "half").write_text('[{"root": "a"},')
    (tmp_path / "empty").write_text("")
    (tmp_path / "wrong.toml").write_text('[[policy]]\nworkflow = "*"\nmax_attempts = "many"\n')
    answer = await command("policy", "backtest", *words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
    assert "Traceback" not in answer.err


async def test_ten_thousand_lineages_take_seconds(command: Command, tmp_path: Path) -> None:
    """Bounded well above what it takes, so that only a change of order fails it."""
    entries = (record(f"r{n}", "failed", "completed", workflow=f"W{n % 20}") for n in range(10_000))
    source = write(tmp_path / "l", *entries)
    began = datetime.now(UTC)
    told = (await command("policy", "backtest", "--policy", "late.toml", "--from", source, "--json")).value
    assert told["failures"] == 10_000
    assert datetime.now(UTC) - began < timedelta(seconds=60)


def test_an_export_is_what_the_ledger_writes() -> None:
    """The hand-made records here are read as the ledger's own are."""
    made = record("a", "failed", "completed")
    assert records.load("a", json.dumps(made)).attempts[1].outcome == "completed"
