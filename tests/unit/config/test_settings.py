"""Settings: every variable, its rules, the rules between them, and that no secret is ever shown."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from config.catalog import VARIABLES, rows
from config.schema import Settings
from config.settings import SettingsError, load_settings
from worker.domain.breaker import Rule
from worker.domain.budget import Limits, WorkflowLimits
from worker.domain.policy import Backoff, Jitter, Policy

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]

CANARY = "canary/7f3c+%&1"

_ALL = """
    KINETIC_BASE_URL KINETIC_API_KEY KINETIC_ALLOW_HTTP KINETIC_TIMEOUT KINETIC_CONNECT_TIMEOUT
    KINETIC_MAX_CONNECTIONS KINETIC_LOGS KINETIC_LOGS_PATH KINETIC_LOGS_HOSTS
    KINETIC_LIST_PATH KINETIC_LIST_STATUS_PARAM KINETIC_LIST_PAGINATION KINETIC_LIST_LIMIT_PARAM
    KINETIC_LIST_OFFSET_PARAM KINETIC_LIST_PAGE_PARAM KINETIC_LIST_CURSOR_PARAM
    KINETIC_LIST_NEXT_FIELD KINETIC_LIST_ITEMS_FIELD KINETIC_LIST_PAGE_SIZE KINETIC_LIST_ORDER
    KINETIC_LIST_SINCE_PARAM
    REDIS_URL CELERY_BROKER_URL
    LEDGER_NAMESPACE LEDGER_RETENTION LEDGER_EVENTS_MAXLEN LEDGER_WAIT_REPLICAS LEDGER_WAIT_DISK
    DISCOVERY_INTERVAL DISCOVERY_SWEEP DISCOVERY_LOOKBACK DISCOVERY_BACKFILL DISCOVERY_MODE
    DISCOVERY_SURVEY
    RETRY_MAX_ATTEMPTS RETRY_BACKOFF RETRY_BASE_DELAY RETRY_MULTIPLIER RETRY_MAX_DELAY RETRY_JITTER
    RETRY_DEADLINE RETRY_TIMEZONE RETRY_QUIET_HOURS RETRY_WINDOWS RETRY_USELESS_AFTER
    RETRY_PROMPT RETRY_JOIN RETRY_STRIKES RETRY_IN_FLIGHT RETRY_WORKFLOW_IN_FLIGHT
    RETRY_POLICY_FILE
    BREAKER_FAILURES BREAKER_MEMORY BREAKER_FIRST_PAUSE BREAKER_LONGEST_PAUSE
    BUDGET_SHARE BUDGET_FLOOR BUDGET_WINDOW BUDGET_PACE BUDGET_PACE_FLOOR BUDGET_WORKFLOW_SHARE
    BUDGET_WORKFLOW_FLOOR
    SUBMIT_INTERVAL SUBMIT_BATCH SUBMIT_CONCURRENCY SUBMIT_RATE SUBMIT_BURST SUBMIT_LEASE
    WATCH_INTERVAL WATCH_TIMEOUT
    RESOLVE_INTERVAL RESOLVE_GRACE RESOLVE_UNCLEAR
    WORKER_CONCURRENCY
    SERVE_HOST SERVE_PORT METRICS_WORKFLOWS
    TRACING_ENABLED
    ALERT_URLS ALERT_WINDOW ALERT_GATE_AFTER ALERT_TICK_AFTER ALERT_REPEAT ALERT_LINK
    LOG_LEVEL LOG_FORMAT
"""
ALL = _ALL.split()

NONSENSE = "{two words}"
"""Wrong for every kind there is: numbers, durations, choices, names, URLs and paths."""


def test_the_variables_are_the_promised_ones() -> None:
    """No variable is missing, none is there that nobody knows, and the order is the reference's."""
    assert list(VARIABLES) == ALL


