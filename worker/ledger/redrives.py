"""Redrives on record: what was asked for, where they stand, and what became of each of their items.

An item is in one of three places: pending, without an outcome (`flying`), or among the results. One script
moves it from one to the next, so that it is never in two and never in none. How a redrive goes is not decided
here (`domain.redrive`), nor is a lineage changed here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from worker.domain.redrive import MOST_CANARIES, Standing
from worker.domain.redrive_plan import Plan
from worker.domain.redriven import Chosen, Item, Result
from worker.ledger import redrive_records as records
from worker.ledger.clock import to_ms, whole_ms
from worker.ledger.gate import as_mapping
from worker.ledger.jobs import Turn
from worker.ledger.ledger import Ledger
from worker.ledger.packing import compact, compact_fields
from worker.ledger.redrive_records import Redrive
from worker.ledger.scripts import Call, run, script

BATCH = 1000
UNBEGUN_FOR = timedelta(hours=1)
"""How long items are kept of a redrive that is never begun, because whoever began it was interrupted."""
STREAM_PAGE = 1000
MOST_PAGES = 100


class Redrives:
    """The redrives of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._keys = ledger.keys

    async def add(self, redrive_id: str, items: Sequence[Chosen]) -> None:
        """Put items in place for a redrive that is to begin."""
        index = self._keys.redrive_pending(redrive_id)
        for start in range(0, len(items), BATCH):
            pairs = [
                part for each in items[start : start + BATCH] for part in (each.place, records.member(each))
            ]
            await self._all([("ZADD", index, *pairs), ("PEXPIRE", index, whole_ms(UNBEGUN_FOR))])

    async def begin(self, plan: Plan, standing: Standing) -> bool:
        """Begin a redrive whose items are in place; return whether it is begun."""
        keys = self._keys
        facts = {"by": plan.by, "why": plan.why, "chosen": plan.chosen, "total": plan.total}
        answer = await self._run(
            "begin_redrive",
            [
                *(keys.redrive(plan.id), keys.redrive_pending(plan.id)),
                *(keys.redrives, keys.open_redrives, keys.events, keys.counters),
            ],
            plan.id,
            records.dump_plan(plan),
            records.dump_standing(standing),
            standing.told,
            compact({"redrive": plan.id, **facts}),
        )
        return bool(answer[1])

    async def open(self) -> list[str]:
        """Return the redrives that workers have something to do for, the oldest first, in one round trip."""
        found: list[str] = await self._command("ZRANGE", self._keys.open_redrives, 0, -1)
        return found

    async def ids(self) -> list[str]:
        """Return all redrives that are on record, the newest first."""
        found: list[str] = await self._command("ZRANGE", self._keys.redrives, 0, -1, "REV")
        return found

    async def load(self, ids: Sequence[str]) -> list[Redrive]:
        """Return redrives, in one round trip, without those that are not on record.

        Nor those that only a newer version can read: they are left to workers of that.
        """
        commands: list[Sequence[object]] = []
        for each in ids:
            commands += [
                ("HGETALL", self._keys.redrive(each)),
                ("ZCARD", self._keys.redrive_pending(each)),
                ("HGETALL", self._keys.redrive_flying(each)),
            ]
        answers = await self._all(commands)
        found, now = [], self._ledger.clock.now()
        for start in range(0, len(answers), 3):
            fields, pending, flying = answers[start : start + 3]
            with suppress(KeyError, TypeError, ValueError):
                found.append(records.load(as_mapping(fields), pending, as_mapping(flying), now))
        return found

    async def next(self, redrive_id: str, count: int, start: int = 0) -> list[Chosen]:
        """Return the items whose turn comes next, or from the `start`-th of them on."""
        answer = await self._command(
            "ZRANGE", self._keys.redrive_pending(redrive_id), start, start + count - 1, "WITHSCORES"
        )
        pairs = (
            answer
            if answer and isinstance(answer[0], (list, tuple))
            else zip(answer[::2], answer[1::2], strict=True)
        )
        return [records.chosen(member, int(float(place))) for member, place in pairs]

    async def move(self, redrive: Redrive, to: Standing, *, drops: bool = False) -> bool:
        """Let it stand elsewhere and say so in the stream; False when it moved on since it was read.

        Args:
            redrive: as it was read.
            to: the next version of where it stands.
            drops: whether what is pending will never go.
        """
        keys, plan = self._keys, redrive.plan
        facts = {"redrive": plan.id, "by": to.by, "why": to.why, "total": plan.total, **redrive.counts}
        answer = await self._run(
            "move_redrive",
            [
                *(keys.redrive(plan.id), keys.redrive_pending(plan.id)),
                *(keys.open_redrives, keys.events, keys.counters),
            ],
            *(plan.id, redrive.standing.version, records.dump_standing(to), int(drops)),
            *(to.told, compact_fields(facts)),
        )
        return bool(answer[1])

    async def note(self, redrive: Redrive, turn: Turn, items: Sequence[Item]) -> set[str]:
        """Write down which items are about to be released; return the roots of those that may be, and are."""
        keys, plan = self._keys, redrive.plan
        told: list[str | float] = [redrive.standing.version, turn.token]
        told += [plan.rate, plan.burst, plan.in_flight]
        for each in items:
            told += [records.member(each.chosen), each.root, records.dump_item(each)]
        answer = await self._run(
            "note_redrive_items",
            [
                *(keys.redrive(plan.id), keys.redrive_pending(plan.id)),
                *(keys.redrive_flying(plan.id), keys.job(turn.job)),
            ],
            *told,
        )
        return set(answer[1:])

    async def confirm(self, redrive_id: str, roots: Sequence[str]) -> None:
        """Note that the orders of these are stored."""
        if roots:
            await self._run("confirm_redrive_items", [self._keys.redrive_flying(redrive_id)], *roots)

    async def put_back(self, redrive_id: str, items: Sequence[Item]) -> None:
        """Let items wait for their turn again whose orders are not stored."""
        told = [
            part for each in items for part in (each.root, records.member(each.chosen), each.chosen.place)
        ]
        keys = [self._keys.redrive_flying(redrive_id), self._keys.redrive_pending(redrive_id)]
        if told:
            await self._run("put_back_redrive_items", keys, *told)

    async def end(self, redrive_id: str, results: Iterable[tuple[Item | Chosen, Result]]) -> int:
        """Put on record what became of items, pending ones and released ones; return how many were new."""
        told: list[str | int] = []
        for item, result in results:
            pending = isinstance(item, Chosen)
            verdict = None if pending else result.outcome.verdict
            told += [result.root, records.member(item) if isinstance(item, Chosen) else ""]
            told += [result.outcome.value, 0 if isinstance(item, Chosen) else item.round]
            told += ["" if verdict is None else "+" if verdict else "-", records.dump_result(result)]
        if not told:
            return 0
        keys = [
            *(self._keys.redrive(redrive_id), self._keys.redrive_pending(redrive_id)),
            *(self._keys.redrive_flying(redrive_id), self._keys.redrive_results(redrive_id)),
        ]
        answer = await self._run("end_redrive_items", keys, MOST_CANARIES, *told)
        return int(answer[1])

    async def close(self, redrive_id: str, version: int) -> bool:
        """Let workers leave it alone, if it is over and has nothing under way; return whether they do."""
        keys = [
            *(self._keys.redrive(redrive_id), self._keys.redrive_flying(redrive_id)),
            self._keys.open_redrives,
        ]
        answer = await self._run("close_redrive", keys, redrive_id, version)
        return bool(answer[1])

    async def results(self, redrive_id: str, start: int, count: int) -> list[tuple[datetime, Result]]:
        """Return what became of items, and when that was known, from the `start`-th on."""
        key = self._keys.redrive_results(redrive_id)
        found = await self._command("LRANGE", key, start, start + count - 1)
        return [records.load_result(text) for text in found]

    async def ordered(self, redrive_id: str, since: datetime) -> set[str]:
        """Return the roots of lineages that got an order of this redrive since then, by the stream of events.

        An order and its event are stored in the same step.
        """
        found: set[str] = set()
        start = str(to_ms(since))
        for _ in range(MOST_PAGES):
            page = await self._command("XRANGE", self._keys.events, start, "+", "COUNT", STREAM_PAGE)
            for _, fields in page:
                event = as_mapping(fields)
                if event.get("event") == "person_decided" and _redrive_of(event) == redrive_id:
                    found.add(event.get("root", ""))
            if len(page) < STREAM_PAGE:
                break
            start = f"({page[-1][0]}"
        return found

    async def forget(self, before: datetime) -> int:
        """Forget redrives that nothing happened to since then; return how many went."""
        ids = await self._command("ZRANGE", self._keys.redrives, "-inf", to_ms(before), "BYSCORE")
        old = [
            each.plan.id
            for each in await self.load(ids)
            if each.standing.status.is_over and not each.flying and each.standing.since < before
        ]
        for each in old:
            names = (self._keys.redrive, self._keys.redrive_pending, self._keys.redrive_flying)
            await self._all(
                [  # by name first: what is listed can be looked at
                    ("ZREM", self._keys.open_redrives, each),
                    ("ZREM", self._keys.redrives, each),
                    ("UNLINK", *(name(each) for name in names), self._keys.redrive_results(each)),
                ]
            )
        return len(old)

    async def _run(self, name: str, keys: Sequence[str], *arguments: str | float) -> list[Any]:
        mark = self._ledger.clock.mark()
        answer: list[Any] = await run(self._ledger.connection, Call(script(name), keys, arguments))
        self._ledger.clock.hear(mark, answer[0])
        return answer

    async def _command(self, *command: object) -> Any:
        return await self._ledger.connection.command(*command)

    async def _all(self, commands: Sequence[Sequence[object]]) -> list[Any]:
        connection = self._ledger.connection
        answers = await connection.pipelined(commands) if commands else []
        for answer in answers:
            if isinstance(answer, Exception):
                raise connection.translated(answer)
        return answers


def _redrive_of(event: Mapping[str, str]) -> str:
    try:
        return str(json.loads(event.get("data", "{}")).get("redrive", ""))
    except (ValueError, AttributeError):
        return ""
