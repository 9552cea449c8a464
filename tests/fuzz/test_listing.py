"""Every walk through a listing ends, whatever the server answers, and asks nothing that cannot be a URL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain, count, repeat
from typing import Any
from unittest.mock import patch
from urllib.parse import urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.hostile import executions, fuzz, in_bytes, is_one_harmless_line, json_values, numbers, texts
from worker.domain.executions import Status
from worker.kinetic import ListContract, Page
from worker.kinetic.errors import Unreadable
from worker.kinetic.listing import Walk
from worker.kinetic.parsing import parse_json

NOW = datetime(2026, 1, 6, 10, tzinfo=UTC)
FEW_PAGES = 30

items = st.lists(executions | json_values, max_size=4)
cursors = (
    texts
    | numbers
    | st.sampled_from(
        [
            *(
                "https://evil.example/x?key=1&cursor=a",
                "//evil.example?x",
                "/next?",
                "?",
                "http://[::1?a=b",
                "x" * 4001,
            ),
            *("/a?cursor=\ud800", "?%ff=%00", "https://evil.example/?" + "a&" * 900),
        ]
    )
)
envelopes = st.fixed_dictionaries(
    {"items": items | json_values},
    optional={"next_cursor": cursors | json_values, "total": numbers, "has_more": json_values, "data": items},
)
pages = envelopes | items | json_values
contracts = st.builds(
    ListContract,
    path=st.just("/api/executions"),
    pagination=st.sampled_from(["offset", "page", "cursor", "none"]),
    order=st.sampled_from(["desc", "asc", "unknown"]),
    next_field=st.sampled_from(["next_cursor", "a.b"]),
)


def walked(contract: ListContract, answers: Iterator[Any], status: Status | None) -> list[Page]:
    """Walk to the end, or to the first answer that makes no sense; return the pages."""
    walk = Walk(contract, status=status, since=NOW)
    taken: list[Page] = []
    said = ""
    while walk.query is not None:
        assert urlencode(walk.query).isascii()
        try:
            taken.append(walk.take(parse_json(in_bytes(next(answers))), NOW))
        except Unreadable as error:
            said = str(error)
            break
        assert walk.pages == len(taken)
        assert walk.pages <= FEW_PAGES
    assert is_one_harmless_line(said, 1200)
    return taken


@fuzz(150)
@given(contracts, st.lists(pages, min_size=1, max_size=4), st.sampled_from([None, Status.FAILED]))
@example(ListContract(path="/x", pagination="offset"), [[{"execution_uuid": "e"}]], None)
@example(ListContract(path="/x", pagination="cursor"), [{"items": [], "next_cursor": "again"}], None)
@example(ListContract(path="/x", pagination="cursor"), [{"items": [], "next_cursor": "\ud800"}], None)
@example(ListContract(path="/x", pagination="cursor"), [{"items": [], "next_cursor": "?a=\ud800"}], None)
def test_a_walk_ends_when_the_server_repeats_itself(
    contract: ListContract, answers: list[Any], status: Status | None
) -> None:
    """Parameters that are ignored, cursors that go round, totals that lie: few pages without news end it."""
    with patch("worker.kinetic.listing.MAX_PAGES", FEW_PAGES):
        taken = walked(contract, chain(answers, repeat(answers[-1])), status)
    assert len(taken) <= len(answers) + 3
    for page in taken:
        assert 0 <= page.unreadable <= page.received
        assert all(status in (None, each.status) for each in page.executions)
        assert page.oldest_created_at is None or page.oldest_created_at.tzinfo is UTC


@fuzz(30)
@given(contracts, st.integers(1, 3))
def test_a_list_that_never_ends_is_left_at_the_bound(contract: ListContract, size: int) -> None:
    """New uuids and new cursors for ever: of the last page that is read nobody may think that it was last."""
    numbers = count()

    def page() -> Any:
        rows = [{"execution_uuid": f"e-{next(numbers)}", "workflow_version_uuid": "v"} for _ in range(size)]
        following = f"c-{next(numbers)}"
        return {"items": rows, "next_cursor": following, "a": {"b": following}, "total": -1}

    with patch("worker.kinetic.listing.MAX_PAGES", FEW_PAGES):
        taken = walked(contract, iter(page, None), None)
    if contract.pagination == "none":
        assert [each.last for each in taken] == [True]
    else:
        assert [each.last for each in taken] == [False] * FEW_PAGES