def test_defaults(load: Load) -> None:
    """Without anything but the API's address and key, the documented defaults are in force."""
    settings = load()
    assert settings.kinetic.timeout == timedelta(seconds=30)
    assert settings.kinetic.connect_timeout == timedelta(seconds=5)
    assert settings.kinetic.listing.path == "/api/executions"
    assert settings.kinetic.listing.items_field is None
    assert settings.kinetic.listing.since_param == ""
    assert settings.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert settings.broker_url == settings.redis_url
    assert settings.policies.entries == ()
    assert settings.submit.lease == timedelta(minutes=2)
    assert (settings.submit.rate, settings.submit.burst) == (0, 10)
    assert settings.discovery.survey is True
    assert settings.discovery.backfill == timedelta(0)
    assert settings.worker.concurrency == 2
    assert (settings.log.level, settings.log.format) == ("INFO", "json")


def test_the_defaults_are_the_domains(load: Load) -> None:
    """The policy and the limits without any settings are those that the domain has by itself."""
    settings = load()
    assert settings.policy == settings.policies.default == Policy()
    assert settings.limits == Limits()


def test_each_setting_arrives_where_it_belongs(load: Load) -> None:
    """No two of them are mixed up on their way into the policy and the limits."""
    settings = load(
        RETRY_PROMPT="no",
        RETRY_JOIN="off",
        RETRY_STRIKES="4",
        RETRY_IN_FLIGHT="5",
        RETRY_WORKFLOW_IN_FLIGHT="6",
        BREAKER_FAILURES="7",
        BREAKER_MEMORY="8m",
        BREAKER_FIRST_PAUSE="9s",
        BREAKER_LONGEST_PAUSE="10m",
        BUDGET_SHARE="0.11",
        BUDGET_FLOOR="12",
        BUDGET_WINDOW="13m",
        BUDGET_PACE="1.4",
        BUDGET_PACE_FLOOR="15",
        BUDGET_WORKFLOW_SHARE="0.16",
        BUDGET_WORKFLOW_FLOOR="17",
    )
    minute, second = timedelta(minutes=1), timedelta(seconds=1)
    assert settings.policy == Policy(
        prompt=False,
        join=False,
        strikes=4,
        breaker=Rule(failures=7, memory=8 * minute, first_pause=9 * second, longest_pause=10 * minute),
        limits=WorkflowLimits(share=0.16, floor=17, in_flight=6),
    )
    assert settings.limits == Limits(
        share=0.11, floor=12, window=13 * minute, pace=1.4, pace_floor=15, in_flight=5
    )


@pytest.mark.parametrize("name", [name for name in ALL if VARIABLES[name].default])
def test_each_default_is_a_value_one_may_set(name: str, load: Load) -> None:
    """A default, written out, is accepted and changes nothing."""
    default = VARIABLES[name].default
    assert VARIABLES[name].value_in(load(**{name: default})) == VARIABLES[name].value_in(load())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("KINETIC_BASE_URL", "http://127.0.0.1:8000/prefix/", "http://127.0.0.1:8000/prefix/"),
        ("KINETIC_BASE_URL", "http://localhost", "http://localhost"),
        ("KINETIC_BASE_URL", "http://[::1]:80", "http://[::1]:80"),
        ("KINETIC_ALLOW_HTTP", "yes", True),
        ("KINETIC_ALLOW_HTTP", "On", True),
        ("KINETIC_ALLOW_HTTP", "0", False),
        ("KINETIC_TIMEOUT", "1m30s", timedelta(seconds=90)),
        ("KINETIC_TIMEOUT", " 7 ", timedelta(seconds=7)),
        ("KINETIC_LIST_STATUS_PARAM", "", ""),
        ("KINETIC_LIST_LIMIT_PARAM", "", "limit"),
        ("KINETIC_LIST_ITEMS_FIELD", "meta.items", "meta.items"),
        ("KINETIC_LIST_PAGINATION", "Cursor", "cursor"),
        ("LEDGER_NAMESPACE", "team:kinetic", "team:kinetic"),
        ("RETRY_MAX_ATTEMPTS", "0", 0),
        ("RETRY_MAX_ATTEMPTS", "1000", 1000),
        ("RETRY_BACKOFF", "LINEAR", Backoff.LINEAR),
        ("RETRY_JITTER", "none", Jitter.NONE),
        ("RETRY_MULTIPLIER", "1", 1.0),
        ("RETRY_BASE_DELAY", "0", timedelta(0)),
        ("RETRY_DEADLINE", "1ms", timedelta(milliseconds=1)),
        ("RETRY_PROMPT", "off", False),
        ("RETRY_STRIKES", "0", 0),
        ("RETRY_STRIKES", "2", 2),
        ("BREAKER_FAILURES", "0", 0),
        ("BUDGET_SHARE", "0", 0.0),
        ("BUDGET_SHARE", "1000", 1000.0),
        ("BUDGET_WINDOW", "300", timedelta(minutes=5)),
        ("BUDGET_WINDOW", "1d", timedelta(hours=24)),
        ("BUDGET_WORKFLOW_FLOOR", "0", 0),
        ("SUBMIT_RATE", "0.001", 0.001),
        ("SUBMIT_RATE", "0", 0.0),
        ("RESOLVE_GRACE", "0s", timedelta(0)),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("RETRY_POLICY_FILE", "", None),
    ],
)
def test_accepted(name: str, text: str, value: Any, load: Load) -> None:
    """Values at the edge of what is allowed are taken, and arrive in their own type."""
    got = VARIABLES[name].value_in(load(**{name: text}))
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("name", ALL)
def test_nonsense_gives_one_line(name: str, lines: Lines) -> None:
    """One wrong value is one line, which starts with the variable and says what it takes."""
    (line,) = lines(**{name: NONSENSE})
    assert line.startswith(f"{name}: ")
    assert VARIABLES[name].takes in line or name == "RETRY_POLICY_FILE"
    assert (NONSENSE in line) is not VARIABLES[name].secret


