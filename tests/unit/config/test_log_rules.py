"""Log rules in the policy file: what they mean, where they apply, and every mistake in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from config.log_rules import MOST_RULES, Pattern, PatternError
from config.policies import PolicyFile, read_policy_file
from config.schema import Settings
from worker.domain.logs import Then, first_match
from worker.domain.policy import Policy
from worker.runtime import log_reader

Read = Callable[[str], PolicyFile]
Load = Callable[..., Settings]
Lines = Callable[..., list[str]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads a policy file that holds the given text."""

    def of(text: str) -> PolicyFile:
        path = tmp_path / "policies.toml"
        path.write_text(text, encoding="utf-8")
        return read_policy_file(path, Policy())

    return of


def test_an_entrys_own_rules_come_before_those_for_every_workflow(read: Read) -> None:
    """The order is: the entry's, then the file's, each as they were written."""
    file = read(
        r"""
        [[log]]
        pattern = 'invalid credentials'
        then = "hold"

        [[log]]
        pattern = 'timed? ?out'
        then = "Retry"
        name = "slow portal"

        [[policy]]
        workflow = "Claims*"

        [[policy.log]]
        pattern = '^.* login failed: \w+'
        then = "stop"

        [[policy]]
        workflow = "*"
        """
    )
    assert file.problems == []
    names = ["invalid credentials", "slow portal"]
    assert [rule.name for rule in file.log_rules] == names
    assert [rule.then for rule in file.log_rules] == [Then.HOLD, Then.RETRY]
    claims, others = (entry.policy.log_rules for entry in file.entries)
    assert [rule.name for rule in claims] == [r"^.* login failed: \w+", *names]
    assert others == file.log_rules
    text = "INFO x\nERROR login failed: INVALID credentials\n"
    found, general = first_match(claims, text), first_match(others, text)
    assert found
    assert general
    assert (found.then, general.then) == (Then.STOP, Then.HOLD)


def test_without_log_tables_there_are_no_rules(read: Read) -> None:
    """Nothing changes for those who do not ask for it."""
    file = read('[[policy]]\nworkflow = "*"\n')
    assert (file.log_rules, file.entries[0].policy.log_rules) == ((), ())


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("invalid credentials", "x\nInvalid Credentials: y", True),
        ("(?-i)ERROR", "error", False),
        ("^b$", "a\nb\nc", True),
        ("^b$", "ab\nbc", False),
        ("a.b", "a\nb", False),
        (r"a\sb", "a\nb", False),
        ("a[^x]+b", "a\nb", False),
        ("(?s)a.*b", "a\nb", False),
        ("a|^c", "b\nc", True),
        ("ärger", "ÄRGER", True),
        ("ab", "a\ufffdb \ud800", False),
    ],
)
def test_a_pattern_is_searched_line_by_line_in_any_case(pattern: str, text: str, matches: bool) -> None:
    """No match spans two lines, whatever the pattern says, and `^` and `$` are the ends of a line."""
    assert Pattern(pattern).search(text) is matches


def test_a_pattern_takes_linear_time() -> None:
    """What keeps a backtracking engine busy for longer than anyone waits is over at once."""
    began_s = time.monotonic()
    assert not Pattern(r"(x+x+)+y").search("x" * 262_144)
    assert time.monotonic() - began_s < 10


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?=x)", "invalid perl operator (?= at character 1"),
        (r"(a)(b)\1", r"invalid escape sequence \1 at character 7"),
        ("a*b**", "bad repetition operator ** at character 4"),
        ("ü*|*", "no argument for repetition operator * at character 4"),
        ("[a]b[c", "missing ] [c at character 5"),
        ("(foo", "missing )"),
        ("a)", "unexpected )"),
        ("a{1,2000}", "invalid repetition size {1,2000} at character 2"),
    ],
)
def test_a_bad_pattern_is_refused_with_the_place(pattern: str, words: str) -> None:
    """A person finds the character to change; where the whole pattern is to blame, no place is made up."""
    with pytest.raises(PatternError) as caught:
        Pattern(pattern)
    assert str(caught.value) == words


