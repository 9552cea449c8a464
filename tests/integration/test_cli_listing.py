"""`list`, `dead` and `export` over a ledger with lineages of every kind, on a real server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Command
from tests.support.examples import PLAIN, discovered, execution, running
from tests.support.full_ledger import fill
from worker.cli.exports import COLUMNS, read_export
from worker.domain import transitions
from worker.ledger import Connection, Ledger
from worker.ledger.listing import READ_AT_ONCE, Filter
from worker.ledger.reports import Reports
from worker.ledger.sweep import Sweep

FILLED = 1000


@pytest.fixture(scope="module")
def filled(shared_redis: str) -> str:
    """Return a namespace with lineages of every kind in it; tests only read it."""

    async def prepare() -> None:
        ledger = Ledger(Connection(shared_redis), "filled-cli", events_maxlen=100_000)
        await fill(ledger, FILLED)
        await ledger.aclose()

    asyncio.run(prepare())
    return "filled-cli"


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """Take the filled one where a test asks for it."""
    import secrets

    is_filled = "filled" in request.fixturenames
    return str(request.getfixturevalue("filled")) if is_filled else f"test-{secrets.token_hex(4)}"


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count round trips to the server, and the records that they bring."""
    counted: Counter[str] = Counter()
    pipelined, command = Connection._pipelined, Connection.command

    async def counting_pipelined(self: Connection, commands: Any) -> Any:
        counted["round trips"] += 1
        return await pipelined(self, commands)

    async def counting_command(self: Connection, *words: Any) -> Any:
        counted["round trips"] += 1
        counted["records"] += (len(words) - 1) * (words[0] == "MGET")
        counted["entries"] += words[0] in ("XRANGE", "ZRANGE") and 1000
        return await command(self, *words)

    monkeypatch.setattr(Connection, "_pipelined", counting_pipelined)
    monkeypatch.setattr(Connection, "command", counting_command)
    return counted


COMMANDS = (
    ("status",),
    ("list", "--limit", "20"),
    ("list", "--workflow", "Elig*", "--attempts", "2-", "--since", "2d", "--limit", "20"),
    ("dead", "--sort", "workflow", "--limit", "20"),
    ("dead", "--uuids", "--limit", "20"),
    ("breaker", "list"),
    ("breaker", "open", "Referral, Harbor", "--reason", "a test"),
    ("report",),
    ("tail", "--people", "--since", "30d", "--no-follow"),
)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_a_command_reads_what_it_shows(
    command: Command, costs: Counter[str], words: tuple[str, ...]
) -> None:
    """However many lineages there are: some round trips, twenty records, and no page after page."""
    answer = await command(*words)
    assert answer.code == 0, answer.err
    assert costs["round trips"] <= 25
    assert costs["records"] <= 20
    assert costs["entries"] == 0


@pytest.mark.usefixtures("filled")
async def test_list_filters_and_sorts(command: Command) -> None:
    """By state, workflow, reason, attempts and age at once; in the order asked for."""
    words = ("--workflow", "*harbor", "--reason", "attempts_*", "--attempts", "5", "--since", "5d")
    found = (await command("list", "--state", "exhausted", *words, "--sort", "workflow", "--json")).value
    assert len(found) > 5
    for each in found:
        assert (each["state"], each["reason"], len(each["attempts"])) == ("exhausted", "attempts_used_up", 5)
        assert each["workflow_name"].endswith("Harbor")
    names = [each["workflow_name"].casefold() for each in found]
    assert names == sorted(names)
    dead = (await command("dead", *words, "--limit", "1000", "--sort", "oldest", "--json")).value
    assert {each["root"] for each in dead} >= {each["root"] for each in found}
    assert [each["since"] for each in dead] == sorted(each["since"] for each in dead)


@pytest.mark.usefixtures("filled")
async def test_pages_go_on_where_the_one_before_ended(command: Command) -> None:
    """A table ends with the place of the next page; together they are everything, each once."""
    everything = (await command("dead", "--uuids", "--all")).out.splitlines()
    assert len(everything) == len(set(everything)) > 200
    roots: list[str] = []
    after: tuple[str, ...] = ()
    for _ in range(4):
        page = await command("dead", "--uuids", "--limit", "40", *after)
        roots += page.out.split()
        after = ("--after", page.err.split()[-1])
    assert roots == everything[:160]
    assert f"--after {after[1]}"[:20] in (await command("dead", "--limit", "40")).out
    wrong = await command("list", "--sort", "oldest", *after)
    assert (wrong.code, wrong.out) == (2, "")
    assert "order by newest" in wrong.err


@pytest.mark.usefixtures("filled")
async def test_all_of_them_for_pipes(command: Command) -> None:
    """Uuids, records a line, and one array: the same lineages; a table of all is refused."""
    uuids = (await command("list", "--all", "--uuids")).out.split()
    lines = [json.loads(line) for line in (await command("list", "--all", "--jsonl")).out.splitlines()]
    array = (await command("list", "--all", "--json")).value
    assert len(uuids) == FILLED
    assert [each["root"] for each in lines] == [each["root"] for each in array] == uuids
    assert all("token" not in each for each in lines)
    assert (await command("list", "--all")).code == 2
    assert (await command("list", "--json", "--uuids")).code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--attempts", "x"), ("--attempts", "-"), ("--attempts", "4-2"), ("--attempts", "99999"),
        ("--since", "yesterday"), ("--since", ""), ("--until", "2026-13-01"), ("--after", "nonsense"),
        ("--sort", "size"), ("--state", "gone"),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_code_2(command: Command, words: tuple[str, ...]) -> None:
    """With what the option takes."""
    answer = await command("list", *words)
    assert (answer.code, answer.out) == (2, "")
    assert words[0] in answer.err


