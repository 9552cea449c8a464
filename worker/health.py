"""What a container's health check concludes from the file that worker or beat writes about itself.

Owns the file's place and the verdict. It runs every few seconds in every container and must cost
milliseconds: it asks nobody, and imports nothing but a little of the standard library (no `typing`, no
`dataclasses`, no `tempfile`: each costs more than all the work here). `worker.signs` writes the file.

Red means that starting the process anew is likely to help. Where it is not (no broker, no beat), the verdict
is green and says in words what is wrong: otherwise an outage of Redis would restart all workers in a loop.
"""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

ROLES = ("worker", "beat")
PATIENCE_S = 60.0
"""Longer than any honest silence: a black hole in the network blocks a loop for four timeouts of 5 s, calling
siblings may block a task for half a minute, and a machine may be short of processors."""
LONGEST_STOP_S = 600.0
"""Whoever stops a process kills it after a grace; one that nobody kills is stuck by then."""
WORTH_SAYING_S = 120.0

RUNS, ENDED, ANOTHER = "runs", "ended", "another"
_CURE = {
    "worker": "Start it again: calls that were under way are looked up, and none is made twice.",
    "beat": "Start it again: it keeps nothing that could be lost.",
}


def path_of(role: str) -> str:
    """Return where a role leaves its signs of life: in TMPDIR. Each worker of a host needs its own."""
    # `tempfile` would look for a place that can be written to, and so find different ones at different times.
    return os.path.join(os.environ.get("TMPDIR") or "/tmp", f"kinetic-retry-{role}.alive")  # noqa: S108, PTH118


def birth_of(pid: int) -> str | None:
    """Return what tells a process from a later one of the same number; None when it ended or nothing tells.

    A container that is started again gives the same numbers to new processes.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:  # noqa: PTH123  # pathlib costs 5 ms
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else fields[19].decode()


def state_of(pid: int, birth: str | None) -> str:
    """Return whether a process still runs, has ended, or its number is another's by now."""
    found = birth_of(pid)
    if found is not None:
        return RUNS if birth in (None, found) else ANOTHER
    if birth is not None and os.path.exists(f"/proc/{pid}/stat"):  # noqa: PTH110
        return ENDED  # not yet waited for
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ENDED
    except OSError:
        return RUNS  # it is another user's, and hidden
    return RUNS


def read(role: str) -> tuple[dict[str, Any] | None, float | None]:
    """Return what the role wrote and the age of its file in seconds; None for what is not there."""
    try:
        with open(path_of(role), "rb") as stream:  # noqa: PTH123
            text = stream.read(65536)
            touched_s = max(0.0, time.time() - os.fstat(stream.fileno()).st_mtime)
    except OSError:
        return None, None
    try:
        facts = json.loads(text)
        return ({**facts, "pid": int(facts["pid"]), "at": float(facts["at"])}, touched_s)
    except (ValueError, TypeError, KeyError):
        return None, touched_s


def judge(
    role: str,
    facts: Mapping[str, Any] | None,
    touched_s: float | None,
    process: str,
    *,
    now_s: float,
    patience_s: float = PATIENCE_S,
) -> tuple[bool, str]:
    """Return whether all is well and a sentence about it.

    Args:
        role: `worker` or `beat`.
        facts: what it wrote; None when there is no file, or nothing in it.
        touched_s: the age of its file; None when there is none.
        process: what became of the process that wrote it: `runs`, `ended` or `another`.
        now_s: the time on the clock of the facts, which counts from the start of the machine.
        patience_s: how long anything may stand still.
    """
    if facts is None:
        return _without_facts(touched_s, patience_s)
    silent_s = now_s - facts["at"]
    if process != RUNS or silent_s < 0:
        return False, f"process {facts['pid']} has ended. {_CURE[role]}"
    if facts["state"] == "stopping":
        told_s = now_s - facts["since"]
        return told_s < LONGEST_STOP_S, f"stopping since {_when(told_s)}: calls under way end first"
    if silent_s >= patience_s:
        return False, f"its main loop has stood still since {_when(silent_s)}. {_CURE[role]}"
    trouble = _trouble_of_worker if role == "worker" else _trouble_of_beat
    if found := trouble(facts, now_s, patience_s):
        return False, f"{found}. {_CURE[role]}"
    well = _worker_well if role == "worker" else _beat_well
    return True, well(facts, now_s)


