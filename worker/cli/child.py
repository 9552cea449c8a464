"""Starts a program that ends when its parent does: `python -m worker.cli.child PARENT PROGRAM ARGUMENTS…`.

`up` starts everything through this, so that killing `up` leaves nothing behind, not even with SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGTERM at the parent's death (Linux; elsewhere nothing), then become the program."""
    parent, *program = sys.argv[1:]
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        return  # it died before we could ask: no signal would come
    os.execvp(program[0], program)  # noqa: S606  # our own programs, by path


if __name__ == "__main__":
    main()
