"""The tables of `docs/safety.md`, written from the table of guards."""

from __future__ import annotations

import re
from pathlib import Path

from tests.guards.table import GUARDS, Guard

PAGE = Path(__file__).resolve().parents[2] / "docs" / "safety.md"
_BLOCK = re.compile(r"(<!-- guards: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def page_with_tables(page: str) -> str:
    """Return the page with every block `<!-- guards: PROMISE -->` filled in.

    Raises:
        ValueError: a promise has no block, or a block no promise.
    """
    promises = dict.fromkeys(guard.promise for guard in GUARDS)
    blocks = [match[1] for match in _BLOCK.findall(page)]
    if sorted(blocks) != sorted(promises):
        raise ValueError(f"the page has blocks for {blocks}, the guards are under {list(promises)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{_table(match[2])}{match[3]}", page)


def write_page() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page_with_tables(PAGE.read_text()))


def _table(promise: str) -> str:
    rows = "".join(_row(guard) for guard in GUARDS if guard.promise == promise)
    return f"| guard | where | without it | test |\n| --- | --- | --- | --- |\n{rows}"


def _row(guard: Guard) -> str:
    file, name = guard.test.split("::")
    test = f"`{name}` in `{file.removeprefix('tests/')}`"
    return f"| {guard.name} | `{guard.file}`, `{guard.where}` | {guard.without} | {test} |\n"
