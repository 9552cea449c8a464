"""The policy file: inheritance, order, and every mistake in its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from config.catalog import VARIABLES
from config.policy_keys import KEYS, with_values
from config.schema import Settings
from worker.domain.breaker import Rule
from worker.domain.budget import WorkflowLimits
from worker.domain.policy import Backoff, Jitter, Policy

Load = Callable[..., Settings]
Lines = Callable[..., list[str]]


@pytest.fixture
def policy_file(tmp_path: Path) -> Callable[[str], str]:
    """Writes a policy file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "policies.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def mistakes(lines: Lines, policy_file: Callable[[str], str]) -> Callable[..., list[str]]:
    """Returns the problems of a policy file, without the words that start each line."""

    def of(text: str, **changes: str) -> list[str]:
        found = lines(RETRY_POLICY_FILE=policy_file(text), **changes)
        return [line.removeprefix("RETRY_POLICY_FILE, policies.toml ") for line in found]

    return of


def test_entries_inherit_and_the_first_match_counts(load: Load, policy_file: Callable[[str], str]) -> None:
    """What an entry leaves out comes from the variables; the file's order decides."""
    text = """
        [[policy]]
        name = "eligibility"
        workflow = ["Eligibility*", "0f3c"]
        backoff = "Fixed"
        base_delay = 30
        multiplier = 2

        [[policy]]
        workflow = "*"
        enabled = false
        max_attempts = 0
        jitter = "none"
        deadline = "1h"
        max_delay = "2h"
    """
    settings = load(RETRY_POLICY_FILE=policy_file(text), RETRY_MAX_ATTEMPTS="8", RETRY_DEADLINE="2d")
    policies = settings.policies
    expected = Policy(
        max_attempts=8,
        backoff=Backoff.FIXED,
        base_delay=timedelta(seconds=30),
        multiplier=2.0,
        deadline=timedelta(days=2),
    )
    assert policies.for_workflow("other", "eligibility check") == (expected, "eligibility")
    assert policies.for_workflow("0f3c", "whatever") == (expected, "eligibility")
    last, name = policies.for_workflow("other", "claims")
    assert (name, last.enabled, last.max_attempts, last.jitter) == ("entry 2", False, 0, Jitter.NONE)
    assert (last.deadline, last.max_delay) == (timedelta(hours=1), timedelta(hours=2))
    assert policies.default == settings.policy


def test_each_key_arrives_where_it_belongs(load: Load, policy_file: Callable[[str], str]) -> None:
    """An entry changes what it names and nothing else, also inside the breaker and the limits."""
    text = """
        [[policy]]
        workflow = "A"
        prompt = false
        join = false
        strikes = 0
        in_flight = 2
        breaker_failures = 4
        breaker_memory = "5m"
        breaker_first_pause = "6s"
        breaker_longest_pause = "7m"
        budget_share = 0.8
        budget_floor = 9

        [[policy]]
        workflow = "B"
        budget_floor = 0
        breaker_first_pause = "2m"
    """
    settings = load(RETRY_POLICY_FILE=policy_file(text), BUDGET_WORKFLOW_SHARE="3", BREAKER_FAILURES="9")
    assert settings.policies.for_workflow("A", "")[0] == Policy(
        prompt=False,
        join=False,
        strikes=0,
        breaker=Rule(4, timedelta(minutes=5), timedelta(seconds=6), timedelta(minutes=7)),
        limits=WorkflowLimits(share=0.8, floor=9, in_flight=2),
    )
    assert settings.policies.for_workflow("B", "")[0] == Policy(
        breaker=Rule(failures=9, first_pause=timedelta(minutes=2)), limits=WorkflowLimits(share=3, floor=0)
    )


