"""Finding lineages by their groups: exact against a reading of everything, whatever is alike and moves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.full_ledger import fill
from worker.domain.lineage import Lineage, State
from worker.ledger import Connection, Ledger
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.groups import Group
from worker.ledger.listing import By, Cursor, Filter, Listing, Page, UngroupedError
from worker.ledger.reports import Reports

DEAD = Group(State.EXHAUSTED, "w-1", "attempts_used_up", 5)
THEN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FILLED = 400
MOST_PAGES = 100


async def put(ledger: Ledger, group: Group, members: dict[str, int]) -> None:
    """Put roots into a group as commits would: each with since when it is in it, in ms."""
    await ledger.begin(timedelta(0))
    pairs = [item for root, at in members.items() for item in (at, root)]
    await ledger.connection.command("ZADD", ledger.keys.group(group.field), *pairs)
    await ledger.connection.command("HINCRBY", ledger.keys.groups, group.field, len(members))
    await ledger.connection.command("HSET", ledger.keys.names, group.workflow, f"Name of {group.workflow}")


async def all_pages(listing: Listing, wanted: Filter, by: By, limit: int) -> list[Page]:
    """Read page by page to the end, by cursors that went through text."""
    pages: list[Page] = []
    after = None
    while True:
        assert len(pages) <= MOST_PAGES, "it goes round in circles"
        pages.append(await listing.find(wanted, by=by, after=after, limit=limit))
        place = pages[-1].next
        if place is None:
            return pages
        after = Cursor.parse(str(place))


def roots_of(pages: list[Page]) -> list[str]:
    return [root for page in pages for root in page.roots]


@pytest.mark.parametrize("by", [By.NEWEST, By.OLDEST])
@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
async def test_pages_are_exact_where_everything_happened_at_once(ledger: Ledger, by: By, limit: int) -> None:
    """Equal times in several groups, names of every order of bytes: each root once, in one order."""
    dice = random.Random(limit)
    expected = []
    for number in range(4):
        members = {
            f"{dice.choice('aZ0-_é')}{number}{dice.getrandbits(32):x}": 1_000 + dice.randrange(3)
            for _ in range(20)
        }
        await put(ledger, DEAD._replace(attempts=number), members)
        expected += [(at, root) for root, at in members.items()]
    found = roots_of(await all_pages(Listing(ledger), Filter(), by, limit))
    assert found == [root for _, root in sorted(expected, reverse=by is By.NEWEST)]


async def test_a_page_of_many_that_are_alike_costs_a_few_round_trips(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand of one millisecond in one group: the middle of them is found as fast as the beginning."""
    roots = [f"root-{number:05}" for number in range(2000)]
    await put(ledger, DEAD, dict.fromkeys(roots, 1_000))
    asked = counting(ledger, monkeypatch)
    page = await Listing(ledger).find(
        Filter(), by=By.OLDEST, after=Cursor("oldest", "", 1_000, "root-00999"), limit=20
    )
    assert page.roots == roots[1000:1020]
    assert asked["round trips"] <= 5
    assert asked["commands"] <= 8


