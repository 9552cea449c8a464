"""`python -m tests.guards`: remove each guard in turn, in a copy of the tree, and show its test failing.

With `--write` it writes the tables of `docs/safety.md` instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tests.guards.page import write_page
from tests.guards.table import GUARDS, Guard

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("config", "simulator", "worker", "tests", "pyproject.toml", "conftest.py", "Procfile")
RED, GREEN = 1, 0
"""Exit codes of pytest: a test failed; all passed."""
LONGEST_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when every guard's test passes with it and fails without it."""
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("words", nargs="*", help="only guards whose name or file contains one of these")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/safety.md")
    options = parser.parse_args(arguments)
    if options.write:
        write_page()
        return 0
    chosen = [each for each in GUARDS if not options.words or _is_meant(each, options.words)]
    screen = Console(highlight=False, soft_wrap=True)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        tree = Path(folder)
        _copy(tree)
        if _run(tree, sorted({each.test for each in chosen})) != GREEN:
            screen.print("[red]✗[/] the tests must pass before a guard is removed: make test")
            return 1
        useless = [
            each for each in track(chosen, "guards", console=screen) if not _matters(tree, each, screen)
        ]
    spent_s = time.monotonic() - began_s
    screen.print(f"{len(chosen) - len(useless)} of {len(chosen)} guards turn a test red, in {spent_s:.0f} s")
    return 1 if useless else 0


def _matters(tree: Path, guard: Guard, screen: Console) -> bool:
    """Remove the guard, run its test, put the guard back; return whether the test failed."""
    path = tree / guard.file
    source = path.read_text()
    path.write_text(source.replace(guard.cut, guard.put, 1))
    try:
        failed = _run(tree, [guard.test]) == RED
    finally:
        path.write_text(source)
    mark = "[green]✓ red  [/]" if failed else "[red]✗ green[/]"
    screen.print(f"{mark} {guard.name} [dim]({guard.file}, {guard.where})[/]")
    return failed


def _run(tree: Path, tests: Sequence[str]) -> int:
    """Run tests of the copy; return pytest's exit code, `RED` when they do not end."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "--tb=no",
        *tests,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return RED
    return done.returncode


def _copy(tree: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)


def _is_meant(guard: Guard, words: Sequence[str]) -> bool:
    return any(word in guard.name or word in guard.file for word in words)


if __name__ == "__main__":
    sys.exit(main())