def test_refusing_writes_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    """The engine's own complaint does not reach stderr beside ours."""
    with pytest.raises(PatternError):
        Pattern("(")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("pattern = '(x'", 'pattern: got "(x", takes a regular expression (RE2); this one has missing )'),
        ("pattern = 'a**'", "this one has bad repetition operator ** at character 2"),
        ("pattern = ''", 'pattern: got "", takes a regular expression (RE2) of up to 1000 characters'),
        ("pattern = 3", "pattern: got 3, takes a regular expression"),
        ('pattern = "a\\nb"', 'pattern: got "a\\nb", takes a regular expression (RE2) of up to 1000'),
        (f"pattern = '{'a' * 1001}'", "takes a regular expression (RE2) of up to 1000 characters"),
        ("pattern = 'a'\nthen = 'give up'", 'then: got "give up", takes retry, stop or hold'),
        ("pattern = 'a'\nthen = true", "then: got true, takes retry, stop or hold"),
        ("pattern = 'a'\nname = ''", 'name: got "", takes text of up to 100 characters'),
        ("pattern = 'a'\nname = ['a']", "name: got a list, takes text of up to 100 characters"),
        ("patern = 'a'", 'unknown key "patern"; did you mean pattern?'),
        ("pattern = 'a'\nxyzzy = 1", 'unknown key "xyzzy"; there are pattern, then or name'),
    ],
)
@pytest.mark.parametrize("brackets", ["log", "policy.log"])
def test_mistake_in_a_rule(brackets: str, body: str, problem: str, read: Read) -> None:
    """A mistake is one line that names the file, the table and the key."""
    body = body if "then" in body else f'{body}\nthen = "stop"'
    entry = '[[policy]]\nworkflow = "A*"\n' if brackets == "policy.log" else ""
    good = f'[[{brackets}]]\npattern = "good"\nthen = "stop"\n'
    file = read(f"{entry}{good}[[{brackets}]]\n{body}\n")
    assert (file.entries, file.log_rules) == ((), ())
    first = str(file.problems[0])
    place = "policies.toml entry 1 log 2" if entry else "policies.toml log 2"
    assert first.startswith(f"RETRY_POLICY_FILE, {place}")
    assert problem in first
    assert first.isprintable()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[[log]]\n", ["pattern is not set; it takes a regular", "then is not set; it takes retry, stop or"]),
        ("log = 3\n", ["policies.toml: log is not a list of tables; write [[log]] with two brackets"]),
        ("[log]\npattern = 'a'\n", ["log is not a list of tables; write [[log]] with two brackets"]),
        ("[[policy]]\nworkflow = 'A'\nlog = ['a']\n", ["entry 1: log is not a list of tables; write [[pol"]),
        ("[[log]]\npattern='a'\nthen='stop'\n" * (MOST_RULES + 1), ["more than 100 log rules"]),
        ("[[rule]]\n", ['unknown key "rule"; entries start with [[policy]]']),
    ],
)
def test_mistake_in_the_shape(text: str, problems: list[str], read: Read) -> None:
    """Tables that are none, incomplete or too many are told apart, each in a line."""
    found = [str(each) for each in read(text).problems]
    assert len(found) == len(problems)
    assert all(words in line for words, line in zip(problems, found, strict=True))


def test_rules_for_every_workflow_hold_without_an_entry(load: Load, tmp_path: Path) -> None:
    """A workflow that no entry is for is judged by the file's own rules, and by no entry's."""
    path = tmp_path / "policies.toml"
    rule, own = ("pattern='a'\nthen='stop'\n", "pattern='b'\nthen='hold'\n")
    path.write_text(f"[[log]]\n{rule}[[policy]]\nworkflow='A*'\n[[policy.log]]\n{own}")
    policies = load(RETRY_POLICY_FILE=str(path)).policies
    found = {of: policies.for_workflow("", of)[0].log_rules for of in ("Any", "Other")}
    names = {of: [rule.name for rule in rules] for of, rules in found.items()}
    assert names == {"Any": ["b", "a"], "Other": ["a"]}


def test_policies_compare_by_what_was_written(read: Read) -> None:
    """Two readings of one file are equal, so that a change of the file can be noticed."""
    text = "[[log]]\npattern='a'\nthen='stop'\n"
    assert read(text) == read(text)
    assert read(text) != read(text.replace("'a'", "'b'"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KINETIC_LOGS", "Path"),
        ("KINETIC_LOGS_PATH", "/v2/{execution_uuid}/log.txt"),
        ("KINETIC_LOGS_HOSTS", "logs.example.com, *.storage.example.com:8443,127.0.0.1:9000,minio"),
    ],
)
def test_settings_that_are_fine(variable: str, value: str, load: Load) -> None:
    """What the reader needs can be said, and what the settings let through it takes."""
    settings = load(**{"KINETIC_LOGS": "url", variable: value})
    assert log_reader(settings, lambda: pytest.fail("no clock is needed")) is not None


def test_logs_are_not_read_by_default(load: Load) -> None:
    """The worker asks nobody for logs unless someone wants it to."""
    assert log_reader(load(), lambda: pytest.fail("no clock is needed")) is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KINETIC_LOGS", "yes"),
        ("KINETIC_LOGS_PATH", "/logs"),
        ("KINETIC_LOGS_PATH", "/{execution_uuid}/{execution_uuid}"),
        ("KINETIC_LOGS_PATH", "{execution_uuid}/logs"),
        ("KINETIC_LOGS_PATH", "/{execution_uuid}?x=1"),
        *(
            ("KINETIC_LOGS_HOSTS", hosts)
            for hosts in (
                "*",
                "*.com",
                "*.0.0.1",
                "logs.*.com",
                "https://logs.example.com",
                "logs.example.com/x",
                "a@logs.example.com",
                "logs.example.com:0",
                "logs.example.com:99999",
                "a..b",
                "a,,b",
                "a b",
                "x" * 300,
            )
        ),
    ],
)
def test_settings_that_are_not(variable: str, value: str, lines: Lines) -> None:
    """A place that could never be meant, or that would allow nearly any, stops the start."""
    (line,) = lines(**{variable: value})
    assert line.startswith(f"{variable}: got ")
