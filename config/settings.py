"""Reads the configuration: one checked, frozen `Settings`, or every problem at once.

Owns the order of the steps. The variables are in `config.schema`, where their text comes from in
`config.sources`, what goes together in `config.checks`. Nothing here starts, connects or logs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from config.catalog import BY_PATH, REQUIRED, VARIABLES, Row, rows
from config.checks import got_from, not_set, together
from config.durations import LONGEST
from config.kinds import NOT_THIS
from config.problems import Problem, SettingsError
from config.redaction import Redactor, url_secrets
from config.schema import Settings
from config.sources import Gathered, gather
from worker.domain.logs import LogRule
from worker.domain.policy import Policy, PolicyEntry

__all__ = ["Problem", "Row", "Settings", "SettingsError", "load_settings", "rows"]

DEFAULT_ENV_FILE = Path(".env")


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = DEFAULT_ENV_FILE,
    require_api: bool = True,
) -> Settings:
    """Return the configuration in force.

    Args:
        environ: the environment; None for the process' own.
        env_file: read when it exists; the environment wins over it. None reads none.
        require_api: False where only the ledger is read: the API's address and key may be missing
            and are then empty.

    Raises:
        SettingsError: with every problem there is.
    """
    gathered = gather(os.environ if environ is None else environ, env_file)
    redact = Redactor(_secrets_in(gathered)).text
    got = got_from(gathered.values, dict(gathered.origins), redact)
    settings, problems = _validate(gathered, got)
    problems += gathered.problems
    wrong = {problem.variable for problem in problems} | gathered.spoilt
    if require_api:
        problems += [not_set(name) for name in REQUIRED if name not in gathered.values.keys() | wrong]
    problems += together(settings, wrong, got)
    entries: tuple[PolicyEntry, ...] = ()
    log_rules: tuple[LogRule, ...] = ()
    if settings.retry.policy_file:
        from config.policies import read_policy_file  # brings RE2 and a parser along

        file = read_policy_file(settings.retry.policy_file, _to_inherit(settings, wrong))
        entries, log_rules = file.entries, file.log_rules
        problems += file.problems
    if problems:
        # Raised outside every `except`, so that no error that holds a raw value hangs on to this one.
        raise SettingsError(_in_order(problems, redact))
    return _completed(settings, entries, log_rules)


def _validate(gathered: Gathered, got: Callable[[str], str]) -> tuple[Settings, list[Problem]]:
    """Return the settings with the default in place of each wrong value, and the wrong values."""
    try:
        return Settings.model_validate(_nested(gathered, ())), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
    problems: dict[str, Problem] = {}
    for error in errors:
        variable = BY_PATH[tuple(str(step) for step in error["loc"])]
        takes = error["msg"] if error["type"] == NOT_THIS else variable.takes
        problems.setdefault(variable.name, Problem(variable.name, got(variable.name), takes))
    return Settings.model_validate(_nested(gathered, problems)), list(problems.values())


def _nested(gathered: Gathered, without: Iterable[str]) -> dict[str, Any]:
    """Return the text of the variables in the shape of `Settings`."""
    tree: dict[str, Any] = {"origins": {name: gathered.origins.get(name, "default") for name in VARIABLES}}
    for variable in VARIABLES.values():
        branch = tree
        for step in variable.path[:-1]:
            branch = branch.setdefault(step, {})
        if variable.name in gathered.values and variable.name not in without:
            branch[variable.path[-1]] = gathered.values[variable.name]
    return tree


def _to_inherit(settings: Settings, wrong: set[str]) -> Policy:
    """Return what policy entries inherit; without limits of its own where those are wrong already."""
    retry, breaker = settings.retry, settings.breaker
    pauses = {"BREAKER_FIRST_PAUSE", "BREAKER_LONGEST_PAUSE"}
    if wrong & pauses or breaker.first_pause > breaker.longest_pause:
        boundless = breaker.model_copy(update={"first_pause": timedelta(0), "longest_pause": LONGEST})
        settings = settings.model_copy(update={"breaker": boundless})
    if not retry.calendar.ever_opens:
        settings = settings.model_copy(update={"retry": retry.model_copy(update={"quiet_hours": ()})})
    if wrong & {"RETRY_BASE_DELAY", "RETRY_MAX_DELAY"} or retry.base_delay > retry.max_delay:
        return replace(Policy(), base_delay=timedelta(0), max_delay=LONGEST, breaker=settings.breaker.rule)
    return settings.policy


def _completed(
    settings: Settings, entries: tuple[PolicyEntry, ...], log_rules: tuple[LogRule, ...]
) -> Settings:
    """Return the settings with what the policy file says and the broker's default."""
    broker = settings.broker_url.get_secret_value() or _broker_for(settings.redis_url.get_secret_value())
    retry = settings.retry.model_copy(update={"entries": entries, "log_rules": log_rules})
    return settings.model_copy(update={"retry": retry, "broker_url": SecretStr(broker)})


def _broker_for(redis_url: str) -> str:
    """Return the same server as the broker library spells it.

    >>> _broker_for("redis://localhost:6379/0"), _broker_for("unix:///run/redis.sock?db=1")
    ('redis://localhost:6379/0', 'redis+socket:///run/redis.sock?virtual_host=1')
    """
    scheme, _, rest = redis_url.partition("://")
    if scheme.lower() != "unix":
        return redis_url
    as_broker = re.sub(r"([?&])db=", r"\1virtual_host=", rest)
    return f"redis+socket://{as_broker}"


def _secrets_in(gathered: Gathered) -> list[str]:
    given = [gathered.values[v.name] for v in VARIABLES.values() if v.secret and v.name in gathered.values]
    return [part for text in given for part in (url_secrets(text) if "://" in text else (text,))]


def _in_order(problems: Iterable[Problem], redact: Callable[[str], str]) -> list[Problem]:
    """Return the problems in the order of the reference; files and unknown names come last."""
    names = [name for variable in VARIABLES.values() for name in (variable.name, variable.file_name)]
    position = {name: number for number, name in enumerate(names)}
    ordered = sorted(problems, key=lambda problem: position.get(problem.variable, len(names)))
    return [
        replace(
            problem,
            got=problem.got and redact(problem.got),
            place=redact(problem.place),
            complaint=redact(problem.complaint),
        )
        for problem in ordered
    ]
