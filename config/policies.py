"""Reads `RETRY_POLICY_FILE`: policies for single workflows and what logs say about retrying, in TOML.

Owns the file's format; that of a log table is `config.log_rules`'. A key takes what the variable of the same
name takes, and inherits the default policy's value when it is not given. Which entry is for a workflow is
decided in `worker.domain.policy`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import time
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from config.catalog import text_of
from config.kinds import takes_of
from config.log_rules import MOST_RULES, read_log_rule
from config.policy_keys import KEYS as POLICY_KEYS
from config.policy_keys import ORDERED, NotTakenError, with_values
from config.problems import LONGEST_PATH, Problem, one_of, quoted
from config.redaction import printable
from worker.domain.logs import LogRule
from worker.domain.policy import Policy, PolicyEntry

VARIABLE = "RETRY_POLICY_FILE"
_LISTS = ("quiet_hours", "windows")
"""Keys that take a list of texts as well as one."""
KEYS = ("name", "workflow", "log", *POLICY_KEYS)

_LARGEST_FILE = 1_048_576
_LONGEST_NAME = 100
_NAME_TAKES = f"text of up to {_LONGEST_NAME} characters"
_WORKFLOW_TAKES = "a name pattern such as Eligibility*, a workflow uuid, or a list of them"


@dataclass(slots=True)
class _Entry:
    """One `[[policy]]` table on its way to a `PolicyEntry`."""

    place: str
    table: Mapping[str, Any]
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, key: str, got: Any, takes: str) -> None:
        place = f"{self.place}, {key}"
        self.problems.append(Problem(VARIABLE, _shown(got), takes, place))

    def complain(self, complaint: str) -> None:
        self.problems.append(Problem(VARIABLE, place=self.place, complaint=complaint))


class PolicyFile(NamedTuple):
    """What a policy file says; nothing but its problems when there are any."""

    entries: tuple[PolicyEntry, ...]
    log_rules: tuple[LogRule, ...]
    problems: list[Problem]


def read_policy_file(path: Path, default: Policy) -> PolicyFile:
    """Return the file's entries and log rules in their order, and everything that is wrong with the file.

    Args:
        path: as the person gave it; problems name it.
        default: what an entry inherits, besides the file's rules for every workflow.
    """
    document, problem = _read(path)
    if problem:
        return PolicyFile((), (), [problem])
    problems = [
        Problem(
            VARIABLE, place=path.name, complaint=f"unknown key {quoted(key)}; entries start with [[policy]]"
        )
        for key in document
        if key not in ("policy", "log")
    ]
    log_rules, mistakes = _read_log_rules(path.name, document.get("log", []), "[[log]]")
    problems += mistakes
    default = replace(default, log_rules=log_rules)
    tables = document.get("policy", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        complaint = "policy is not a list of tables; write [[policy]] with two brackets"
        return PolicyFile((), (), [*problems, Problem(VARIABLE, place=path.name, complaint=complaint)])
    entries = []
    for number, table in enumerate(tables, start=1):
        entry = _Entry(f"{path.name} {_called(number, table.get('name'))}", table)
        entries.append(_read_entry(entry, number, default))
        problems.extend(entry.problems)
    return PolicyFile((), (), problems) if problems else PolicyFile(tuple(entries), log_rules, [])


def _read(path: Path) -> tuple[dict[str, Any], Problem | None]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) <= _LARGEST_FILE:
            return tomllib.loads(content.decode("utf-8-sig")), None
        reason = "it is larger than 1 MiB"
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except tomllib.TOMLDecodeError as exc:
        reason = f"it is not valid TOML: {printable(str(exc))}"
    except RecursionError:
        reason = "it is nested too deep"
    except OSError as exc:
        reason = (exc.strerror or "it cannot be opened").lower()
    except ValueError:  # a null byte in the path; an integer of thousands of digits in the file
        reason = "the path, or a number in the file, is not usable"
    return {}, Problem(VARIABLE, complaint=f"cannot read {quoted(str(path), LONGEST_PATH)}: {reason}")


def _called(number: int, name: Any) -> str:
    return f"entry {number} {quoted(name)}" if isinstance(name, str) and name else f"entry {number}"


def _read_entry(entry: _Entry, number: int, default: Policy) -> PolicyEntry:
    for key in entry.table:
        if key not in KEYS:
            near = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {one_of(KEYS)}"
            entry.complain(f"unknown key {quoted(key)}; {hint}")
    workflows = _read_workflows(entry)
    log_rules, mistakes = _read_log_rules(entry.place, entry.table.get("log", []), "[[policy.log]]")
    entry.problems += mistakes
    default = replace(default, log_rules=log_rules + default.log_rules)
    return PolicyEntry(
        name=_read_name(entry, number),
        workflow_uuids=frozenset(workflows),
        name_globs=workflows,
        policy=_read_policy(entry, default),
    )


def _read_log_rules(place: str, tables: Any, brackets: str) -> tuple[tuple[LogRule, ...], list[Problem]]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        complaint = f"log is not a list of tables; write {brackets} with two brackets"
        return (), [Problem(VARIABLE, place=place, complaint=complaint)]
    if len(tables) > MOST_RULES:
        return (), [Problem(VARIABLE, place=place, complaint=f"more than {MOST_RULES} log rules")]
    read = [_Entry(f"{place} log {number}", table) for number, table in enumerate(tables, start=1)]
    rules = [read_log_rule(each) for each in read]
    problems = [problem for each in read for problem in each.problems]
    return tuple(rule for rule in rules if rule), problems


def _read_name(entry: _Entry, number: int) -> str:
    name = entry.table.get("name", f"entry {number}")
    if isinstance(name, str) and name.strip() and name.isprintable() and len(name) <= _LONGEST_NAME:
        return name.strip()
    entry.wrong("name", name, _NAME_TAKES)
    return ""


def _read_workflows(entry: _Entry) -> tuple[str, ...]:
    if "workflow" not in entry.table:
        entry.complain(f"workflow is not set; it takes {_WORKFLOW_TAKES}")
        return ()
    given = entry.table["workflow"]
    workflows = given if isinstance(given, list) else [given]
    if not workflows:
        entry.wrong("workflow", given, _WORKFLOW_TAKES)
    for workflow in workflows:
        if not isinstance(workflow, str) or not workflow.strip():
            entry.wrong("workflow", workflow, _WORKFLOW_TAKES)
    return tuple(workflow.strip() for workflow in workflows if isinstance(workflow, str))


def _read_policy(entry: _Entry, default: Policy) -> Policy:
    """Return the default policy with the entry's values; the default itself after a complaint."""
    values: dict[str, Any] = {}
    given = [name for name in entry.table if name in POLICY_KEYS]
    for name in given:
        text = _text(_joined(entry.table[name]) if name in _LISTS else entry.table[name])
        try:
            if text is None:
                raise NotTakenError(takes_of(POLICY_KEYS[name].field))
            values[name] = POLICY_KEYS[name].read(text)
        except NotTakenError as exc:
            entry.wrong(name, entry.table[name], str(exc))
    if len(values) < len(given):
        return default
    in_order = [_in_order(entry, *pair, values, default) for pair in ORDERED]
    if not all(in_order):
        return default
    policy = with_values(default, values)
    return policy if _ever_opens(entry, policy, values) else default


