"""How a lineage is written down: one JSON object, times in ms, what is empty left out.

The keys are part of the public face (`docs/ledger.md`): others read them. A worker reads every format up
to its own and refuses newer ones. What has ended is stored packed (`ledger.packing`).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from worker.domain.failures import Signature
from worker.domain.lineage import Attempt, Ending, Intent, Lineage, Order, State, Wish
from worker.ledger.clock import from_ms, to_ms, whole_ms
from worker.ledger.errors import LedgerFormatError
from worker.ledger.packing import compact, pack, unpack

FORMAT = 4
"""2 added what is known of the failure (`failed_as`, `strikes`), `joined` attempts, and the index of what is
in flight; 3 `order` and the index of groups; 4 packs records of what has ended, keeps those in no index but
their group's, and names keys by digests. A worker that does not keep an index must not write beside one that
does."""
_HEAD = ("format", "version", "token")
"""What the scripts look at: never packed."""
_MOMENTS = frozenset(
    {"since", "seen_at", "last_failed_at", "failure_stamp", "due_at", "missing_since", "struck_since"}
    | {"submitted_at", "accepted_at", "ended_at", "at", "lease_until"}
)
"""Packed as milliseconds after `root_failed_at`: most of them are soon after, and then short."""


def stored(lineage: Lineage, write_token: str) -> str:
    """Return the record as it is stored: what `dump` returns, packed where the lineage has ended."""
    record = _record(lineage, write_token)
    if not lineage.state.is_final:
        return _compact(record)
    head = {name: record.pop(name) for name in _HEAD}
    at = record["root_failed_at"]
    body = _moved(_without_blanks(record), -at) | {"root_failed_at": at}
    return _compact(head | {"packed": pack(_compact(body))})


def dump(lineage: Lineage, write_token: str) -> str:
    """Return the record as others see it; `write_token` names the write, so that it recognises itself."""
    return _compact(_record(lineage, write_token))


def _record(lineage: Lineage, write_token: str) -> dict[str, Any]:
    intent, ending, order = lineage.intent, lineage.ended_before, lineage.order
    retried = [lineage.root, *(attempt.clone for attempt in lineage.attempts)]
    return {
        "format": FORMAT,
        "version": lineage.version,
        "token": write_token,
        "state": lineage.state.value,
        "since": to_ms(lineage.since),
        "reason": lineage.reason,
        "detail": lineage.detail,
        "workflow_version": lineage.workflow_version_uuid,
        "workflow": lineage.workflow_uuid,
        "workflow_name": lineage.workflow_name,
        "fingerprint": lineage.fingerprint,
        "source": lineage.source,
        "undated": not lineage.dated,
        "root_failed_at": to_ms(lineage.root_failed_at),
        "seen_at": to_ms(lineage.seen_at),
        "failing": lineage.failing if lineage.failing != lineage.root else "",
        "last_failed_at": to_ms(lineage.last_failed_at),
        "failure_stamp": _ms(lineage.failure_stamp),
        "attempts": [_dump_attempt(*each) for each in zip(retried, lineage.attempts, strict=False)],
        "due_at": _ms(lineage.due_at),
        "delay_ms": _duration_ms(lineage.delay),
        "undelivered": lineage.undelivered or None,
        "conflicts": lineage.conflicts or None,
        "missing_since": _ms(lineage.missing_since),
        "policy": lineage.policy,
        "failed_as": _dump_signature(lineage.signature),
        "strikes": lineage.strikes if lineage.strikes > 1 else None,
        "struck_since": _ms(lineage.struck_since),
        "overruled": lineage.overruled,
        "order": order
        and _without_blanks({"wish": order.wish.value, "of": order.of, "detail": order.detail}),
        "ended_before": ending
        and {"state": ending.state.value, "reason": ending.reason, "detail": ending.detail},
        "intent": intent
        and {
            "token": intent.token,
            "of": intent.of,
            "at": to_ms(intent.at),
            "lease_until": to_ms(intent.lease_until),
            **({"doubted": True} if intent.doubted else {}),
        },
    }


def load(root: str, raw: str | bytes) -> Lineage:
    """Return the lineage of a record.

    Raises:
        LedgerFormatError: the record is damaged, or a newer worker wrote it.
    """
    try:
        record: dict[str, Any] = json.loads(raw)
        written_as = record["format"]
        if written_as > FORMAT:
            raise LedgerFormatError(
                f"lineage {root}: its record has format {written_as}, this worker knows up to {FORMAT}; "
                "it is left to workers of the newer version"
            )
        return _load(root, _unpacked(record) if "packed" in record else record)
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise LedgerFormatError(
            f"lineage {root}: its record cannot be read ({type(exc).__name__}); it is left as it is"
        ) from exc


def _unpacked(record: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(unpack(record["packed"]))
    first = body["root_failed_at"]
    return {**_moved(body, first), "root_failed_at": first, **record}


def _moved(written: Any, by_ms: int) -> Any:
    """Return what is written with every moment in it that much later."""
    if isinstance(written, list):
        return [_moved(each, by_ms) for each in written]
    if not isinstance(written, dict):
        return written
    return {
        name: value + by_ms if name in _MOMENTS else _moved(value, by_ms) for name, value in written.items()
    }


def _load(root: str, record: dict[str, Any]) -> Lineage:
    intent = record.get("intent")
    written = record.get("attempts", [])
    # Each attempt is of the run before it, or says of which.
    retried = [root, *(attempt["clone"] for attempt in written)]
    return Lineage(
        root=root,
        state=State(record["state"]),
        version=record["version"],
        workflow_version_uuid=record.get("workflow_version", ""),
        workflow_uuid=record.get("workflow", ""),
        workflow_name=record.get("workflow_name", ""),
        fingerprint=record.get("fingerprint", ""),
        source=record.get("source", "list"),
        dated=not record.get("undated", False),
        root_failed_at=from_ms(record["root_failed_at"]),
        seen_at=from_ms(record["seen_at"]),
        since=from_ms(record["since"]),
        failing=record.get("failing") or root,
        last_failed_at=from_ms(record["last_failed_at"]),
        failure_stamp=_moment(record.get("failure_stamp")),
        attempts=tuple(map(_load_attempt, retried, written)),
        due_at=_moment(record.get("due_at")),
        delay=_duration(record.get("delay_ms")),
        intent=intent
        and Intent(
            intent["token"],
            intent["of"],
            from_ms(intent["at"]),
            from_ms(intent["lease_until"]),
            intent.get("doubted", False),
        ),
        undelivered=record.get("undelivered", 0),
        conflicts=record.get("conflicts", 0),
        missing_since=_moment(record.get("missing_since")),
        reason=record.get("reason", ""),
        detail=record.get("detail", ""),
        policy=record.get("policy", "default"),
        signature=_load_signature(record),
        strikes=record.get("strikes", 1),
        struck_since=_moment(record.get("struck_since")),
        overruled=record.get("overruled", ""),
        ended_before=_load_ending(record.get("ended_before")),
        order=_load_order(record.get("order")),
    )


def _dump_attempt(run_before: str, attempt: Attempt) -> dict[str, Any]:
    written = {
        "clone": attempt.clone,
        "of": attempt.of if attempt.of != run_before else "",
        "delay_ms": _duration_ms(attempt.delay),
        "submitted_at": to_ms(attempt.submitted_at),
        "accepted_at": to_ms(attempt.accepted_at),
        "evidence": attempt.evidence,
        "alive": attempt.alive,
        "ended_at": _ms(attempt.ended_at),
        "outcome": attempt.outcome,
        "joined": attempt.joined,
    }
    return _without_blanks(written)


def _load_attempt(of: str, written: dict[str, Any]) -> Attempt:
    return Attempt(
        clone=written["clone"],
        of=written.get("of", of),
        delay=_duration(written.get("delay_ms")) or timedelta(0),
        submitted_at=from_ms(written["submitted_at"]),
        accepted_at=from_ms(written["accepted_at"]),
        evidence=written.get("evidence", ""),
        alive=written.get("alive", False),
        ended_at=_moment(written.get("ended_at")),
        outcome=written.get("outcome", ""),
        joined=written.get("joined", False),
    )


def _load_ending(written: dict[str, Any] | None) -> Ending | None:
    return Ending(State(written["state"]), written["reason"], written["detail"]) if written else None


def _load_order(written: dict[str, Any] | None) -> Order | None:
    return Order(Wish(written["wish"]), written.get("of", ""), written["detail"]) if written else None


def _dump_signature(signature: Signature | None) -> dict[str, Any] | None:
    """Return what is known of a failure; its version is the lineage's own."""
    if signature is None:
        return None
    return _without_blanks(
        {
            "steps": signature.n_steps,
            "actions": signature.n_agent_actions,
            "duration_ms": signature.duration_ms,
        }
    )


def _load_signature(record: dict[str, Any]) -> Signature | None:
    written = record.get("failed_as")
    if written is None:
        return None
    version = record.get("workflow_version", "")
    return Signature(version, written.get("steps"), written.get("actions"), written.get("duration_ms"))


def _compact(record: dict[str, Any]) -> str:
    return compact(_without_blanks(record))


def _without_blanks(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is absent, empty or false; a zero is a value."""
    return {key: value for key, value in fields.items() if value is not False and value not in (None, "", [])}


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else to_ms(moment)


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else from_ms(milliseconds)


def _duration_ms(duration: timedelta | None) -> int | None:
    return None if duration is None else whole_ms(duration)


def _duration(milliseconds: int | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=milliseconds)
