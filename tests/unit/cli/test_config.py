"""`config`: every setting with its source, and no secret from whichever source it came."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from config.catalog import VARIABLES
from tests.support.daemons import OURS
from worker.cli.app import run

KEY, PASSWORD = "canary-key-0123456789", "canary-password"
SECRETS = [
    ("KINETIC_API_KEY", KEY),
    ("REDIS_URL", f"redis://:{PASSWORD}@cache:6379/0"),
    ("REDIS_URL", f"rediss://someone:{PASSWORD}@cache:6379/0"),
    ("REDIS_URL", f"redis://cache:6379/0?password={PASSWORD}"),
    ("REDIS_URL", f"sentinel://:{PASSWORD}@one:26379,two:26379/2?service=cache"),
    ("CELERY_BROKER_URL", f"amqp://someone:{PASSWORD}@queue//"),
    ("CELERY_BROKER_URL", f"sentinel://:{PASSWORD}@one:26379;sentinel://:{PASSWORD}@two:26379"),
]
VIEWS: list[list[str]] = [[], ["--changed"], ["--json"], ["--changed", "--json"]]


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("source", ["environment", ".env"])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_is_shown(
    secret: tuple[str, str],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither the key nor the password of an address, in any view; that it is set is shown."""
    name, text = secret
    if source == "environment":
        monkeypatch.setenv(name, text)
    else:
        (tmp_path / ".env").write_text(f"{name}='{text}'\n")
    for view in VIEWS:
        assert run(["config", *view]) == 0
        captured = capsys.readouterr()
        assert name in captured.out
        assert "***" in captured.out
        assert "canary" not in captured.out + captured.err


def test_no_secret_of_a_file_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As container platforms mount them."""
    (tmp_path / "secret").write_text(f"{KEY}\n")
    monkeypatch.setenv("KINETIC_API_KEY_FILE", "secret")
    for view in VIEWS:
        assert run(["config", *view]) == 0
        captured = capsys.readouterr()
        assert "KINETIC_API_KEY" in captured.out
        assert "canary" not in captured.out + captured.err


@pytest.mark.parametrize("text", [f"http://x:{PASSWORD}@host", f"redis://:{PASSWORD}@", f":{PASSWORD}@host"])
def test_a_wrong_address_is_refused_without_its_password(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, code 2."""
    monkeypatch.setenv("REDIS_URL", text)
    assert run(["config"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("REDIS_URL: got ")
    assert "canary" not in captured.err


def test_every_variable_has_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """With value, source and what it does."""
    assert run(["config", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["variable"] for row in rows} == set(VARIABLES)
    assert all(row["description"] for row in rows)
    assert {row["source"] for row in rows} == {"default"}


def test_changed_is_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment wins over `.env`, and the source says so."""
    (tmp_path / ".env").write_text("WATCH_INTERVAL=7s\nRETRY_MAX_ATTEMPTS=9\n")
    monkeypatch.setenv("WATCH_INTERVAL", "3s")
    assert run(["config", "--changed", "--json"]) == 0
    rows = {row["variable"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: (row["value"], row["source"]) for name, row in rows.items()} == {
        "WATCH_INTERVAL": ("3s", "environment"),
        "RETRY_MAX_ATTEMPTS": ("9", ".env"),
    }
    assert run(["config", "--changed"]) == 0
    printed = capsys.readouterr().out
    assert "WATCH_INTERVAL" in printed
    assert "SUBMIT_INTERVAL" not in printed


@pytest.mark.parametrize("words", [["config"], ["status"], ["list"], ["show", "x"], ["track", "x"]])
def test_wrong_settings_are_a_line_each(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the command: code 2, every problem at once, before anything is asked."""
    monkeypatch.setenv("WATCH_INTERVAL", "often")
    monkeypatch.setenv("RETRY_JITTER", "some")
    monkeypatch.setenv("RETRY_BAES_DELAY", "3s")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sorted(line.partition(":")[0] for line in captured.err.splitlines()) == [
        "RETRY_BAES_DELAY",
        "RETRY_JITTER",
        "WATCH_INTERVAL",
    ]


def test_values_from_outside_are_printable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path with escapes and markup in it stays text."""
    hostile = "p\x1b]0;pwned\x07 [bold red]x \u202e.toml"
    (tmp_path / hostile).write_text("")
    monkeypatch.setenv("RETRY_POLICY_FILE", hostile)
    assert run(["config", "--changed"]) == 0
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)
    assert "[bold red]x" in printed
