"""What a redrive would do, how it is begun, and what a person may say of one that goes on.

Knows nothing of how it is asked for or shown (`redrive`, `redrive_view`). Every refusal is a `CommandError`
in words; a worker does everything else (`worker.engine.redrive`).
"""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import median

from worker.cli.errors import NO, CommandError
from worker.cli.person import Person
from worker.domain import orders
from worker.domain.lineage import Lineage, State
from worker.domain.redrive import Status, begun, said
from worker.domain.redrive_plan import MOST_ITEMS, Plan, expected, in_order
from worker.domain.redriven import Chosen, paused_by
from worker.domain.text import clean_text
from worker.ledger import Ledger
from worker.ledger.gate import GateState
from worker.ledger.groups import Group
from worker.ledger.listing import By, Filter, Found, Listing
from worker.ledger.redrive_records import Redrive
from worker.ledger.redrives import Redrives

DEAD = (State.EXHAUSTED, State.REJECTED, State.CANCELLED)
"""States that can be redriven: of the first alone unless told otherwise."""
LOOKED_AT = 300
"""Records read for a plan, the oldest: they tell what would be skipped, and how long a run takes."""
PAGE = 5000
TRIES = 3


@dataclass(frozen=True, slots=True)
class Row:
    """Lineages of a plan that are alike.

    Attributes:
        paused: who paused their workflow, and why; they are left out then. "" when nobody did.
    """

    workflow: str
    name: str
    state: State
    reason: str
    count: int
    paused: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a redrive would do, as of now.

    Attributes:
        rows: what is meant, the largest first.
        looked_at: how many records were read.
        skipped: of those, how many would not be released now, by why.
        typical: how long a run takes, by those records; None when they do not tell.
        takes: how long it would take at least.
        others: redrives that go on already.
    """

    now: datetime
    rows: tuple[Row, ...]
    looked_at: int
    skipped: Mapping[str, int]
    typical: timedelta | None
    takes: timedelta
    gate: GateState
    others: tuple[Redrive, ...]

    @property
    def total(self) -> int:
        """How many lineages would go."""
        return sum(row.count for row in self.rows if not row.paused)


async def preview(ledger: Ledger, wanted: Filter, terms: Plan) -> Preview:
    """Return what a redrive on these terms would do; costs the same however many lineages there are."""
    listing, now = Listing(ledger), ledger.clock.now()
    counts, names = await listing.counts(wanted), await listing.names()
    breakers = await ledger.workflows.breakers()
    paused = {workflow: why for workflow, each in breakers.items() if (why := paused_by(each, now))}
    rows = _rows(counts, names, paused)
    oldest = await listing.find(wanted, by=By.OLDEST, limit=LOOKED_AT)
    lineages = [each for each in await listing.read(oldest) if each.workflow not in paused]
    skipped = Counter(filter(None, map(orders.why_not_retry, lineages)))
    typical = _typical(lineages)
    total = sum(row.count for row in rows if not row.paused)
    redrives = Redrives(ledger)
    going = await redrives.load(await redrives.open())
    return Preview(
        now,
        rows,
        len(lineages),
        _alike(skipped),
        typical,
        expected(terms, total, typical),
        await ledger.gate.look(),
        tuple(each for each in going if not each.standing.status.is_over),
    )


async def start(ledger: Ledger, wanted: Filter, terms: Plan) -> Redrive:
    """Begin a redrive: what is meant now, the oldest first, without workflows that a person paused.

    Raises:
        CommandError: nothing is meant, or too much.
    """
    chosen = await _choose(ledger, wanted, terms.canary)
    if not chosen:
        raise CommandError("nothing to redrive: no lineage is meant, or their workflows are paused", NO)
    redrives, now = Redrives(ledger), ledger.clock.now()
    plan = replace(terms, id=secrets.token_hex(5), total=len(chosen), started_at=now)
    await redrives.add(plan.id, chosen)
    if not await redrives.begin(plan, begun(plan)):
        raise CommandError("the redrive could not be begun: somebody took its items away; try again", NO)
    return (await redrives.load([plan.id]))[0]


async def find(ledger: Ledger, wanted: str | None) -> Redrive:
    """Return the redrive that a person means: by its id, or its beginning; None means the newest.

    Raises:
        CommandError: there is none, or there are several.
    """
    redrives = Redrives(ledger)
    ids = await redrives.ids()
    if wanted is None:
        meant = ids
    elif wanted.casefold() in ids:
        meant = [wanted.casefold()]
    else:  # an empty one is an unset variable of a shell, and means none
        meant = [each for each in ids if wanted and each.startswith(wanted.casefold())]
    if not meant:
        which = "no redrive is on record" if wanted is None else f"no redrive {clean_text(wanted, 40)!r}"
        raise CommandError(f"{which}: kinetic-retry redrive list shows them", NO)
    if wanted is not None and len(meant) > 1:
        raise CommandError(f"{clean_text(wanted, 40)!r} may be {', '.join(meant[:10])}", NO)
    found = await redrives.load(meant[:1])
    if not found:
        raise CommandError(f"the redrive {meant[0]} was forgotten a moment ago", NO)
    return found[0]


async def pause(ledger: Ledger, wanted: str, person: Person) -> Redrive:
    """Release nothing more until a person resumes it; what is under way is followed to its end."""
    return await _say(ledger, wanted, person, Status.PAUSED)


async def resume(ledger: Ledger, wanted: str, person: Person) -> Redrive:
    """Go on: where it was when it was paused, with a new canary when it had stopped by itself."""
    return await _say(ledger, wanted, person, Status.RUNNING)


async def cancel(ledger: Ledger, wanted: str, person: Person) -> Redrive:
    """Release nothing more, ever; what was not released stays as it was."""
    return await _say(ledger, wanted, person, Status.CANCELLED)


_FROM = {
    Status.PAUSED: (Status.RUNNING,),
    Status.RUNNING: (Status.PAUSED, Status.STOPPED),
    Status.CANCELLED: (Status.RUNNING, Status.PAUSED, Status.STOPPED),
}


async def _say(ledger: Ledger, wanted: str, person: Person, to: Status) -> Redrive:
    """Let a redrive stand elsewhere at a person's word.

    Raises:
        CommandError: it cannot, or another person was faster.
    """
    redrives = Redrives(ledger)
    one = first = await find(ledger, wanted)
    for _ in range(TRIES):
        if one.standing.status not in _FROM[to]:
            raise CommandError(_refusal(one, faster=one.standing.version != first.standing.version), NO)
        now = ledger.clock.now()
        standing = said(one.standing, one.plan, to, by=person.by, why=person.why, now=now)
        if await redrives.move(one, standing, drops=to is Status.CANCELLED):
            return (await redrives.load([one.plan.id]))[0]
        one = await find(ledger, one.plan.id)
    raise CommandError(_refusal(one, faster=True), NO)


def _refusal(one: Redrive, *, faster: bool) -> str:
    standing = one.standing
    who = f" by {standing.by}: {standing.why}" if standing.by else f": {standing.why}" if standing.why else ""
    first = "somebody else was faster, nothing is changed: " if faster else ""
    return f"{first}the redrive {one.plan.id} is {standing.status} since {standing.since:%H:%M:%S} UTC{who}"


async def _choose(ledger: Ledger, wanted: Filter, canary: int) -> list[Chosen]:
    breakers, now = await ledger.workflows.breakers(), ledger.clock.now()
    found: dict[str, Found] = {}
    by_workflow: defaultdict[str, list[str]] = defaultdict(list)
    async for each in _all_of(ledger, wanted):
        if paused_by(breakers.get(each.group.workflow), now):
            continue
        found[each.root] = each
        by_workflow[each.group.workflow].append(each.root)
        if len(found) > MOST_ITEMS:
            raise CommandError(f"more than {MOST_ITEMS} lineages are meant: narrow the filter", NO)
    order = in_order(by_workflow, found, canary)
    return [Chosen(root, found[root].at, place) for place, root in enumerate(order)]


async def _all_of(ledger: Ledger, wanted: Filter) -> AsyncIterator[Found]:
    listing, after = Listing(ledger), None
    while True:
        page = await listing.find(wanted, by=By.OLDEST, after=after, limit=PAGE)
        for each in page.found:
            yield each
        after = page.next
        if after is None:
            return


def _rows(
    counts: Sequence[tuple[Group, int]], names: Mapping[str, str], paused: Mapping[str, str]
) -> tuple[Row, ...]:
    alike: Counter[tuple[str, State, str]] = Counter()
    for group, count in counts:
        alike[group.workflow, group.state, group.reason] += count
    return tuple(
        Row(workflow, names.get(workflow, workflow), state, reason, count, paused.get(workflow, ""))
        for (workflow, state, reason), count in alike.most_common()
    )


def _typical(lineages: Sequence[Lineage]) -> timedelta | None:
    took = [
        (each.ended_at - each.submitted_at).total_seconds()
        for lineage in lineages
        for each in lineage.attempts
        if each.ended_at and not each.joined
    ]
    return timedelta(seconds=max(0.0, median(took))) if took else None


def _alike(skipped: Mapping[str, int]) -> dict[str, int]:
    """Return why items would be skipped, without the names of their clones: alike is counted together."""
    counted: Counter[str] = Counter()
    for why, count in skipped.items():
        words = ("…" if len(word) >= 32 and "-" in word else word for word in why.split())  # noqa: PLR2004  # a uuid
        counted[" ".join(words)] += count
    return dict(counted.most_common())
