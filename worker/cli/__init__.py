"""The command line `kinetic-retry`. Commands are imported when they are asked for: each starts fast."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point of `kinetic-retry`."""
    if sys.argv[1:2] == ["health"]:  # every few seconds in every container: click would double its cost
        from worker.health import main as answer

        code = answer(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    from worker.cli.app import run

    sys.exit(run(sys.argv[1:]))