async def test_a_page_costs_what_it_shows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three hundred groups of a hundred: ten are shown, and no hundred are read of each."""
    for number in range(300):
        group = Group(State.EXHAUSTED, f"w-{number}", "attempts_used_up", 5)
        await put(ledger, group, {f"{number}-{i}": 1_000 * i + number for i in range(100)})
    asked = counting(ledger, monkeypatch)
    page = await Listing(ledger).find(Filter(), limit=10)
    assert page.roots == [f"{number}-99" for number in range(299, 289, -1)]
    assert asked["round trips"] <= 14  # the counts, the first of each, some of ten, then one when one ran out
    assert asked["members"] <= 300 + 10 * 10


async def test_what_stays_is_neither_missed_nor_doubled_while_others_move(ledger: Ledger) -> None:
    """Between pages some leave, some come, and the one that the cursor names goes: the rest is found once."""
    stays = {f"s-{i}": 10 * i for i in range(60)}
    await put(ledger, DEAD, stays | {f"goes-{i}": 10 * i + 1 for i in range(60)})
    index, listing = ledger.keys.group(DEAD.field), Listing(ledger)
    found: list[str] = []
    after, dice = None, random.Random(3)
    while True:
        page = await listing.find(Filter(), by=By.OLDEST, after=after, limit=7)
        found += page.roots
        after = page.next
        if after is None:
            break
        gone = [f"goes-{dice.randrange(60)}" for _ in range(5)]
        if after.root in stays:
            gone.append(after.root)
        await ledger.connection.command("ZREM", index, *gone)
        await ledger.connection.command("ZADD", index, dice.randrange(600), f"new-{after.at_ms}")
    assert Counter(root for root in found if root in stays) == Counter(stays.keys())
    assert max(Counter(found).values()) == 1


@pytest.fixture(scope="module")
def filled(shared_redis: str) -> str:
    """Return a namespace with lineages of every kind in it; tests only read it."""
    import asyncio

    async def prepare() -> None:
        ledger = Ledger(Connection(shared_redis), "filled", events_maxlen=10_000)
        await fill(ledger, FILLED)
        await ledger.aclose()

    asyncio.run(prepare())
    return "filled"


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """Take the filled one where a test asks for it."""
    if "filled" in request.fixturenames:
        return str(request.getfixturevalue("filled"))
    import secrets

    return f"test-{secrets.token_hex(4)}"


FILTERS: dict[str, Callable[[datetime], Filter]] = {
    "everything": lambda _: Filter(),
    "states": lambda _: Filter(states=(State.EXHAUSTED, State.HELD)),
    "workflow": lambda _: Filter(workflows=("elig*", "*, harbor")),
    "reason": lambda _: Filter(reasons=("*_used_up", "UNCLEAR")),
    "attempts": lambda _: Filter(attempts_min=2, attempts_max=3),
    "fresh": lambda now: Filter(since=now - timedelta(days=1)),
    "old": lambda now: Filter(until=now - timedelta(days=3), states=(State.RECOVERED,)),
    "between": lambda now: Filter(since=now - timedelta(days=4), until=now - timedelta(days=2)),
    "nothing": lambda _: Filter(workflows=("no such workflow",)),
}


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("which", FILTERS)
async def test_a_filter_means_the_same_as_reading_every_record(ledger: Ledger, which: str) -> None:
    """Found, counted, and in the order asked for: against a filter over all records."""
    reports, listing = Reports(ledger), Listing(ledger)
    wanted = FILTERS[which](from_ms(to_ms(await reports.now())))
    expected = [each async for each in reports.lineages() if wanted.matches(each)]
    assert (expected == []) == (which == "nothing")
    orders = ORDERS if which == "everything" else {By.NEWEST: _since}
    for by, key in orders.items():
        found = await all_pages(listing, wanted, by, 101)
        lineages = [each for page in found for each in await listing.read(page)]
        assert [each.root for each in lineages] == [each.root for each in sorted(expected, key=key)], by
    counted = dict(await listing.counts(wanted))
    assert counted == Counter(map(Group.of, expected))


def _since(lineage: Lineage) -> tuple[int, Any]:
    return -to_ms(lineage.since), [-byte for byte in lineage.root.encode()]


ORDERS: dict[By, Callable[[Lineage], Any]] = {
    By.NEWEST: _since,
    By.OLDEST: lambda each: (to_ms(each.since), each.root),
    By.STATE: lambda each: (list(State).index(each.state), _since(each)),
    By.WORKFLOW: lambda each: ((each.workflow_name or each.workflow).casefold(), each.workflow, _since(each)),
    By.REASON: lambda each: (each.reason, _since(each)),
    By.ATTEMPTS: lambda each: (-each.made, _since(each)),
}


@pytest.mark.usefixtures("filled")
async def test_a_record_that_moved_on_is_left_out(ledger: Ledger) -> None:
    """Between the index and the record: what is shown is what was asked for."""
    listing = Listing(ledger)
    page = await listing.find(Filter(states=(State.RECOVERED,)), limit=3)
    other = page.found[1]
    moved = Page(
        (page.found[0], other._replace(group=other.group._replace(attempts=99)), page.found[2]), None
    )
    assert [each.root for each in await listing.read(moved)] == [page.roots[0], page.roots[2]]


async def test_a_ledger_of_an_older_version_is_not_listed_in_part(ledger: Ledger) -> None:
    """Where lineages are without their group, nobody is told that there are none."""
    await put(ledger, DEAD, {"root": 1})
    await ledger.connection.command("HDEL", ledger.keys.facts, "grouped")
    with pytest.raises(UngroupedError, match="by itself"):
        await Listing(ledger).find(Filter(), limit=1)
    with pytest.raises(UngroupedError):
        await Listing(ledger).counts(Filter())


async def test_a_ledger_that_no_worker_reached_has_nothing_in_it(ledger: Ledger) -> None:
    """Nobody wrote it: no words about older versions."""
    assert (await Listing(ledger).find(Filter(), limit=5)) == Page((), None)
    assert await Listing(ledger).counts(Filter()) == []


async def test_a_cursor_belongs_to_its_order(ledger: Ledger) -> None:
    """A place in one order is none in another."""
    with pytest.raises(ValueError, match="order by oldest"):
        await Listing(ledger).find(Filter(), by=By.NEWEST, after=Cursor("oldest", "", 1, "a"), limit=1)


@pytest.mark.parametrize(
    "word", ["", "x", "e30", "WzEsMl0", "W1tdLCIiLDEsIngiXQ", "é", "WyJuZXdlc3QiLCIiLHRydWUsIngiXQ"]
)
def test_what_is_no_cursor_is_refused(word: str) -> None:
    """Whatever somebody pastes."""
    with pytest.raises(ValueError):  # noqa: PT011  # any words will do
        Cursor.parse(word)


def counting(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is asked of the server from now on."""
    asked: Counter[str] = Counter()
    before = ledger.connection.pipelined

    async def pipelined(commands: Any) -> Any:
        asked["round trips"] += 1
        asked["commands"] += len(commands)
        answers = await before(commands)
        if commands[0][0].startswith("EVAL"):
            asked["members"] += sum(len(members) // 2 for each in answers for members in each[1:])
        return answers

    monkeypatch.setattr(ledger.connection, "pipelined", pipelined)
    return asked
