"""What an entry of the policy file may say of its workflows: the keys, and where their values belong.

A key shares its words, its bounds and its default with a variable. Owns the way from a key to that variable
and into a `Policy`; what is wrong with a file is said by `config.policies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from config.kinds import NOT_THIS, takes_of
from config.schema import BreakerSettings, BudgetSettings, Group, RetrySettings
from worker.domain.policy import Policy


class NotTakenError(ValueError):
    """A key does not take the value; `str()` finishes the sentence "takes …"."""


class _Entry(Group):
    prefix = title = ""

    enabled: bool = Field(True)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the policy file.

    Attributes:
        group, name: the field that says what it takes.
        part, attribute: where its value is in a `Policy`; part "" for the policy itself.
    """

    group: type[Group]
    name: str
    part: str
    attribute: str

    @property
    def field(self) -> FieldInfo:
        """What the key takes and how it is read."""
        return self.group.model_fields[self.name]

    @property
    def variable(self) -> str:
        """The variable that the key overrides; "" for `enabled`, which has none."""
        return f"{self.group.prefix}{self.name}".upper() if self.group.prefix else ""

    def read(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            NotTakenError: in the words of the variable.
        """
        try:
            return getattr(self.group.model_validate({self.name: text}), self.name)
        except ValidationError as exc:
            error = exc.errors(include_url=False, include_input=False)[0]
        raise NotTakenError(error["msg"] if error["type"] == NOT_THIS else takes_of(self.field))

    def value_in(self, policy: Policy) -> Any:
        """Return what a policy has for this key."""
        return getattr(getattr(policy, self.part) if self.part else policy, self.attribute)


_RETRY = (
    *("max_attempts", "backoff", "base_delay", "multiplier", "max_delay", "jitter", "deadline"),
    *("prompt", "join", "strikes"),
)
_CALENDAR = (
    ("timezone", "timezone"),
    ("quiet_hours", "quiet"),
    ("windows", "windows"),
    ("useless_after", "useless_after"),
)
_BREAKER = ("failures", "memory", "first_pause", "longest_pause")

KEYS: Mapping[str, Key] = {
    "enabled": Key(_Entry, "enabled", "", "enabled"),
    **{name: Key(RetrySettings, name, "", name) for name in _RETRY},
    **{name: Key(RetrySettings, name, "calendar", attribute) for name, attribute in _CALENDAR},
    "in_flight": Key(RetrySettings, "workflow_in_flight", "limits", "in_flight"),
    **{f"breaker_{name}": Key(BreakerSettings, name, "breaker", name) for name in _BREAKER},
    "budget_share": Key(BudgetSettings, "workflow_share", "limits", "share"),
    "budget_floor": Key(BudgetSettings, "workflow_floor", "limits", "floor"),
}
"""In the order of the reference."""

ORDERED = (("base_delay", "max_delay"), ("breaker_first_pause", "breaker_longest_pause"))
"""Keys of which the first must not be longer than the second."""


def with_values(policy: Policy, values: Mapping[str, Any]) -> Policy:
    """Return the policy with other values for some keys.

    Raises:
        ValueError: values that are not possible together.
    """
    parts: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        parts.setdefault(KEYS[name].part, {})[KEYS[name].attribute] = value
    changes = parts.pop("", {})
    changes |= {part: replace(getattr(policy, part), **its) for part, its in parts.items()}
    return replace(policy, **changes)