async def test_an_empty_list_is_empty_in_every_form(command: Command, ledger: Ledger) -> None:
    """And code 0: there being none is an answer."""
    await ledger.begin(timedelta(0))
    forms = {(): "nothing to list\n", ("--uuids",): "", ("--jsonl",): "", ("--json",): "[]\n"}
    for form, printed in forms.items():
        assert (await command("dead", *form)).out == printed


async def test_a_ledger_of_an_older_version_is_looked_through(command: Command, ledger: Ledger) -> None:
    """Until it is in groups: what matches is found among the records, and a line says so."""
    await ledger.begin(timedelta(minutes=10))
    now = await Reports(ledger).now()
    for root, name in (("one", "Claims"), ("two", "Referral")):
        await ledger.commit(discovered(execution(root, workflow_name=name, updated_at=now), now=now))
    await ledger.connection.command("HDEL", ledger.keys.facts, "grouped")
    found = await command("list", "--workflow", "claims", "--uuids")
    assert (found.code, found.out) == (0, "one\n")
    assert "an older version wrote this ledger" in found.err
    assert {each["root"] for each in (await command("list", "--json")).value} == {"one", "two"}
    exported = await command("export")
    assert exported.code == 3
    assert "by itself" in exported.err


@pytest.mark.usefixtures("filled")
async def test_an_export_is_read_by_backtest(command: Command, tmp_path: Path) -> None:
    """Every lineage of the period as a whole record, in a file that appears when it is complete."""
    said = (await command("export", "--since", "3d", "--out", "days.jsonl", "--json")).value
    export = read_export(tmp_path / "days.jsonl")
    assert (len(export.lineages), export.odd) == (said["lineages"], [])
    expected = (await command("list", "--all", "--since", "3d", "--uuids")).out.split()
    assert set(export.lineages) <= set(expected)
    assert len(expected) - len(export.lineages) <= 2  # a moment passed between the two commands
    tried = (await command("policy", "backtest", "--from", "days.jsonl", "--json")).value
    assert tried["not_read"] == []
    assert tried["failures"] > 100
    assert os.listdir(tmp_path) == ["days.jsonl"]  # noqa: PTH208  # a list of one


@pytest.mark.usefixtures("filled")
async def test_an_export_for_spreadsheets(command: Command, tmp_path: Path) -> None:
    """A line for each lineage with what became of it; backtest says that it needs the other form."""
    assert (await command("export", "--state", "recovered", "--out", "done.csv")).code == 0
    with (tmp_path / "done.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["state"] for row in rows} == {"recovered"}
    assert all(float(row["recovered_after_s"]) >= 0 and row["last_outcome"] == "completed" for row in rows)
    refused = await command("policy", "backtest", "--from", "done.csv")
    assert refused.code == 2
    assert "--format jsonl" in refused.err


HOSTILE = (
    "=cmd|'/c calc'!A0",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    " =1",
    "\uff1d1",
    'a","=1',
    "x\n=1",
    "\x1b[31m=1",
)


async def test_no_cell_is_a_formula(command: Command, ledger: Ledger) -> None:
    """Whatever a workflow is called: a spreadsheet shows it and computes nothing."""
    await ledger.begin(timedelta(minutes=10))
    now = await Reports(ledger).now()
    for number, name in enumerate(HOSTILE):
        failed = execution(f"=root-{number}", workflow_name=name, workflow_uuid="@w", updated_at=now)
        await ledger.commit(discovered(failed, now=now))
    printed = (await command("export", "--format", "csv")).out
    rows = list(csv.reader(io.StringIO(printed)))
    assert len(rows) == 1 + len(HOSTILE)
    for row in rows[1:]:
        assert len(row) == len(COLUMNS)
        assert [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\uff1d"))] == []
        assert row[0].startswith("'=root-")


@pytest.mark.parametrize("out", ["no/such/directory/x.csv", "."])
async def test_a_file_that_cannot_be_written_is_code_2(command: Command, ledger: Ledger, out: str) -> None:
    """With which and why; nothing is left behind."""
    await ledger.begin(timedelta(0))
    answer = await command("export", "--out", out)
    assert (answer.code, answer.out) == (2, "")
    assert f"cannot write '{out}'" in answer.err


async def test_a_sweep_has_each_once_while_they_move(ledger: Ledger) -> None:
    """Lineages that move between batches are read where they are: none twice, none not at all."""
    await ledger.begin(timedelta(minutes=10))
    now = await Reports(ledger).now()
    count = 2 * READ_AT_ONCE + 100
    begun = [
        discovered(execution(f"root-{i:04}", updated_at=now), now=now - timedelta(minutes=8, seconds=-i / 10))
        for i in range(count)
    ]
    await asyncio.gather(*map(ledger.commit, begun))
    lineages = {change.after.root: change.after for change in begun}

    async def move(root: str) -> None:
        later = await Reports(ledger).now()
        for change in (
            transitions.submit(
                lineages[root], token="t", now=later, lease=timedelta(minutes=2), policy=PLAIN
            ),
            running(lineages[root], f"clone-of-{root}", now=later),
        ):
            await ledger.commit(change)
            lineages[root] = change.after

    read: list[str] = []
    sweep = Sweep(ledger, Filter(), now)
    async for batch in sweep.batches():
        read += [each.root for each in batch]
        if len(read) <= READ_AT_ONCE:
            await asyncio.gather(*(move(root) for root in (read[3], "root-0700", "root-1050")))
    assert Counter(read) == Counter(lineages.keys())
    assert set(read[-2:]) == {"root-0700", "root-1050"}  # met where they went