def test_every_key_overrides_a_variable_of_its_own() -> None:
    """Each key but `enabled` has one, no two share one, and each leads to its place in a policy."""
    variables = [key.variable for key in KEYS.values() if key.variable]
    assert len(set(variables)) == len(variables) == len(KEYS) - 1
    assert set(variables) <= set(VARIABLES)
    assert KEYS["in_flight"].variable == "RETRY_WORKFLOW_IN_FLIGHT"
    assert KEYS["budget_share"].variable == "BUDGET_WORKFLOW_SHARE"
    assert KEYS["budget_floor"].variable == "BUDGET_WORKFLOW_FLOOR"
    values = {name: key.value_in(Policy()) for name, key in KEYS.items()}
    assert with_values(Policy(), values) == Policy()


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_empty_file(text: str, load: Load, policy_file: Callable[[str], str]) -> None:
    """A file without entries changes nothing."""
    assert load(RETRY_POLICY_FILE=policy_file(text)).policies.entries == ()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("max_atempts = 3", 'entry 1: unknown key "max_atempts"; did you mean max_attempts?'),
        ("xyzzy = 3", 'entry 1: unknown key "xyzzy"; there are name, workflow, '),
        ("max_attempts = -1", "entry 1, max_attempts: got -1, takes a whole number from 0 to 1000"),
        ("max_attempts = true", "entry 1, max_attempts: got true, takes a whole number"),
        ("max_attempts = [1]", "entry 1, max_attempts: got a list, takes a whole number"),
        ('backoff = "slow"', 'entry 1, backoff: got "slow", takes fixed, linear or exponential'),
        ('base_delay = "soon"', 'entry 1, base_delay: got "soon", takes a duration such as'),
        ("base_delay = -5", "entry 1, base_delay: got -5, takes a duration"),
        ("base_delay = 09:00:00", "entry 1, base_delay: got a date or time, takes a duration"),
        ('base_delay = "5h"', 'entry 1, base_delay: got "5h", takes at most max_delay (4h)'),
        ('max_delay = "30s"', 'entry 1, max_delay: got "30s", takes at least base_delay (1m, inherited)'),
        ("multiplier = nan", "entry 1, multiplier: got nan, takes a number of at least 1"),
        ("multiplier = 0.5", "entry 1, multiplier: got 0.5, takes a number of at least 1"),
        ("deadline = 0", "entry 1, deadline: got 0, takes a duration"),
        ("strikes = 1", "entry 1, strikes: got 1, takes 0, or a whole number from 2 to 100"),
        ('prompt = "never"', 'entry 1, prompt: got "never", takes true or false'),
        ("join = 3", "entry 1, join: got 3, takes true or false"),
        ("budget_share = inf", "entry 1, budget_share: got inf, takes a number from 0 to 1000"),
        ("budget_floor = 0.5", "entry 1, budget_floor: got 0.5, takes a whole number from 0 to"),
        ("in_flight = []", "entry 1, in_flight: got an empty list, takes a whole number from 0 to"),
        ("breaker_failures = -1", "entry 1, breaker_failures: got -1, takes a whole number from 0 to 100"),
        ("breaker_memory = 0", "entry 1, breaker_memory: got 0, takes a duration"),
        (
            'breaker_first_pause = "2h"',
            'entry 1, breaker_first_pause: got "2h", takes at most breaker_longest_pause (1h)',
        ),
        (
            'breaker_longest_pause = "1s"',
            'entry 1, breaker_longest_pause: got "1s", takes at least breaker_first_pause (1m, inherited)',
        ),
        ("breaker = 3", 'entry 1: unknown key "breaker"; did you mean breaker_'),
        ("budget_pace = 3", 'entry 1: unknown key "budget_pace"; did you mean budget_share?'),
        ('enabled = "maybe"', 'entry 1, enabled: got "maybe", takes true or false'),
        ("name = 3", "entry 1, name: got 3, takes text of up to 100 characters"),
        ('name = ""', 'entry 1, name: got "", takes text'),
        ('name = "\\u001b[2J"', 'entry 1 "\\x1b[2J", name: got "\\x1b[2J", takes text'),
    ],
)
def test_mistake_in_an_entry(body: str, problem: str, mistakes: Callable[..., list[str]]) -> None:
    """A mistake is one line that names the file, the entry and the key."""
    (line,) = mistakes(f'[[policy]]\nworkflow = "A*"\n{body}\n')
    assert line.startswith(problem)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("workflow", "problem"),
    [
        ("", "workflow is not set; it takes a name pattern"),
        ("workflow = []", "got an empty list, takes a name pattern"),
        ("workflow = 3", "got 3, takes a name pattern"),
        ("workflow = ['A', '']", 'got "", takes a name pattern'),
    ],
)
def test_mistake_in_workflow(workflow: str, problem: str, mistakes: Callable[..., list[str]]) -> None:
    """An entry that is for no workflow is a mistake."""
    (line,) = mistakes(f"[[policy]]\nmax_attempts = 3\n{workflow}\n")
    assert problem in line


