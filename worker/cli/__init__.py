"""The command line `kinetic-retry`. Commands are imported when they are asked for: each starts fast."""

from __future__ import annotations

import gc
import sys

LASTING = frozenset({"worker", "beat", "serve", "up"})
"""Commands that go on until they are told to end."""


def main() -> None:
    """Run the command line; the entry point of `kinetic-retry`."""
    if sys.argv[1:2] == ["health"]:  # every few seconds in every container: click would double its cost
        from worker.health import main as answer

        code = answer(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    is_short = not LASTING.intersection(sys.argv[1:2])
    if is_short:
        gc.set_threshold(300_000, 50, 50)  # a tenth of a short command's time went into finding nothing
    from worker.cli.app import run

    code = run(sys.argv[1:])
    if is_short:
        gc.freeze()  # else the interpreter looks through all that was imported before it ends, several times
    sys.exit(code)
