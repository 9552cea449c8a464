"""`python -m simulator`: the simulated API as a process. Prints one line when it is ready."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from simulator.scenarios import SCENARIOS
from simulator.world import World


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the simulator until it is told to stop."""
    parent = os.getppid()  # first of all: asked later, it may have died already and be nobody's pid
    args = _parser().parse_args(arguments)

    from simulator.app import create_app
    from simulator.faults import Faults
    from simulator.options import Options
    from simulator.server import listen, serve

    rng = random.Random(args.seed)
    world = World(lambda: datetime.now(UTC), rng)
    faults = Faults(random.Random(rng.getrandbits(64)))
    SCENARIOS[args.scenario](world, args.speed)
    try:
        listener = listen(args.host, args.port)
    except OSError as exc:
        sys.exit(f"simulator: cannot listen on {args.host} port {args.port}: {exc.strerror or exc}")
    port = listener.getsockname()[1]
    host = f"[{args.host}]" if ":" in args.host else args.host

    def ready() -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody reads it: that is no reason not to serve
            sys.stdout.write(f"simulator listening on http://{host}:{port}\n")
            sys.stdout.flush()

    app = create_app(world, faults, Options(api_key=args.api_key))
    serve(app, listener, ready, parent=parent if args.exit_with_parent else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator", description="A stand-in for the Kinetic API."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument(
        "--api-key", type=_key, default="simulator-key", help="the key that callers must send"
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same world (default: 1)")
    parser.add_argument(
        "--scenario", choices=sorted(SCENARIOS), default="demo", help="what happens in the world"
    )
    parser.add_argument(
        "--speed", type=_speed, default=1.0, help="how much faster the scenario runs (default: 1)"
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the starting process has died"
    )
    return parser


def _key(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return speed


if __name__ == "__main__":
    main()
