"""What must not be in logs and files is found there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.hygiene import PIECE, of_files, of_logs
from tests.chaos.world import CANARY_KEY
from tests.support.daemons import Daemon


def daemon_that_wrote(directory: Path, text: str) -> Daemon:
    output = directory / "worker-0.log"
    output.write_text(text)
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return Daemon("worker", process, output)


def words_about(directory: Path, text: str) -> list[str]:
    return [each.words for each in of_logs([daemon_that_wrote(directory, text)])]


def test_a_clean_log_is_clean(tmp_path: Path) -> None:
    """JSON objects, one a line."""
    assert words_about(tmp_path, '{"event": "list_read"}\n{"event": "retry_accepted"}\n') == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("Unrecoverable error: KeyError", "not JSON"),
        ('["event"]', "not JSON"),
        ('{"event": "x", "exception": "Traceback (most recent call last)"}', "traceback"),
        (f'{{"event": "refused {CANARY_KEY}"}}', "the API key"),
        ('{"event": "x", "payload": {"member_id": "SIM-1"}}', "a payload"),
    ],
)
def test_each_kind_of_dirt_is_found(tmp_path: Path, line: str, word: str) -> None:
    """With the log's name and the line, where there is one."""
    found = words_about(tmp_path, f'{{"event": "fine"}}\n{line}\n')
    assert len(found) == 1
    assert word in found[0]
    assert "worker-0.log" in found[0]


def test_a_word_across_two_pieces_of_a_large_file_is_found(tmp_path: Path) -> None:
    """Files are read by pieces; the seam hides nothing."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file.aof").write_bytes(b"." * (PIECE - 5) + CANARY_KEY.encode() + b"." * 10)
    assert ["the API key" in each.words for each in of_files(tmp_path)] == [True]