def test_all_problems_at_once_in_order(lines: Lines) -> None:
    """A person sees everything there is to change, in the order of the reference, once."""
    found = lines(**dict.fromkeys(ALL, NONSENSE), RETRY_JITER="x")
    assert [line.partition(":")[0] for line in found] == [*ALL, "RETRY_JITER"]


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("KINETIC_TIMEOUT", "soon", 'got "soon", takes a duration such as 30s, 5m or 1h30m'),
        ("KINETIC_TIMEOUT", "0", "longer than zero"),
        ("KINETIC_TIMEOUT", "-5s", "this one is negative"),
        ("RETRY_MAX_DELAY", "4000d", "this one is longer than 10 years"),
        ("DISCOVERY_INTERVAL", "0s", "longer than zero"),
        ("RETRY_DEADLINE", "0", "longer than zero"),
        ("RETRY_MAX_ATTEMPTS", "-1", "a whole number from 0 to 1000"),
        ("RETRY_MAX_ATTEMPTS", "1001", "a whole number from 0 to 1000"),
        ("RETRY_MAX_ATTEMPTS", "2.5", "a whole number from 0 to 1000"),
        ("RETRY_MAX_ATTEMPTS", "9" * 5000, "a whole number from 0 to 1000"),
        ("RETRY_MULTIPLIER", "nan", "a number of at least 1"),
        ("RETRY_MULTIPLIER", "inf", "a number of at least 1"),
        ("RETRY_MULTIPLIER", "0.9", "a number of at least 1"),
        ("RETRY_STRIKES", "1", "takes 0, or a whole number from 2 to 100"),
        ("RETRY_STRIKES", "-1", "takes 0, or a whole number from 2 to 100"),
        ("RETRY_IN_FLIGHT", "-1", "a whole number from 0 to"),
        ("BREAKER_MEMORY", "0", "longer than zero"),
        ("BREAKER_FIRST_PAUSE", "0s", "longer than zero"),
        ("BUDGET_SHARE", "nan", "a number from 0 to 1000"),
        ("BUDGET_SHARE", "inf", "a number from 0 to 1000"),
        ("BUDGET_SHARE", "-0.1", "a number from 0 to 1000"),
        ("BUDGET_SHARE", "50%", "a number from 0 to 1000"),
        ("BUDGET_WINDOW", "4m59s", "a duration from 5m to 24h"),
        ("BUDGET_WINDOW", "25h", "a duration from 5m to 24h"),
        ("BUDGET_PACE_FLOOR", "0", "a whole number from 1 to"),
        ("SERVE_HOST", "127.0.0.1:9464", "without a port"),
        ("SUBMIT_RATE", "1e-9", "takes 0, or a number from 0.001 to 10000"),
        ("SUBMIT_RATE", "-1", "takes 0, or a number from 0.001 to 10000"),
        ("SUBMIT_RATE", "nan", "takes 0, or a number from 0.001 to 10000"),
        ("SUBMIT_BURST", "0", "a whole number from 1 to"),
        ("SUBMIT_BURST", "1.5", "a whole number from 1 to"),
        ("SUBMIT_BATCH", "0", "a whole number from 1 to"),
        ("KINETIC_BASE_URL", "kinetic.example.com", "an address such as"),
        ("KINETIC_BASE_URL", "https://", "an address such as"),
        ("KINETIC_BASE_URL", "https://h:99999", "an address such as"),
        ("KINETIC_BASE_URL", "https://h/?a=1", "without credentials, query"),
        ("KINETIC_BASE_URL", "https://h/#", "without credentials, query"),
        ("KINETIC_BASE_URL", "https://[h", "an address such as"),
        ("KINETIC_BASE_URL", "ftp://h", "an address such as"),
        ("KINETIC_BASE_URL", "https://user:pw@h", "without credentials"),
        ("KINETIC_BASE_URL", "http://kinetic.example.com", "KINETIC_ALLOW_HTTP=true"),
        ("KINETIC_BASE_URL", "http://127.0.0.1.example.com", "KINETIC_ALLOW_HTTP=true"),
        ("KINETIC_BASE_URL", "http://localhost.example.com", "KINETIC_ALLOW_HTTP=true"),
        ("KINETIC_API_KEY", "two words", "printable ASCII"),
        ("KINETIC_API_KEY", "schlüssel", "printable ASCII"),
        ("KINETIC_API_KEY", "a\nb", "printable ASCII"),
        ("KINETIC_LIST_PATH", "api/executions", "a path such as"),
        ("KINETIC_LIST_PATH", "/api?x=1", "without query"),
        ("REDIS_URL", "http://h", "the schemes are redis, rediss, unix or sentinel"),
        ("REDIS_URL", "localhost:6379", "the schemes are"),
        ("REDIS_URL", "redis://h:port/0", "the schemes are"),
        ("REDIS_URL", "redis://h/zero", "a database number"),
        ("CELERY_BROKER_URL", "memory://h", "redis+socket, sentinel, amqp or amqps"),
        ("LEDGER_NAMESPACE", "{tag}", "without spaces or braces"),
        ("LEDGER_NAMESPACE", "a b", "without spaces or braces"),
        ("LEDGER_NAMESPACE", ":a", "without a colon at either end"),
        ("LEDGER_NAMESPACE", "a:", "without a colon at either end"),
        ("LEDGER_NAMESPACE", "n" * 101, "up to 100 characters"),
        ("LOG_FORMAT", "xml", "takes json or console"),
    ],
)
def test_refused(name: str, text: str, takes: str, lines: Lines) -> None:
    """Values beyond the edge are refused, in words that say what would be right."""
    (line,) = lines(**{name: text})
    assert line.startswith(f"{name}: got ")
    assert takes in line
    assert len(line) < 300


