"""What every command has in common: its help, its exit codes, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker.cli import app
from worker.cli.errors import AWAY, NO, WRONG, CommandError

SECRET = "canary-0123456789"


@pytest.mark.parametrize("name", list(app.COMMANDS))
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Something to copy, and a line in the summary of all."""
    words = [name, "explain"] if name == "policy" else [name]
    assert app.run([*words, "--help"]) == 0
    assert "Example" in capsys.readouterr().out
    assert name in app.SUMMARIES


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """And lists every command."""
    assert app.run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "3 Redis or the API cannot be reached" in printed
    assert all(f"  {name} " in printed for name in app.COMMANDS)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """As installed."""
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kinetic-retry, version ")


@pytest.mark.parametrize(
    "words", [["nonsense"], ["show"], ["status", "--nonsense"], ["list", "--limit", "0"]]
)
def test_wrong_usage_is_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With what is wrong, on standard error."""
    assert app.run(words) == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("no such thing", NO), 1, "no such thing\n"),
        (CommandError("wrong", WRONG), 2, "wrong\n"),
        (CommandError("away", AWAY), 3, "away\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_end_with_their_words_and_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing else is printed."""
    monkeypatch.setattr(app.cli, "main", raising(error))
    assert app.run(["status"]) == code
    assert capsys.readouterr().err == said


def test_a_mistake_of_ours_is_one_line_without_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages may quote what must not be shown; the place says enough for a report."""
    monkeypatch.setattr(app.cli, "main", raising(ValueError(SECRET)))
    assert app.run(["status"]) == app.BUG
    said = capsys.readouterr().err
    assert said.startswith("kinetic-retry: unexpected ValueError at test_app.py:")
    assert len(said.splitlines()) == 1
    assert SECRET not in said


def test_a_reader_that_has_seen_enough_hears_no_complaint() -> None:
    """`kinetic-retry config --json | head -1` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "LEDGER_NAMESPACE": "x"}
    code = "import sys; from worker.cli import main; sys.argv[1:] = ['config', '--json']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, env=env, timeout=30, check=False
    )
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("worker.cli.app", {"celery", "httpx", "pydantic", "redis", "rich"}),
        ("worker.cli.health", {"celery", "httpx", "pydantic", "redis", "rich", "asyncio"}),
        (
            "worker.cli.status",
            {"celery", "httpx", "fastapi", "structlog", "opentelemetry.metrics", "re2", "tomllib", "rich"},
        ),
        ("worker.cli.status", {"config.policies", "worker.domain.alerts", "worker.domain.transitions"}),
        ("worker.cli.show", {"celery", "httpx", "fastapi", "structlog"}),
        ("worker.cli.breaker", {"celery", "httpx", "fastapi", "structlog"}),
        ("worker.cli.daemons", {"celery", "httpx", "pydantic", "rich"}),
    ],
)
def test_commands_start_without_what_they_do_not_need(module: str, heavy: set[str]) -> None:
    """An import costs more than most commands do."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert heavy & set(done.stdout.split()) == set()


def raising(error: BaseException) -> object:
    def main(*_: object, **__: object) -> None:
        raise error

    return main
