"""The words of messages to people: what happened, to which executions, what happens next, what one can do.

Pure. Names of workflows come from elsewhere: they are cleaned here, also of what chats take for a mention.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import quote

from worker.domain.alerts import Gathered, Kind, Memory, Open, Rules, Severity, Wrong
from worker.domain.text import clean_text

NAME_CHARS = 80
TITLE_CHARS = 160
MOST_LISTED = 20
_DEFUSED = str.maketrans({"@": "(at)", "<": "(", ">": ")", "`": "'"})
"""`@everyone`, `<!channel>`: somebody's workflow name must not wake the whole company."""
_WHAT = {
    Kind.DEAD: ("dead letter", "dead letters"),
    Kind.REJECTED: ("rejected failure", "rejected failures"),
    Kind.HELD: ("held failure", "held failures"),
}
_HAPPENED = {
    Kind.DEAD: "given up: the policy allows no further attempt",
    Kind.REJECTED: "rejected: more attempts would change nothing",
    Kind.HELD: "held: a person has to decide",
}
_NEXT = {
    Kind.DEAD: "nothing by itself. They stay on record; a retry is made only when a person asks for one.",
    Kind.REJECTED: "nothing by itself. They stay on record; a retry is made only when a person asks for one.",
    Kind.HELD: "nothing is sent for them before a person has decided.",
}


def put_gathered(memory: Memory, rules: Rules, now: datetime, each: Gathered) -> None:
    """Put a message about one workflow into the outbox."""
    what = counted(each.count, each.kind)
    severity = Severity.WARNING if each.kind is Kind.HELD else Severity.FAILURE
    lines = [
        f"{_executions(each.count)} of {_name(each)} {'was' if each.count == 1 else 'were'} "
        f"{_HAPPENED[each.kind]} ({_when(each, now)}).",
        f"Why: {_reasons(each)}",
        "The execution:" if each.count == 1 else f"The first of {each.count:,}:",
        *(f"  {_link(rules, execution, each.workflow)}" for execution in each.first),
        f"Next: {_NEXT[each.kind]}",
        "What you can do:",
        *(f"  {line}" for line in _commands(each)),
    ]
    memory.put(now, each.kind.value, severity, _title(rules, f"{what}: {_name(each)}"), "\n".join(lines))


def put_summary(memory: Memory, rules: Rules, now: datetime, several: Sequence[Gathered]) -> None:
    """Put one message about many workflows into the outbox."""
    totals = {kind: sum(each.count for each in several if each.kind is kind) for kind in Kind}
    what = ", ".join(counted(total, kind) for kind, total in totals.items() if total)
    listed = [
        f"  {counted(each.count, each.kind)}: {_name(each)} ({_reasons(each)})"
        for each in several[:MOST_LISTED]
    ]
    rest = [f"  and {len(several) - MOST_LISTED} more"] if len(several) > MOST_LISTED else []
    lines = [
        f"Too much at once for a message each: {what} of {len(several)} more workflows.",
        *listed,
        *rest,
        "Next: nothing by itself; none of them is retried before a person says so.",
        "What you can do:",
        "  kinetic-retry status",
        "  kinetic-retry dead --sort workflow",
        "  kinetic-retry list --state held",
    ]
    title = _title(rules, f"{what} of {len(several)} more workflows")
    memory.put(now, "summary", Severity.FAILURE, title, "\n".join(lines))


def put_wrong(memory: Memory, rules: Rules, now: datetime, wrong: Wrong, known: Open) -> None:
    """Put a message that something is wrong, or is still, into the outbox."""
    again = f"still, for {rough(now - known.since)}: " if known.told_at else ""
    body = f"Since {_clock(known.since)} UTC.\n{wrong.body}"
    memory.put(now, wrong.key, wrong.severity, _title(rules, f"{again}{wrong.what}"), body)


def put_over(memory: Memory, rules: Rules, now: datetime, key: str, known: Open) -> None:
    """Put a message that something is over into the outbox."""
    lasted = rough(known.seen_at - known.since)
    body = (
        f"It began at {_clock(known.since)} UTC and was seen last at {_clock(known.seen_at)} UTC."
        "\nNext: the worker goes on by itself."
    )
    title = _title(rules, f"resolved: {known.what}; it lasted {lasted}")
    memory.put(now, key, Severity.SUCCESS, title, body)