def test_hostile_value_stays_on_its_line(lines: Lines) -> None:
    """Escapes, newlines and undecodable bytes in a value do not reach the terminal."""
    (line,) = lines(LOG_FORMAT="\x1b[2J\r\nKINETIC_API_KEY: fine\u202e\udcff")
    assert line.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://:pa%40ss@h:1/2",
        "rediss://user:p@h:6380/0?ssl_cert_reqs=required",
        "unix:///run/redis.sock?db=1",
        "sentinel://a:26379,b:26379/0",
        "redis://[::1]:6379/0",
    ],
)
def test_redis_urls(url: str, load: Load) -> None:
    """Every documented way to reach Redis is accepted, and the broker follows."""
    settings = load(REDIS_URL=url)
    assert settings.redis_url.get_secret_value() == url
    assert settings.origins["CELERY_BROKER_URL"] == "default"


def test_broker_of_a_socket_is_spelt_for_the_broker_library(load: Load) -> None:
    """The broker library has another name for socket files, and for the database in the query."""
    broker = load(REDIS_URL="unix://:pw@/run/r.sock?db=3").broker_url.get_secret_value()
    assert broker == "redis+socket://:pw@/run/r.sock?virtual_host=3"


# --- rules between variables -------------------------------------------------------------------------


def test_http_with_permission(load: Load) -> None:
    """The person may accept the danger of plain http."""
    load(KINETIC_BASE_URL="http://simulator:8000", KINETIC_ALLOW_HTTP="true")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"SUBMIT_LEASE": "35s"},
            'SUBMIT_LEASE: got "35s", takes more than KINETIC_CONNECT_TIMEOUT + KINETIC_TIMEOUT '
            "(5s + 30s = 35s)",
        ),
        (
            {"KINETIC_TIMEOUT": "5m"},
            'SUBMIT_LEASE: got the default "2m", takes more than KINETIC_CONNECT_TIMEOUT + KINETIC_TIMEOUT '
            "(5s + 5m = 5m5s)",
        ),
        ({"RETRY_BASE_DELAY": "5h"}, 'RETRY_BASE_DELAY: got "5h", takes at most RETRY_MAX_DELAY (4h)'),
        ({"RETRY_MAX_DELAY": "30s"}, 'RETRY_MAX_DELAY: got "30s", takes at least RETRY_BASE_DELAY (1m)'),
        (
            {"RETRY_BASE_DELAY": "2s", "RETRY_MAX_DELAY": "1s"},
            'RETRY_BASE_DELAY: got "2s", takes at most RETRY_MAX_DELAY (1s)',
        ),
        (
            {"BREAKER_FIRST_PAUSE": "61m"},
            'BREAKER_FIRST_PAUSE: got "61m", takes at most BREAKER_LONGEST_PAUSE (1h)',
        ),
        (
            {"BREAKER_LONGEST_PAUSE": "59s"},
            'BREAKER_LONGEST_PAUSE: got "59s", takes at least BREAKER_FIRST_PAUSE (1m)',
        ),
        (
            {"DISCOVERY_LOOKBACK": "30d"},
            'DISCOVERY_LOOKBACK: got "30d", takes less than LEDGER_RETENTION (30d)',
        ),
        (
            {"LEDGER_RETENTION": "1h"},
            'LEDGER_RETENTION: got "1h", takes more than DISCOVERY_LOOKBACK (24h)',
        ),
    ],
)
def test_rule_names_what_the_person_changed(changes: dict[str, str], line: str, lines: Lines) -> None:
    """A broken rule is one line with the figures, at the variable that the person set or has to set."""
    assert lines(**changes) == [line]


