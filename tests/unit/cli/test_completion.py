"""Completion: a script for each shell, and answers that never take long, print or fail."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from worker.cli import app, completion
from worker.cli.app import cli
from worker.cli.completion import SHELLS, VARIABLE, known


def completed(*words: str, incomplete: str = "") -> list[str]:
    """Return what a shell would be offered."""
    made_by = BashComplete(cli, {}, "kinetic-retry", VARIABLE)
    return [each.value for each in made_by.get_completions(list(words), incomplete)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It calls this program by its name, with the variable that click looks for."""
    assert app.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert VARIABLE in script
    assert "kinetic-retry" in script


def test_commands_options_and_states() -> None:
    """What is known without asking the ledger."""
    assert completed(incomplete="dea") == ["dead"]
    assert "--workflow" in completed("list", incomplete="--w")
    assert completed("list", "--state", incomplete="ex") == ["exhausted"]
    assert set(completed("dead", "--sort", incomplete="o")) == {"oldest"}


def test_names_and_reasons_come_from_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that begin as what was typed, in any case."""
    answers = {"workflows": ["Claim status", "Eligibility, Harbor"], "reasons": ["deterministic"]}
    monkeypatch.setattr(completion, "known", answers.__getitem__)
    assert completed("list", "--workflow", incomplete="elig") == ["Eligibility, Harbor"]
    assert completed("tail", "--workflow", incomplete="") == answers["workflows"]
    assert completed("dead", "--verdict", incomplete="d") == ["deterministic"]


@pytest.mark.parametrize(
    "environment",
    [{"REDIS_URL": "redis://127.0.0.1:1/0"}, {"REDIS_URL": "nonsense"}, {"RETRY_BACKOFF": "nonsense"}],
)
def test_a_ledger_that_does_not_answer_offers_nothing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Soon, and without a word: someone is typing."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    began_s = time.monotonic()
    assert known("workflows") == []
    assert time.monotonic() - began_s < 10
    assert capfd.readouterr() == ("", "")


def test_the_program_answers_a_shell() -> None:
    """As its script asks it, through the real entry point."""
    asked = {"COMP_WORDS": "kinetic-retry dea", "COMP_CWORD": "1", VARIABLE: "bash_complete"}
    answer = subprocess.run(
        [str(Path(sys.executable).with_name("kinetic-retry"))],
        env=asked, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (answer.stdout, answer.stderr) == ("plain,dead\n", "")
