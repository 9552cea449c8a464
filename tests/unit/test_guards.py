"""The table of guards is in step with the code, the tests and the page; `make guards` shows the rest."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.guards.page import PAGE, page_with_tables
from tests.guards.table import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_is_where_the_table_says(guard: Guard) -> None:
    """What is cut occurs once, is not cut for nothing, and its test exists."""
    assert (ROOT / guard.file).read_text().count(guard.cut) == 1
    assert guard.cut != guard.put
    file, name = guard.test.split("::")
    tree = ast.parse((ROOT / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_the_page_on_safety_lists_the_guards() -> None:
    """`docs/safety.md` is what `python -m tests.guards --write` would write."""
    page = PAGE.read_text()
    assert page_with_tables(page) == page


def test_a_promise_without_a_table_is_noticed() -> None:
    """A new promise needs its place in the page."""
    with pytest.raises(ValueError, match="has blocks for"):
        page_with_tables("# Safety\n")