def test_rules_also_hold_beside_other_problems(lines: Lines) -> None:
    """A wrong value does not hide a broken rule, and a rule says nothing of a value that is wrong anyway."""
    found = lines(SUBMIT_LEASE="3s", LOG_LEVEL="loud", RETRY_MAX_DELAY="never", RETRY_BASE_DELAY="5h")
    assert [line.partition(":")[0] for line in found] == ["RETRY_MAX_DELAY", "SUBMIT_LEASE", "LOG_LEVEL"]


def test_short_values_for_a_trial_pass(load: Load) -> None:
    """Rules are not stricter than reason: everything at a second, or less, is accepted.

    All but the budget's window: it is counted in slices of minutes.
    """
    names = [name for name, variable in VARIABLES.items() if "duration such as" in variable.takes]
    short = dict.fromkeys(names, "1s") | {"SUBMIT_LEASE": "3s", "LEDGER_RETENTION": "2s"}
    load(**short)
    tiny = dict.fromkeys(names, "10ms") | {"SUBMIT_LEASE": "30ms", "LEDGER_RETENTION": "20ms"}
    load(**tiny)


# --- what is required --------------------------------------------------------------------------------


def test_api_is_required(lines: Lines) -> None:
    """Without the API's address and key there are two lines; an empty value counts as missing."""
    found = lines(KINETIC_BASE_URL="", KINETIC_API_KEY=None)
    assert [line.partition(", ")[0] for line in found] == [
        "KINETIC_BASE_URL: is not set",
        "KINETIC_API_KEY: is not set",
    ]
    assert "KINETIC_API_KEY_FILE" in found[1]


