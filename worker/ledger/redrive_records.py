"""How redrives and their items are written down: JSON, times in ms, what is empty is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.domain.redrive import Outcome, Phase, Standing, Status, Tally
from worker.domain.redrive_plan import Plan
from worker.domain.redriven import Chosen, Item, Result
from worker.ledger.clock import from_ms, to_ms
from worker.ledger.packing import compact_fields

_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redrive as it is now.

    Attributes:
        flying: its items without an outcome, by root.
        dropped: items that were pending when it was cancelled.
    """

    plan: Plan
    standing: Standing
    tally: Tally
    flying: Mapping[str, Item]
    dropped: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Its items by where they are; their sum is the plan's total."""
        by_outcome = {each.value: self.tally.outcomes.get(each, 0) for each in Outcome}
        waiting = self.tally.pending + self.dropped
        return {"pending": waiting, "under_way": self.tally.flying, **by_outcome}


def member(chosen: Chosen) -> str:
    """Return how a pending item is named in its index."""
    return f"{chosen.root}{_SEPARATOR}{to_ms(chosen.since)}"


def chosen(member: str, place: int) -> Chosen:
    """Return a pending item from its name."""
    root, since = member.rsplit(_SEPARATOR, 1)
    return Chosen(root, from_ms(int(since)), place)


def load(fields: Mapping[str, str], pending: int, flying: Mapping[str, str], now: datetime) -> Redrive:
    """Return a redrive from its hash, how many items are pending, and those without an outcome."""
    plan, standing = load_plan(fields["plan"]), load_standing(fields["standing"])
    items = {root: load_item(root, text) for root, text in flying.items()}
    left, at = fields.get("tokens"), fields.get("at")
    tokens = plan.tokens(None if left is None else float(left), from_ms(float(at)) if at else None, now)
    tally = Tally(
        pending=pending,
        flying=len(items),
        of_round=sum(each.round == standing.round for each in items.values()),
        outcomes={each: int(fields.get(each.value, 0)) for each in Outcome},
        recent=tuple(sign == "+" for sign in fields.get(f"round:{standing.round}", "")),
        tokens=tokens,
    )
    return Redrive(plan, standing, tally, items, int(fields.get("dropped", 0)))


def dump_plan(plan: Plan) -> str:
    """Return a plan as it is stored."""
    return compact_fields(
        {
            "id": plan.id,
            "by": plan.by,
            "why": plan.why,
            "chosen": plan.chosen,
            "total": plan.total,
            "started_at": to_ms(plan.started_at),
            "canary": plan.canary,
            "rate": plan.rate,
            "stop_share": plan.stop_share,
            "in_flight": plan.in_flight,
        }
    )


def load_plan(text: str) -> Plan:
    """Return a plan from what is stored."""
    stored: dict[str, Any] = json.loads(text)
    words = {name: stored.get(name, "") for name in ("id", "by", "why", "chosen")}
    figures = {name: stored[name] for name in ("total", "canary", "rate", "stop_share", "in_flight")}
    return Plan(**words, **figures, started_at=from_ms(stored["started_at"]))


def dump_standing(standing: Standing) -> str:
    """Return where a redrive stands as it is stored."""
    return compact_fields(
        {
            "version": standing.version,
            "status": standing.status.value,
            "phase": standing.phase.value,
            "since": to_ms(standing.since),
            "round": standing.round,
            "told": standing.told,
            "by": standing.by,
            "why": standing.why,
        }
    )


def load_standing(text: str) -> Standing:
    """Return where a redrive stands from what is stored."""
    stored: dict[str, Any] = json.loads(text)
    return Standing(
        Status(stored["status"]),
        Phase(stored["phase"]),
        from_ms(stored["since"]),
        version=stored["version"],
        round=stored["round"],
        told=stored["told"],
        by=stored.get("by", ""),
        why=stored.get("why", ""),
    )


def dump_item(item: Item) -> str:
    """Return an item as it is stored, without the time: the script that stores it adds that."""
    return compact_fields(
        {
            "since": to_ms(item.chosen.since),
            "place": item.chosen.place,
            "version": item.version,
            "made": item.made,
            "round": item.round,
            "released": item.released,
        }
    )


def load_item(root: str, text: str) -> Item:
    """Return an item from what is stored."""
    stored: dict[str, Any] = json.loads(text)
    return Item(
        Chosen(root, from_ms(stored["since"]), stored["place"]),
        version=stored["version"],
        made=stored["made"],
        round=stored["round"],
        at=from_ms(stored["at"]),
        released=stored.get("released", False),
    )


def dump_result(result: Result) -> str:
    """Return what became of an item as it is stored, without the time."""
    return compact_fields(
        {
            "root": result.root,
            "outcome": result.outcome.value,
            "why": result.why,
            "execution": result.execution,
        }
    )


def load_result(text: str) -> tuple[datetime, Result]:
    """Return what became of an item, and when that was known."""
    stored: dict[str, Any] = json.loads(text)
    outcome = Outcome(stored["outcome"])
    result = Result(stored["root"], outcome, stored.get("why", ""), stored.get("execution", ""))
    return from_ms(stored["at"]), result
