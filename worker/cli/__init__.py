"""The command line `kinetic-retry`. Commands are imported when they are asked for: each starts fast."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point of `kinetic-retry`."""
    from worker.cli.app import run

    sys.exit(run(sys.argv[1:]))
