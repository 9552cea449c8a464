"""Walking through listings of every shape: nothing is missed, and every walk ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.executions import Status
from worker.kinetic import ListContract, Page, Unreadable
from worker.kinetic import listing as listing_module
from worker.kinetic.listing import Query, Walk

NOW = datetime(2026, 1, 6, 10, tzinfo=UTC)
Answer = Callable[[dict[str, str]], Any]


def item(uuid: object, **more: object) -> dict[str, object]:
    return {"execution_uuid": uuid, "workflow_version_uuid": "v", "status": "failed", **more}


def items(first: int, last: int) -> list[dict[str, object]]:
    return [item(f"e-{number}") for number in range(first, last)]


def walk_through(
    answer: Answer, *, status: Status | None = None, most: int = 50, **contract: Any
) -> list[Page]:
    """Walk to the end against a server that is a function of the query; fails when there is no end."""
    walk = Walk(ListContract(**contract), status=status, since=None)
    pages: list[Page] = []
    while walk.query is not None:
        assert len(pages) < most, "the walk does not end"
        pages.append(walk.take(answer(dict(walk.query)), NOW))
    return pages


def uuids(pages: list[Page]) -> list[str]:
    return [each.uuid for page in pages for each in page.executions]


@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
def test_offset_paging_finds_everything_under_any_cap(count: int, asked: int, cap: int) -> None:
    """Every execution exactly once, however short the server cuts its pages."""
    rows = items(0, count)

    def server(query: dict[str, str]) -> Any:
        start = int(query["offset"])
        return rows[start : start + min(cap, int(query["limit"]))]

    pages = walk_through(server, page_size=asked)
    assert uuids(pages) == [f"e-{n}" for n in range(count)]
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]


@given(st.integers(0, 40), st.integers(1, 20))
def test_page_paging_counts_from_one(count: int, size: int) -> None:
    """The server's page size rules, whatever was asked for."""
    rows = items(0, count)
    pages = walk_through(lambda query: rows[(int(query["page"]) - 1) * size :][:size], pagination="page")
    assert uuids(pages) == [f"e-{n}" for n in range(count)]


@pytest.mark.parametrize(
    "end", [{}, {"meta": {}}, {"meta": {"next": None}}, {"meta": {"next": ""}}, {"meta": 7}]
)
def test_cursor_paging_follows_a_nested_field_to_its_end(end: dict[str, object]) -> None:
    """Dots descend; null, empty and absent all mean the end, and a number is a cursor too."""

    def server(query: dict[str, str]) -> Any:
        if query.get("after") == "2":
            return {"results": items(4, 5), **end}
        following = {"meta": {"next": 2 if "after" in query else "b/64+="}}
        return {"results": items(2, 4) if "after" in query else items(0, 2), **following}

    pages = walk_through(server, pagination="cursor", cursor_param="after", next_field="meta.next")
    assert uuids(pages) == [f"e-{n}" for n in range(5)]
    assert pages[-1].last


def test_an_empty_page_with_a_cursor_is_not_the_end() -> None:
    """Stores that filter after reading send such pages."""

    def server(query: dict[str, str]) -> Any:
        return {"": [], "items": [], "next_cursor": "b"} if "cursor" not in query else {"items": items(0, 1)}

    assert uuids(walk_through(server, pagination="cursor")) == ["e-0"]


def test_a_cursor_that_is_a_url_gives_its_query() -> None:
    """Absolute or relative; the host and the path are ignored."""
    for url in ("https://other.invalid/x?cursor=b&limit=7", "/v2/list?cursor=b&limit=7", "?cursor=b&limit=7"):
        walk = Walk(ListContract(pagination="cursor"), status=Status.FAILED, since=None)
        walk.take({"items": items(0, 1), "next_cursor": url}, NOW)
        assert walk.query == [("cursor", "b"), ("limit", "7")]


@pytest.mark.parametrize("cursor", ["/opaque+base64==", "https://no-query.invalid/", "http://[broken?x=1"])
def test_a_cursor_that_only_looks_like_a_url_is_a_cursor(cursor: str) -> None:
    """Base64 may begin with a slash."""
    walk = Walk(ListContract(pagination="cursor"), status=None, since=None)
    walk.take({"items": items(0, 1), "next_cursor": cursor}, NOW)
    assert dict(walk.query or [])["cursor"] == cursor


