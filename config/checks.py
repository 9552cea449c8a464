"""What several variables must be together, each on its own being fine.

Owns these rules and their wording. Rules are only as strict as reason: short durations for a test are
fine. A rule is not applied when one of its variables is wrong by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from importlib.util import find_spec

from config.catalog import VARIABLES, text_of
from config.kinds import is_loopback, split_url
from config.problems import Problem, quoted
from config.schema import Settings
from worker.domain.durations import format_duration

Got = Callable[[str], str]
"""Returns what a variable got, ready to be shown."""


def together(settings: Settings, wrong: Set[str], got: Got) -> Iterator[Problem]:
    """Yield a problem for each rule that is broken.

    Args:
        settings: with the default in place of each wrong value.
        wrong: variables that already have a problem of their own.
        got: see `Got`.
    """
    rules = (
        *(_https, _lease_outlasts_a_call, _base_within_max, _pauses_in_order, _memory_outlasts_lookback),
        *(_calendar_opens, _tracing_is_installed, _alerts_are_installed),
    )
    for rule in rules:
        names, problem = rule(settings, got)
        if problem and not names & wrong:
            yield problem


Verdict = tuple[Set[str], Problem | None]


def _https(settings: Settings, got: Got) -> Verdict:
    names = {"KINETIC_BASE_URL", "KINETIC_ALLOW_HTTP"}
    kinetic = settings.kinetic
    if not kinetic.base_url or kinetic.allow_http:
        return names, None
    parts = split_url(kinetic.base_url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return names, None
    takes = "an https address (or set KINETIC_ALLOW_HTTP=true, and the API key travels unencrypted)"
    return names, Problem("KINETIC_BASE_URL", got("KINETIC_BASE_URL"), takes)


def _lease_outlasts_a_call(settings: Settings, got: Got) -> Verdict:
    """Hold the lease longer than a call: else another worker takes the lineage while ours still sends it."""
    names = {"SUBMIT_LEASE", "KINETIC_CONNECT_TIMEOUT", "KINETIC_TIMEOUT"}
    connect, call = settings.kinetic.connect_timeout, settings.kinetic.timeout
    if settings.submit.lease > connect + call:
        return names, None
    figures = f"{format_duration(connect)} + {format_duration(call)} = {format_duration(connect + call)}"
    takes = f"more than KINETIC_CONNECT_TIMEOUT + KINETIC_TIMEOUT ({figures})"
    return names, Problem("SUBMIT_LEASE", got("SUBMIT_LEASE"), takes)


def _base_within_max(settings: Settings, got: Got) -> Verdict:
    names = {"RETRY_BASE_DELAY", "RETRY_MAX_DELAY"}
    if settings.retry.base_delay <= settings.retry.max_delay:
        return names, None
    return names, _too_long(
        settings, got, "RETRY_BASE_DELAY", "RETRY_MAX_DELAY", below="at most", above="at least"
    )


def _pauses_in_order(settings: Settings, got: Got) -> Verdict:
    names = {"BREAKER_FIRST_PAUSE", "BREAKER_LONGEST_PAUSE"}
    if settings.breaker.first_pause <= settings.breaker.longest_pause:
        return names, None
    return names, _too_long(
        settings, got, "BREAKER_FIRST_PAUSE", "BREAKER_LONGEST_PAUSE", below="at most", above="at least"
    )


def _memory_outlasts_lookback(settings: Settings, got: Got) -> Verdict:
    """Remember longer than a sweep looks back: else it would find old failures again, as new ones."""
    names = {"DISCOVERY_LOOKBACK", "DISCOVERY_BACKFILL", "LEDGER_RETENTION"}
    looks_back = max(settings.discovery.lookback, settings.discovery.backfill)
    if settings.ledger.retention > looks_back:
        return names, None
    farther = "DISCOVERY_BACKFILL" if looks_back > settings.discovery.lookback else "DISCOVERY_LOOKBACK"
    return names, _too_long(settings, got, farther, "LEDGER_RETENTION", below="less than", above="more than")


def _calendar_opens(settings: Settings, got: Got) -> Verdict:
    """Leave some time of the week: else every failure would wait for its deadline to pass."""
    names = {"RETRY_QUIET_HOURS", "RETRY_WINDOWS"}
    retry = settings.retry
    if retry.calendar.ever_opens:
        return names, None
    against = f" with RETRY_WINDOWS ({text_of(retry.windows)})" if retry.windows else ""
    takes = f"spans that leave some time of the week{against}"
    return names, Problem("RETRY_QUIET_HOURS", got("RETRY_QUIET_HOURS"), takes)


def _tracing_is_installed(settings: Settings, got: Got) -> Verdict:
    names = {"TRACING_ENABLED"}
    if not settings.tracing.enabled or _is_installed("opentelemetry.exporter.otlp.proto.http"):
        return names, None
    complaint = (
        f"got {got('TRACING_ENABLED')}, and OpenTelemetry is not installed; "
        "pip install 'kinetic-retry-worker[tracing]', or leave it out"
    )
    return names, Problem("TRACING_ENABLED", complaint=complaint)


def _alerts_are_installed(settings: Settings, got: Got) -> Verdict:
    names = {"ALERT_URLS"}
    if not settings.alert.addresses or _is_installed("apprise"):
        return names, None
    complaint = (
        f"got {got('ALERT_URLS')}, and Apprise is not installed; "
        "pip install 'kinetic-retry-worker[alerts]', or leave it out"
    )
    return names, Problem("ALERT_URLS", complaint=complaint)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


def _too_long(settings: Settings, got: Got, smaller: str, larger: str, *, below: str, above: str) -> Problem:
    """Return the problem of the variable that the person set; of the smaller one when that is both."""
    changed, limit, relation = smaller, larger, below
    if settings.origins.get(smaller, "default") == "default":
        changed, limit, relation = larger, smaller, above
    figure = text_of(VARIABLES[limit].value_in(settings))
    return Problem(changed, got(changed), f"{relation} {limit} ({figure})")


def not_set(name: str) -> Problem:
    """Return the problem of a required variable that is not set."""
    variable = VARIABLES[name]
    alternative = f" (or {variable.file_name} with the path of a file)" if variable.file_name else ""
    return Problem(name, None, f"{variable.takes}{alternative}")


def got_from(values: dict[str, str], origins: dict[str, str], redact: Callable[[str], str]) -> Got:
    """Return a function that shows what a variable got: quoted, secrets masked, with its origin."""

    def got(name: str) -> str:
        variable = VARIABLES[name]
        if name not in values:
            return f"the default {quoted(variable.default)}"
        shown = variable.shown(values[name])
        text = shown if shown == "***" else quoted(redact(shown))
        return f"{text} from .env" if origins.get(name) == ".env" else text

    return got