def put_off(memory: Memory, rules: Rules, now: datetime, since: datetime) -> None:
    """Put a message that nobody was told of failures for a while into the outbox."""
    title = f"alerts were off from {_clock(since)} to {_clock(now)} UTC"
    body = (
        "Nobody looked meanwhile, or more happened than the stream of events holds.\n"
        "Next: failures of that time are not told singly; those from now on are. None is lost.\n"
        "What you can do:\n"
        f"  kinetic-retry dead --since {since:%Y-%m-%dT%H:%M:%SZ}\n"
        "  kinetic-retry list --state held"
    )
    memory.put(now, "alerts", Severity.WARNING, _title(rules, title), body)


def put_lost(memory: Memory, rules: Rules, now: datetime) -> None:
    """Put a message that the memory of alerts was lost into the outbox."""
    body = (
        "What they had gathered, or not yet delivered, cannot be read any more. No failure itself is lost.\n"
        "Next: alerts go on with what happens from now on; what is still wrong is told again.\n"
        "What you can do:\n"
        "  kinetic-retry dead\n"
        "  kinetic-retry list --state held\n"
        "  kinetic-retry alert list"
    )
    memory.put(now, "alerts", Severity.FAILURE, _title(rules, "the memory of alerts was damaged"), body)


def counted(count: int, kind: Kind) -> str:
    """Return how many of a kind, in words.

    >>> counted(1, Kind.DEAD), counted(27000, Kind.HELD)
    ('1 dead letter', '27,000 held failures')
    """
    one, many = _WHAT[kind]
    return f"{count:,} {one if count == 1 else many}"


def rough(duration: timedelta) -> str:
    """Return a duration for people, two units at most.

    >>> [rough(timedelta(seconds=s)) for s in (0.4, 61, 840, 3725, 200_000)]
    ['0 s', '1 min 1 s', '14 min', '1 h 2 min', '2 d 7 h']
    """
    rest = max(0, int(duration.total_seconds()))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        parts.append((count, unit))
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    words = [f"{count} {unit}" for position, (count, unit) in enumerate(parts[:2]) if count or not position]
    return " ".join(words)


def safe(text: str, limit: int = NAME_CHARS) -> str:
    """Return untrusted text as one line that no chat takes for a mention or markup.

    >>> safe("hi @everyone <!channel>")
    'hi (at)everyone (!channel)'
    """
    return clean_text(clean_text(text, limit).translate(_DEFUSED), 2 * limit)


def _title(rules: Rules, text: str) -> str:
    return clean_text(f"[{rules.name}] {text}", TITLE_CHARS)


def _name(each: Gathered) -> str:
    if not each.workflow:
        return "many other workflows"
    return safe(each.name) or f"workflow {safe(each.workflow)}"


def _executions(count: int) -> str:
    return f"{count:,} failed execution" + ("" if count == 1 else "s")


def _reasons(each: Gathered) -> str:
    most_first = sorted(each.reasons.items(), key=lambda item: (-item[1], item[0]))
    if len(most_first) == 1:
        return safe(most_first[0][0])
    return ", ".join(f"{safe(reason)} {count:,}" for reason, count in most_first)


def _when(each: Gathered, now: datetime) -> str:
    first, last = _clock(each.begun_at or now), _clock(each.newest_at or now)
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _link(rules: Rules, execution: str, workflow: str) -> str:
    if not rules.link:
        return safe(execution)
    # Not `format`: a template is a person's, and `{0.__class__}` is no link.
    link = rules.link.replace("{workflow_uuid}", quote(workflow, safe=""))
    return f"{safe(execution)}  {link.replace('{execution_uuid}', quote(execution, safe=''))}"


def _word(text: str) -> str:
    """Return text of the API's as one word for a shell; "" where it cannot be copied safely.

    People paste these commands at night: `$(…)` or `;` in a uuid must stay a part of the uuid.
    """
    return shlex.quote(text) if text and safe(text, 200) == text and not text.startswith("-") else ""


def _commands(each: Gathered) -> list[str]:
    workflow = _word(each.workflow)
    whose = f" --workflow {workflow}" if workflow else ""
    # Without its filter the command would be about all workflows; a placeholder names none.
    only = whose or (" --workflow THIS-WORKFLOW" if each.workflow else "")
    first = _word(each.first[0]) if each.first else ""
    one = f"kinetic-retry show {first}" if first else "kinetic-retry status"
    if each.kind is Kind.HELD:
        return [
            one,
            f"kinetic-retry list --state held{whose}",
            "kinetic-retry resolve (or release, cancel) UUID",
        ]
    state = "exhausted" if each.kind is Kind.DEAD else "rejected"
    redrive = f"kinetic-retry redrive{only}" + ("" if each.kind is Kind.DEAD else " --state rejected")
    return [one, f"kinetic-retry list --state {state}{whose}", f"{redrive}   (shows a plan first)"]