def test_api_is_not_required_for_the_ledger(load: Load, lines: Lines) -> None:
    """Commands that only read the ledger start without the API; what is given must still be right."""
    settings = load(require_api=False, KINETIC_BASE_URL=None, KINETIC_API_KEY=None)
    assert settings.kinetic.base_url == ""
    assert settings.kinetic.api_key.get_secret_value() == ""
    assert len(lines(require_api=False, KINETIC_BASE_URL="nowhere", KINETIC_API_KEY=None)) == 1


def test_settings_cannot_be_changed(load: Load) -> None:
    """What was checked stays as it was checked."""
    settings = load()
    with pytest.raises(ValidationError):
        settings.submit.batch = 0
    with pytest.raises(ValidationError):
        settings.worker = settings.worker


# --- secrets -----------------------------------------------------------------------------------------

WITH_CANARIES = {
    "KINETIC_API_KEY": CANARY,
    "REDIS_URL": "redis://:canary%2F7f3c@h:6379/0",
    "CELERY_BROKER_URL": "redis://user:canary%2F7f3c@h:6379/0?password=canary2",
}


def test_settings_show_no_secret(load: Load) -> None:
    """No way to print settings shows a secret; the `config` rows show the rest of the URLs."""
    settings = load(**WITH_CANARIES)
    shown = [repr(settings), str(settings), repr(settings.kinetic), repr(settings.model_dump())]
    shown += [settings.model_dump_json(), repr(rows(settings))]
    assert not [text for text in shown if "canary" in text]
    values = {row.variable: row.value for row in rows(settings)}
    assert values["KINETIC_API_KEY"] == "***"
    assert values["REDIS_URL"] == "redis://:***@h:6379/0"
    assert values["CELERY_BROKER_URL"] == "redis://user:***@h:6379/0?password=***"


def test_settings_know_their_secrets(load: Load) -> None:
    """The log is given every secret, decoded and as it stands in the URL."""
    assert set(load(**WITH_CANARIES).secrets) >= {CANARY, "canary%2F7f3c", "canary/7f3c", "canary2"}
    assert load().secrets == ("key-of-the-tests",)


@pytest.mark.parametrize(
    "changes",
    [
        {"KINETIC_API_KEY": f"{CANARY} x"},
        {"KINETIC_API_KEY": CANARY, "KINETIC_TIMEOUT": CANARY},
        {"KINETIC_API_KEY": CANARY, "RETRY_POLICY_FILE": CANARY},
        {"KINETIC_APIKEY": CANARY},
        {"KINETIC_BASE_URL": f"https://user:{CANARY}@h"},
        {"KINETIC_BASE_URL": f"{CANARY}@h"},
        {"REDIS_URL": CANARY},
        {"REDIS_URL": f"http://:{CANARY}@h"},
        {"REDIS_URL": f"redis://:{CANARY}@h:port"},
        {"REDIS_URL": f"redis://h:port?password={CANARY}"},
        {"CELERY_BROKER_URL": f"sentinel://:{CANARY}@h ;sentinel://:{CANARY}@h"},
        {"KINETIC_API_KEY": CANARY, "KINETIC_API_KEY_FILE": "key.txt"},
    ],
)
def test_errors_show_no_secret(changes: dict[str, str], load: Load) -> None:
    """No error holds a secret, nor does anything that hangs on it: causes, context, tracebacks."""
    with pytest.raises(SettingsError) as caught:
        load(**changes)
    error = caught.value
    shown = [str(error), repr(error), repr(error.problems), *traceback.format_exception(error)]
    shown.append(repr(pickle.dumps(error.args)))
    assert not [text for text in shown if "canary" in text]
    assert error.__cause__ is None
    assert error.__context__ is None


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Called without arguments, it reads the process' environment and `.env` in the working directory."""
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("KINETIC_API_KEY=from-the-file\n")
    monkeypatch.setenv("KINETIC_BASE_URL", "https://h")
    settings = load_settings()
    assert settings.kinetic.api_key.get_secret_value() == "from-the-file"
    assert settings.origins["KINETIC_BASE_URL"] == "environment"
