"""The variables as a list, in the order of the reference.

Owns the way from a field to its variable and back, and how a value is shown. Made from
`config.schema`; it holds no names or defaults of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.kinds import takes_blank, takes_of
from config.redaction import MASK, clipped, mask_url, printable
from config.schema import VARIABLE_NAMES, Settings
from worker.domain.durations import format_duration

FILE_SUFFIX = "_FILE"

REQUIRED = ("KINETIC_BASE_URL", "KINETIC_API_KEY")

_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable.

    Attributes:
        name: as in the environment.
        path: the attribute names that lead to its value in `Settings`.
        title: heading of its group.
        default: as text, ready for the reference; "" for none.
        takes: finishes the sentence "takes …".
        description: what it does.
        secret: its value is never shown, and `NAME_FILE` may hold it.
        blank: an empty value means something of its own; elsewhere it means "not set".
    """

    name: str
    path: tuple[str, ...]
    title: str
    default: str
    takes: str
    description: str
    secret: bool
    blank: bool

    @property
    def file_name(self) -> str:
        """The variable that names a file with this one's value; "" unless it is a secret."""
        return f"{self.name}{FILE_SUFFIX}" if self.secret else ""

    def value_in(self, settings: Settings) -> Any:
        """Return this variable's value."""
        value: Any = settings
        for attribute in self.path:
            value = getattr(value, attribute)
        return value

    def shown(self, text: str) -> str:
        """Return text that was given for this variable so that it can be shown: secrets masked.

        A URL keeps everything but its credentials. The base URL must not hold any, but somebody tries.
        """
        if self.name.endswith("_URL") and (self.secret or "@" in text):
            return mask_url(text)
        return MASK if self.secret and text else text


class Row(NamedTuple):
    """One line of `kinetic-retry config`: safe to show."""

    variable: str
    value: str
    source: str
    description: str


def text_of(value: Any) -> str:  # noqa: PLR0911  # one for each type
    """Return a value as one would write it in the environment. For secrets: the secret itself."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case timedelta():
            return format_duration(value)
        case time():
            return value.isoformat("minutes")
        case tuple():
            return "; ".join(map(str, value))
        case float():
            return str(value).removesuffix(".0")
        case SecretStr():
            return value.get_secret_value()
        case _:
            return str(value)


def rows(settings: Settings) -> tuple[Row, ...]:
    """Return every variable with the value in force and where it came from, secrets masked."""
    return tuple(
        Row(
            variable.name,
            printable(clipped(variable.shown(text_of(variable.value_in(settings))), _LONGEST_VALUE)),
            settings.origins.get(variable.name, "default"),
            variable.description,
        )
        for variable in VARIABLES.values()
    )


def _walk(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[Variable]:
    nested: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            # In a group its own variables come first; the root's order is the order of the reference.
            if path:
                nested.append((kind, name))
            else:
                yield from _walk(kind, (name,))
        elif field.description:
            yield _variable(model, name, field, path)
    for kind, name in nested:
        yield from _walk(kind, (*path, name))


def _variable(model: Any, name: str, field: FieldInfo, path: tuple[str, ...]) -> Variable:
    return Variable(
        name=VARIABLE_NAMES.get(name, f"{model.prefix}{name}".upper()),
        path=(*path, name),
        title=model.title,
        default=text_of(field.default),
        takes=takes_of(field),
        description=field.description or "",
        secret=isinstance(field.default, SecretStr),
        blank=takes_blank(field),
    )


VARIABLES: Mapping[str, Variable] = {variable.name: variable for variable in _walk(Settings)}
BY_PATH: Mapping[tuple[str, ...], Variable] = {variable.path: variable for variable in VARIABLES.values()}
