"""Reads `RETRY_POLICY_FILE`: policies for single workflows, in TOML.

Owns the file's format. A key takes what the variable of the same name takes, and inherits the default
policy's value when it is not given. Which entry is for a workflow is decided in `worker.domain.policy`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from config.catalog import text_of
from config.kinds import NOT_THIS, takes_of
from config.problems import LONGEST_PATH, Problem, one_of, quoted
from config.redaction import printable
from config.schema import Group, RetrySettings
from worker.domain.policy import Policy, PolicyEntry

VARIABLE = "RETRY_POLICY_FILE"
POLICY_KEYS = ("max_attempts", "backoff", "base_delay", "multiplier", "max_delay", "jitter", "deadline")
KEYS = ("name", "workflow", "enabled", *POLICY_KEYS)

_LARGEST_FILE = 1_048_576
_LONGEST_NAME = 100
_NAME_TAKES = f"text of up to {_LONGEST_NAME} characters"
_WORKFLOW_TAKES = "a name pattern such as Eligibility*, a workflow uuid, or a list of them"


class _Enabled(Group):
    enabled: bool = Field(True)


_FIELDS = {"enabled": _Enabled.model_fields["enabled"]} | {
    key: RetrySettings.model_fields[key] for key in POLICY_KEYS
}


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


def load_policies(path: Path, default: Policy) -> tuple[tuple[PolicyEntry, ...], list[Problem]]:
    """Return the file's entries in their order, and everything that is wrong with the file.

    Args:
        path: as the person gave it; problems name it.
        default: what an entry inherits.
    """
    document, problem = _read(path)
    if problem:
        return (), [problem]
    problems = [
        Problem(
            VARIABLE, place=path.name, complaint=f"unknown key {quoted(key)}; entries start with [[policy]]"
        )
        for key in document
        if key != "policy"
    ]
    tables = document.get("policy", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        complaint = "policy is not a list of tables; write [[policy]] with two brackets"
        return (), [*problems, Problem(VARIABLE, place=path.name, complaint=complaint)]
    entries = []
    for number, table in enumerate(tables, start=1):
        entry = _Entry(f"{path.name} {_called(number, table.get('name'))}", table)
        entries.append(_read_entry(entry, number, default))
        problems.extend(entry.problems)
    return (() if problems else tuple(entries)), problems


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
    return PolicyEntry(
        name=_read_name(entry, number),
        workflow_uuids=frozenset(workflows),
        name_globs=workflows,
        policy=_read_policy(entry, default),
    )


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
    texts = {key: _text(value) for key, value in entry.table.items() if key in _FIELDS}
    for key, text in texts.items():
        if text is None:
            entry.wrong(key, entry.table[key], takes_of(_FIELDS[key]))
    readable = {key: text for key, text in texts.items() if text is not None}
    values = _validated(
        entry, {key: text for key, text in readable.items() if key in POLICY_KEYS}, RetrySettings
    )
    values |= _validated(entry, {key: text for key, text in readable.items() if key == "enabled"}, _Enabled)
    if len(values) < len(texts):
        return default
    base, longest = values.get("base_delay", default.base_delay), values.get("max_delay", default.max_delay)
    if base > longest:
        _complain_of_delays(entry, text_of(base), text_of(longest))
        return default
    return replace(default, **values)


def _validated(entry: _Entry, texts: Mapping[str, str], model: type[Group]) -> dict[str, Any]:
    """Return the values that are right; complain of the others."""
    wrong: set[str] = set()
    try:
        model.model_validate(texts)
    except ValidationError as exc:
        for error in exc.errors(include_url=False, include_input=False):
            key = str(error["loc"][0])
            wrong.add(key)
            takes = error["msg"] if error["type"] == NOT_THIS else takes_of(_FIELDS[key])
            entry.wrong(key, entry.table[key], takes)
    checked = model.model_validate({key: text for key, text in texts.items() if key not in wrong})
    return {key: getattr(checked, key) for key in texts if key not in wrong}


def _complain_of_delays(entry: _Entry, base: str, longest: str) -> None:
    if "base_delay" in entry.table:
        entry.wrong("base_delay", entry.table["base_delay"], f"at most max_delay ({longest})")
    else:
        entry.wrong("max_delay", entry.table["max_delay"], f"at least base_delay ({base}, inherited)")


def _text(value: Any) -> str | None:
    """Return a TOML scalar as the environment would hold it; None for lists, tables and dates."""
    if isinstance(value, bool):
        return str(value).lower()
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
