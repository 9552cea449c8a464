"""Gathers the text of every variable from the environment, the `.env` file and the `*_FILE` files.

Owns precedence, origins and the search for misspelt names. It does not judge values: that is
`config.kinds` and `config.checks`. The text of a secret passes through here and is in no problem.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dotenv.parser import parse_stream

from config.catalog import VARIABLES, Variable
from config.problems import LONGEST_PATH, Problem, quoted

Origin = Literal["environment", ".env", "file", "default"]

OUR_PREFIXES = (
    *("KINETIC_", "LEDGER_", "DISCOVERY_", "RETRY_", "BREAKER_", "BUDGET_"),
    *("SUBMIT_", "WATCH_", "RESOLVE_"),
)
SHARED_PREFIXES = ("WORKER_", "LOG_", "ALERT_", "SERVE_", "METRICS_", "TRACING_")
"""Other programs' variables start like this too: only a near miss of ours is worth a complaint."""

_NEAR = 0.6
_VERY_NEAR = 0.85

_LARGEST_FILE = 65_536

_SERVICE_LINK = re.compile(
    r"\w+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes sets in every pod for each service: a service "kinetic" gives `KINETIC_SERVICE_HOST`."""


@dataclass(slots=True)
class Gathered:
    """The text of the variables that were given, by name, and what went wrong on the way.

    Attributes:
        values: only what was given; a variable that is missing here has its default.
        origins: the origin of each entry of `values`.
        problems: unreadable files, conflicts and unknown names.
        spoilt: variables whose value could not be had, so that nothing is said about them twice.
    """

    values: dict[str, str] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoilt: set[str] = field(default_factory=set)

    def complain(self, variable: str, problem: Problem) -> None:
        """Note a problem that leaves a variable without a value."""
        self.problems.append(problem)
        self.spoilt.add(variable)


@dataclass(frozen=True, slots=True)
class _Given:
    text: str
    origin: Origin


def gather(environ: Mapping[str, str], env_file: Path | None) -> Gathered:
    """Return what was given for each variable: the environment wins over the `.env` file.

    Names are found in any case. Space around a value does not count, and an empty value counts as
    not given, except where it means something.
    """
    gathered = Gathered()
    given = _layered(
        _by_name(_read_env_file(env_file, gathered), ".env"),
        _by_name(environ, "environment"),
    )
    for variable in VARIABLES.values():
        _take(variable, given, gathered)
    gathered.problems.extend(unknown_names(given))
    return gathered


def unknown_names(names: Mapping[str, object]) -> Iterator[Problem]:
    """Yield a problem for each name that looks like one of ours and is none. Values are never shown.

    >>> [str(p) for p in unknown_names({"RETRY_JITER": 1, "LOG_DIR": 1, "WORKER_CONCURENCY": 1})]
    ... # doctest: +NORMALIZE_WHITESPACE
    ['RETRY_JITER: no variable has this name; did you mean RETRY_JITTER?',
     'WORKER_CONCURENCY: no variable has this name; did you mean WORKER_CONCURRENCY?']
    """
    known = [name for variable in VARIABLES.values() for name in (variable.name, variable.file_name) if name]
    for name in names:
        ours, shared = name.startswith(OUR_PREFIXES), name.startswith(SHARED_PREFIXES)
        if name in known or not (ours or shared) or _SERVICE_LINK.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=_NEAR if ours else _VERY_NEAR)
        if near:
            yield Problem(name, complaint=f"no variable has this name; did you mean {near[0]}?")
        elif ours:
            yield Problem(
                name, complaint="no variable has this name; `kinetic-retry config` lists those there are"
            )


def _take(variable: Variable, given: Mapping[str, _Given], gathered: Gathered) -> None:
    direct = _usable(variable, given.get(variable.name))
    by_file = _usable(variable, given.get(variable.file_name)) if variable.secret else None
    if direct and by_file:
        complaint = (
            f"{variable.file_name} is set as well ({variable.name} in {_place(direct)}, "
            f"{variable.file_name} in {_place(by_file)}); leave one of them out"
        )
        gathered.complain(variable.name, Problem(variable.name, complaint=complaint))
    elif by_file:
        text = _read_secret(variable, by_file.text, gathered)
        if text:
            gathered.values[variable.name], gathered.origins[variable.name] = text, "file"
    elif direct:
        gathered.values[variable.name], gathered.origins[variable.name] = direct.text, direct.origin


def _layered(below: Mapping[str, _Given], above: Mapping[str, _Given]) -> dict[str, _Given]:
    """Return both layers in one; what counts as not given above lets the value below through."""
    meant = {name: given for name, given in above.items() if given.text or _may_be_blank(name)}
    return {**above, **below, **meant}


def _may_be_blank(name: str) -> bool:
    return name in VARIABLES and VARIABLES[name].blank


def _usable(variable: Variable, given: _Given | None) -> _Given | None:
    if given is None or not (given.text or variable.blank):
        return None
    return given


def _place(given: _Given) -> str:
    return "the environment" if given.origin == "environment" else given.origin


def _by_name(values: Mapping[str, str], origin: Origin) -> dict[str, _Given]:
    """Return the values by upper-case name; of two spellings the upper-case one counts."""
    spelt_otherwise = {name.upper(): text for name, text in values.items() if name != name.upper()}
    exact = {name: text for name, text in values.items() if name == name.upper()}
    return {name: _Given(text.strip(), origin) for name, text in (spelt_otherwise | exact).items()}


def _read_secret(variable: Variable, path: str, gathered: Gathered) -> str:
    """Return the content of a secret's file without surrounding space; "" after a complaint."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE).strip()
    except (OSError, ValueError) as exc:  # ValueError: not UTF-8, or a null byte in the path
        complaint = f"cannot read {quoted(path, LONGEST_PATH)}: {_reason(exc)}"
    else:
        if text:
            return text
        complaint = f"the file {quoted(path, LONGEST_PATH)} is empty"
    gathered.complain(variable.name, Problem(variable.file_name, complaint=complaint))
    return ""


def _read_env_file(path: Path | None, gathered: Gathered) -> dict[str, str]:
    """Return the `.env` file's values as they stand: `${NAME}` is not replaced, keys may contain it."""
    if path is None or not path.is_file():  # a directory of that name is somebody's virtual environment
        return {}
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            bindings = list(parse_stream(file))
    except (OSError, ValueError) as exc:
        gathered.problems.append(Problem(path.name, complaint=f"cannot be read: {_reason(exc)}"))
        return {}
    for binding in bindings:
        if binding.error or (binding.key and binding.value is None):
            place, complaint = f"line {binding.original.line}", "is not NAME=value"
            gathered.problems.append(Problem(path.name, place=place, complaint=complaint))
        elif binding.key and binding.value is not None:
            values[binding.key] = binding.value
    return values


def _reason(exc: Exception) -> str:
    """Return why a file could not be read; never its content, which some messages quote."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return "it is not UTF-8 text" if isinstance(exc, UnicodeDecodeError) else "the path is not usable"