def test_all_mistakes_at_once(mistakes: Callable[..., list[str]]) -> None:
    """Every entry is looked at, together with the variables, in the order of the reference."""
    text = """
        retries = 3
        [[policy]]
        name = "one"
        workflow = "A"
        jitter = "some"
        deadline = "x"
        [[policy]]
        worklow = "B"
    """
    found = mistakes(text, LOG_LEVEL="loud", KINETIC_TIMEOUT="soon")
    assert [line.partition(": ")[0] for line in found] == [
        "KINETIC_TIMEOUT",
        "RETRY_POLICY_FILE, policies.toml",
        'entry 1 "one", jitter',
        'entry 1 "one", deadline',
        "entry 2",
        "entry 2",
        "LOG_LEVEL",
    ]


def test_wrong_default_is_not_blamed_on_entries(mistakes: Callable[..., list[str]]) -> None:
    """When a variable is wrong, entries that inherit it are not complained about as well."""
    text = '[[policy]]\nworkflow = "A"\nbase_delay = "6h"\n'
    text += '[[policy]]\nworkflow = "B"\nbreaker_first_pause = "2h"\n'
    for changes in (
        {"RETRY_MAX_DELAY": "never", "BREAKER_LONGEST_PAUSE": "never"},
        {"RETRY_BASE_DELAY": "5h", "BREAKER_FIRST_PAUSE": "61m"},
    ):
        assert [line.partition(":")[0] for line in mistakes(text, **changes)] == list(changes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"[[policy]", "it is not valid TOML"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b"x = " + b"[" * 5000, "RETRY_POLICY_FILE"),
        (b"x = " + b"9" * 5000, "RETRY_POLICY_FILE"),
        (b"#" * 1_100_000, "larger than 1 MiB"),
    ],
)
def test_unusable_file(content: bytes | None, reason: str, lines: Lines, tmp_path: Path) -> None:
    """A file that cannot be read is one line that names its path and the reason."""
    path = tmp_path / "p.toml"
    if content is not None:
        path.write_bytes(content)
    (line,) = lines(RETRY_POLICY_FILE=str(path))
    assert line.startswith(f'RETRY_POLICY_FILE: cannot read "{path}": ')
    assert reason in line


@pytest.mark.parametrize("text", ["policy = 3", "[policy]\nworkflow = 'A'", "policy = [1]"])
def test_policy_must_be_a_list_of_tables(text: str, mistakes: Callable[..., list[str]]) -> None:
    """The usual slip, one bracket instead of two, is explained."""
    (line,) = mistakes(text)
    assert "[[policy]] with two brackets" in line


def test_key_of_the_api_in_the_file_is_not_shown(lines: Lines, policy_file: Callable[[str], str]) -> None:
    """A secret that strayed into the policy file is masked like everywhere else."""
    text = '[[policy]]\nname = "canary-1"\nworkflow = "A"\njitter = "canary-1"\n'
    (line,) = lines(RETRY_POLICY_FILE=policy_file(text), KINETIC_API_KEY="canary-1")
    assert "canary" not in line