def _without_facts(touched_s: float | None, patience_s: float) -> tuple[bool, str]:
    if touched_s is None:
        return False, "no sign of life here: it has not started, or its TMPDIR is another one"
    if touched_s < patience_s:
        return True, "it runs, but cannot write down more than that: is the disk of its TMPDIR full?"
    return False, f"no sign of life since {_when(touched_s)}"


def _trouble_of_worker(facts: Mapping[str, Any], now_s: float, patience_s: float) -> str | None:
    for task in facts["running"]:
        quiet_s = now_s - max(task["since"], task["sign"])
        if quiet_s >= patience_s:
            return f"process {task['pid']} has hung in `{task['job']}` since {_when(quiet_s)}"
    for fact, what in _LASTING.items():
        since_s = facts.get(fact)
        if since_s is not None and now_s - since_s >= patience_s:
            return f"{what}, since {_when(now_s - since_s)}"
    return None


_LASTING = {
    "short_since": "pool processes are missing and none can be started",
    "stuck_since": "a tick waits for a process although one is free",
    "deaf_since": "it is connected and takes no ticks, although some wait in its queues",
}


def _worker_well(facts: Mapping[str, Any], now_s: float) -> str:
    running = facts["running"]
    if facts["state"] == "no_broker":
        return _without_broker(facts, now_s)
    if running:
        longest_s = now_s - min(each["since"] for each in running)
        return f"well, {len(running)} under way, for up to {longest_s:.0f} s"
    idle_s = now_s - max(facts["since"], facts["tick_at"] or 0)
    if idle_s < WORTH_SAYING_S:
        return "well"
    return f"well, but without a tick since {_when(idle_s)}: beat is away, or other workers take them all"


def _trouble_of_beat(facts: Mapping[str, Any], now_s: float, patience_s: float) -> str | None:
    quiet_s = _unsent_s(facts, now_s)
    if facts["state"] == "no_broker" or quiet_s < max(patience_s, 3 * facts["every"]):
        return None
    return f"no tick sent since {_when(quiet_s)}, and not for want of a broker: was the clock set back"


def _beat_well(facts: Mapping[str, Any], now_s: float) -> str:
    if facts["state"] == "no_broker":
        return _without_broker(facts, now_s)
    return f"well, last tick {_unsent_s(facts, now_s):.0f} s ago"


def _without_broker(facts: Mapping[str, Any], now_s: float) -> str:
    since = _when(now_s - facts["since"])
    return f"no broker since {since}: it tries again by itself, and starting it anew would not help"


def _unsent_s(facts: Mapping[str, Any], now_s: float) -> float:
    return now_s - max(float(facts["since"]), float(facts["sent_at"]))


def _when(ago_s: float) -> str:
    stamp = time.strftime("%H:%M:%S", time.gmtime(time.time() - ago_s))
    return f"{stamp} UTC ({ago_s:.0f} s ago)"


def answer(role: str, patience_s: float = PATIENCE_S) -> tuple[bool, str, float | None]:
    """Return the verdict on a role of this host or container, the sentence, and the age of its last sign."""
    facts, touched_s = read(role)
    now_s = time.monotonic()
    process = state_of(facts["pid"], facts.get("birth")) if facts else RUNS
    try:
        alive, said = judge(role, facts, touched_s, process, now_s=now_s, patience_s=patience_s)
    except (KeyError, TypeError, ValueError):
        alive, said = False, "its signs of life cannot be read: another version wrote them"
    return alive, said, now_s - facts["at"] if facts else touched_s


def report(role: str, *, as_json: bool = False, patience_s: float = PATIENCE_S) -> tuple[int, str]:
    """Return the exit code, 0 or 1, and what to print."""
    alive, said, age_s = answer(role, patience_s)
    if as_json:
        rounded = None if age_s is None else round(age_s, 1)
        return int(not alive), json.dumps({"role": role, "alive": alive, "age_s": rounded, "detail": said})
    return int(not alive), f"{role}: {said}" if alive else f"{role}: NOT WELL, {said}"


def main(arguments: Sequence[str]) -> int | None:
    """Answer `ROLE [--json]` and return the exit code; None for what the command line has to explain."""
    match list(arguments):
        case [role] | [role, "--json"] if role in ROLES:
            code, said = report(role, as_json=len(arguments) > 1)
            print(said)  # noqa: T201
            return code
    return None


if __name__ == "__main__":
    _code = main(sys.argv[1:])
    sys.exit("usage: python -m worker.health worker|beat [--json]" if _code is None else _code)