@pytest.mark.parametrize("pagination", ["offset", "page", "cursor"])
def test_a_server_that_ignores_paging_is_not_asked_for_ever(pagination: str) -> None:
    """Three pages in a row without anything unseen end the walk, also when no item is readable."""
    count = iter(range(100))
    for rows in (items(0, 5), [{"name": "x"}, 7]):
        pages = walk_through(
            lambda _, rows=rows: {"items": rows, "next_cursor": f"c{next(count)}"},  # type: ignore[misc]
            pagination=pagination,
        )
        assert [page.last for page in pages] == [False] * 4  # and it is no proof of an end


def test_a_cursor_that_repeats_ends_the_walk() -> None:
    """Even when every page brings something new."""
    count = iter(range(1000))
    pages = walk_through(
        lambda _: {"items": [item(f"e-{next(count)}")], "next_cursor": "same"}, pagination="cursor"
    )
    assert len(pages) == 2
    assert not pages[-1].last


def test_an_endless_list_is_cut_and_not_called_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound ends the walk without claiming that nothing follows."""
    monkeypatch.setattr(listing_module, "MAX_PAGES", 20)
    count = iter(range(10**6))
    pages = walk_through(lambda _: [item(f"e-{next(count)}")])
    assert len(pages) == 20
    assert not pages[-1].last


def test_items_that_shift_between_pages_are_seen_twice_and_none_is_missed() -> None:
    """New failures arrive at the head while we read: harmless."""
    calls = iter(range(10))

    def server(query: dict[str, str]) -> Any:
        rows = [item(f"new-{n}") for n in range(next(calls))] + items(0, 6)
        return rows[int(query["offset"]) :][:3]

    assert set(uuids(walk_through(server))) >= {f"e-{n}" for n in range(6)}


@pytest.mark.parametrize("pagination", ["none", "offset", "page", "cursor"])
def test_an_empty_list_is_one_last_page(pagination: str) -> None:
    """Nothing there, nothing asked again."""
    shapes: tuple[Any, ...] = ([], {"items": []}, {"data": None})
    for empty in shapes:
        pages = walk_through(lambda _, empty=empty: empty, pagination=pagination)  # type: ignore[misc]
        assert pages == [Page((), received=0, unreadable=0, oldest_created_at=None, last=True)]


def test_without_paging_one_page_is_all() -> None:
    """`none` asks once."""
    assert walk_through(lambda _: items(0, 500), pagination="none")[0].last
    assert not walk_through(lambda _: items(0, 100), pagination="none")[
        0
    ].last  # as many as asked for: capped?


@pytest.mark.parametrize("name", ["items", "executions", "data", "results"])
def test_known_envelopes_are_found(name: str) -> None:
    """Without a setting, wherever the array is."""
    assert uuids(walk_through(lambda _: {"total": 1, name: items(0, 1)}, pagination="none")) == ["e-0"]


def test_a_named_envelope_is_used() -> None:
    """Dots descend, and a known name beside it is not taken by mistake."""
    body = {"data": [item("wrong")], "page": {"runs": [item("right")]}}
    assert uuids(walk_through(lambda _: body, pagination="none", items_field="page.runs")) == ["right"]


@pytest.mark.parametrize(
    "body", [{"rows": [], "PATIENT": "PATIENT-4711"}, {"items": {"a": 1}}, "PATIENT-4711", 7, None, {}, True]
)
def test_an_answer_without_a_list_names_the_setting(body: object) -> None:
    """And what came, by its names only."""
    with pytest.raises(Unreadable) as caught:
        walk_through(lambda _: body)
    assert "KINETIC_LIST_ITEMS_FIELD" in str(caught.value)
    assert "4711" not in str(caught.value)
    if isinstance(body, dict) and "rows" in body:
        assert "rows" in str(caught.value)


@pytest.mark.parametrize("cursor", [True, {"a": 1}, ["b"], 1.5, "x" * 5000])
def test_a_next_field_that_holds_no_cursor_names_the_setting(cursor: object) -> None:
    """Stopping in silence would hide every page after the first."""
    with pytest.raises(Unreadable, match="KINETIC_LIST_NEXT_FIELD"):
        walk_through(lambda _: {"items": items(0, 1), "next_cursor": cursor}, pagination="cursor")


def test_a_bare_array_cannot_be_read_by_cursor() -> None:
    """It has no room for one, so everything after the first page would be missed."""
    with pytest.raises(Unreadable, match="KINETIC_LIST_PAGINATION"):
        walk_through(lambda _: items(0, 1), pagination="cursor")


def test_unreadable_items_are_skipped_and_counted() -> None:
    """One broken item hides neither its neighbours nor itself."""
    rows = [item("a"), None, 7, "x", {}, item(""), item("b"), item("c", workflow_version_uuid=None)]
    page = walk_through(lambda _: rows, pagination="none")[0]
    assert uuids([page]) == ["a", "b"]
    assert (page.received, page.unreadable) == (8, 6)


def test_a_server_that_ignores_the_status_filter_is_filtered_here() -> None:
    """The page still tells how much came."""
    rows = [item("a"), item("b", status="completed"), item("c", status="FAILED"), item("d", status="odd")]
    page = walk_through(lambda _: rows, pagination="none", status=Status.FAILED)[0]
    assert uuids([page]) == ["a", "c"]
    assert page.received == 4
    assert page.unreadable == 0
    assert len(walk_through(lambda _: rows, pagination="none")[0].executions) == 4


def test_the_oldest_date_is_of_all_items_or_none() -> None:
    """A page with one undated execution cannot prove how far back it reaches; an unreadable item is none."""
    rows = [
        item("a", created_at="2026-01-06T09:00:00Z"),
        item("b", created_at="2026-01-05T09:00:00Z", status="completed"),
    ]
    page = walk_through(lambda _: rows, pagination="none", status=Status.FAILED)[0]
    assert page.oldest_created_at == datetime(2026, 1, 5, 9, tzinfo=UTC)
    undated = walk_through(lambda _: [*rows, item("c", created_at="0001-01-01T00:00:00Z")], pagination="none")
    assert undated[0].oldest_created_at is None
    assert walk_through(lambda _: [*rows, {}], pagination="none")[0].oldest_created_at is not None


@pytest.mark.parametrize(
    ("contract", "query"),
    [
        ({}, [("status", "failed"), ("limit", "100"), ("offset", "0")]),
        ({"pagination": "page", "page_size": 7}, [("status", "failed"), ("limit", "7"), ("page", "1")]),
        ({"pagination": "cursor", "limit_param": ""}, [("status", "failed")]),
        ({"pagination": "none", "status_param": ""}, [("limit", "100")]),
        (
            {"pagination": "none", "status_param": "state", "limit_param": "n", "since_param": "after"},
            [("state", "failed"), ("after", "2026-01-06T10:00:00Z"), ("n", "100")],
        ),
    ],
)
def test_the_first_query(contract: dict[str, Any], query: Query) -> None:
    """Every name is a setting, and an empty name is not sent."""
    since = NOW.replace(microsecond=999_999)
    assert Walk(ListContract(**contract), status=Status.FAILED, since=since).query == query


@pytest.mark.parametrize(
    "wrong",
    [
        {"page_size": 0},
        {"offset_param": ""},
        {"pagination": "page", "page_param": ""},
        {"pagination": "cursor", "cursor_param": ""},
        {"pagination": "cursor", "next_field": ""},
    ],
)
def test_a_contract_that_cannot_work_is_not_built(wrong: dict[str, Any]) -> None:
    """The start fails, not the first poll."""
    with pytest.raises(ValueError, match=r"page_size|needs"):
        ListContract(**wrong)


def test_a_burst_between_two_questions_hides_nothing() -> None:
    """A page of new executions pushes the list down: page two repeats page one, and the rest follows."""
    contract = ListContract(page_size=5)
    walk = Walk(contract, status=None, since=None)
    first, rest = items(0, 5), items(5, 5)
    assert not walk.take(first, NOW).last
    again = walk.take(first, NOW)  # the same five, because five newer ones came on top
    assert not again.last
    assert walk.query is not None
    assert {each.uuid for each in walk.take(rest, NOW).executions} == {
        each["execution_uuid"] for each in rest
    }
