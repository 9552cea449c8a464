"""The pages of docs/ say what the code does: compared, where a machine can."""

from __future__ import annotations

import ast
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import pytest

from tests.support.examples import NOW, discovered, running
from worker.cli.app import cli
from worker.domain import transitions
from worker.domain.budget import Limit
from worker.domain.lineage import State
from worker.domain.policy import GiveUpReason, Rule
from worker.domain.transitions import EDGES
from worker.ledger import records
from worker.ledger.keys import Keys

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def test_the_diagram_of_states_draws_every_edge_and_no_other() -> None:
    """`docs/states.md` and `EDGES` agree; cancelling is said in words."""
    drawn = set(re.findall(r"^ +(\w+) --> (\w+) :", (DOCS / "states.md").read_text(), re.MULTILINE))
    known = {
        (state.value, to.value) for state, ends in EDGES.items() for to in ends if to is not State.CANCELLED
    }
    assert drawn == known
    assert all(State.CANCELLED in ends for state, ends in EDGES.items() if not state.is_final)


def test_every_event_that_is_logged_or_stored_is_documented() -> None:
    """`docs/events.md` lists the names that the code uses."""
    page = (DOCS / "events.md").read_text()
    used = {name for path in (ROOT / "worker").rglob("*.py") for name in _event_names(path.read_text())}
    assert {"execution_discovered", "worker_suspended", "settings_invalid"} <= used
    assert sorted(name for name in used if f"`{name}`" not in page) == []


def test_every_documented_event_is_used() -> None:
    """No name in the tables of `docs/events.md` is a promise."""
    used = {name for path in (ROOT / "worker").rglob("*.py") for name in _event_names(path.read_text())}
    first_cells = re.findall(r"^\| (`[^|]*) \|", (DOCS / "events.md").read_text(), re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert sorted(listed - used) == []


def test_every_key_of_the_ledger_is_documented() -> None:
    """`docs/ledger.md` names what is in Redis."""
    page = (DOCS / "ledger.md").read_text()
    keys = Keys("ns")
    names = [name for name, value in vars(Keys).items() if isinstance(value, cached_property)]
    names = [name for name in names if not name.startswith("_")]
    assert len(names) >= 8
    missing = [name for name in names if getattr(keys, name).replace("{ns}", "") not in page]
    assert missing == []
    of_workflows = [keys.runs("<workflow>"), keys.flight("<workflow>")]
    of_workflows += [
        keys.made_of("<workflow>"),
        keys.made_sums_of("<workflow>"),
        keys.traffic_of("<workflow>"),
    ]
    of_workflows += [keys.group("<group>"), f"{keys.returns(0).rpartition(':')[0]}:<hour>"]
    assert [key for key in of_workflows if key not in page] == []


def test_the_ledgers_page_reads_any_record() -> None:
    """Its few lines make of what is stored what `show --json` prints, packed or not."""
    code = re.findall(r"```python\n(.*?)```", (DOCS / "ledger.md").read_text(), re.DOTALL)[0]
    page: dict[str, Any] = {}
    exec(code, page)  # it is our own page
    alive = running(discovered().after).after
    ended = transitions.recover(alive, now=NOW, ended_at=NOW).after
    for lineage in (alive, ended):
        assert page["read"](records.stored(lineage, "w")) == json.loads(records.dump(lineage, "w"))
    assert "packed" in records.stored(ended, "w")


def test_every_reason_of_the_domain_is_documented() -> None:
    """`docs/states.md` says what each rule and each limit means."""
    page = (DOCS / "states.md").read_text()
    reasons = [reason.value for kind in (Rule, GiveUpReason, Limit) for reason in kind]
    assert [reason for reason in reasons if f"`{reason}`" not in page] == []


def test_the_runbook_has_every_reason() -> None:
    """Whoever is called at night finds each reason of `docs/states.md` under a heading of its own."""
    table = (DOCS / "states.md").read_text().partition("## Reasons")[2]
    rows = re.findall(r"^\|[^|]*\|([^|]*)\|", table, re.MULTILINE)
    reasons = {name for cell in rows for name in re.findall(r"`(\w+)`", cell)}
    headings = re.findall(r"^### (.+)$", (DOCS / "runbook.md").read_text(), re.MULTILINE)
    explained = {name for heading in headings for name in heading.split(", ")}
    assert len(reasons) > 40
    assert sorted(reasons - explained) == []


def test_the_runbooks_links_lead_somewhere() -> None:
    """Every link within the page has its heading."""
    page = (DOCS / "runbook.md").read_text()
    headings = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    assert sorted(set(re.findall(r"\(#([^)]+)\)", page)) - headings) == []


@pytest.mark.parametrize(
    "page", ["README.md", "docs/runbook.md", "docs/redrive.md", "docs/track.md", "docs/alerts.md"]
)
def test_every_command_on_a_page_can_be_given(page: str) -> None:
    """What people copy at night exists: commands, subcommands and options."""
    text = (ROOT / page).read_text()
    given = re.findall(r"kinetic-retry ((?:[a-z]|-)[^`#\n)|&]*)", text)
    assert given
    assert [each for each in given if not _is_a_command(each)] == []


def _is_a_command(words: str) -> bool:
    """Whether the command exists, and has every option that is named; `a|b` stands for either."""
    command: click.Command = cli
    context = click.Context(cli)
    for word in re.split(r"\s+", words.strip().rstrip(".,:;'\"")):
        if word.startswith("--"):
            known = {
                option
                for each in command.get_params(context)
                for option in (*each.opts, *each.secondary_opts)
            }
            if word.strip("[].,'\"").partition("=")[0] not in {*known, "--version", "--help"}:
                return False
        elif isinstance(command, click.Group):
            found = command.get_command(context, word.strip(".,'\"[]"))
            if found is None:
                return command is not cli
            command = found
    return True


def _anchor(heading: str) -> str:
    """Return a heading's name in links, as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _event_names(source: str) -> set[str]:
    """Return a module's event names.

    First arguments of `Event(…)` and log calls, `"event"` keys, `event=` arguments, and values of `_EVENTS`.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            logged = re.fullmatch(r"(ctx\.|self\.|self\.ctx\.)?_?log\.\w+|tell", called)
            if (called == "Event" or logged) and isinstance(node.args[0].value, str):
                names.add(node.args[0].value)
        if isinstance(node, ast.keyword) and node.arg == "event" and isinstance(node.value, ast.Constant):
            names.add(str(node.value.value))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_EVENTS":
            names |= {str(ast.literal_eval(value)) for value in getattr(node.value, "values", ())}
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            for key, value in pairs:
                if ast.unparse(key or node) == "'event'" and isinstance(value, ast.Constant):
                    names.add(str(value.value))
    return names