def _ever_opens(entry: _Entry, policy: Policy, values: Mapping[str, Any]) -> bool:
    """Return whether attempts may ever start; complain of the key that the entry has when they may not."""
    calendar = policy.calendar
    if calendar.ever_opens or not values.keys() & set(_LISTS):
        return True
    key, other, spans = "quiet_hours", "windows", calendar.windows
    if key not in values:
        key, other, spans = "windows", "quiet_hours", calendar.quiet
    inherited = "" if other in values else ", inherited"
    against = f" with {other} ({text_of(spans)}{inherited})" if spans else ""
    entry.wrong(key, entry.table[key], f"spans that leave some time of the week{against}")
    return False


def _in_order(entry: _Entry, shorter: str, longer: str, values: Mapping[str, Any], default: Policy) -> bool:
    """Return whether the first of two keys is not longer than the second; complain when it is."""
    short, long = (values.get(name, POLICY_KEYS[name].value_in(default)) for name in (shorter, longer))
    if short <= long:
        return True
    if shorter in values:
        entry.wrong(shorter, entry.table[shorter], f"at most {longer} ({text_of(long)})")
    else:
        entry.wrong(longer, entry.table[longer], f"at least {shorter} ({text_of(short)}, inherited)")
    return False


def _joined(value: Any) -> Any:
    """Return a list of texts as one text; anything else as it is."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "; ".join(value)
    return value


def _text(value: Any) -> str | None:
    """Return a TOML scalar as the environment would hold it; None for lists, tables and dates."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, time) and not value.second:
        return value.isoformat("minutes")  # TOML's own way to write a time of day
    return str(value) if isinstance(value, (str, int, float)) else None


def _shown(value: Any) -> str:
    match value:
        case str():
            return quoted(value)
        case bool() | int() | float():
            return _text(value) or ""
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a table"
        case _:
            return "a date or time"
