"""The names of everything the ledger keeps. All share one hash tag, so scripts run on a cluster too."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from worker.domain.lineage import State

KEY_SEPARATOR = "\n"
"""Between a workflow version and a fingerprint; no digest has one."""


@dataclass(frozen=True)
class Keys:
    """The keys of one namespace; `docs/ledger.md` says what each one holds."""

    namespace: str

    def lineage(self, root: str) -> str:
        """The record of a lineage: a JSON string."""
        return f"{self._prefix}lineage:{root}"

    def state(self, state: State) -> str:
        """The index of a state: root → the time that matters in it, in ms."""
        return self._states[state]

    def job(self, name: str) -> str:
        """An exclusive job: its owner, and what its next run should remember."""
        return self._named(f"job:{name}")

    @cached_property
    def clones(self) -> str:
        """Hash: clone → the root of its lineage. A root is its own: its record says so."""
        return self._named("clones")

    @cached_property
    def keys(self) -> str:
        """Hash: digest of a workflow version and a fingerprint → the root of the newest lineage with both."""
        return self._named("keys")

    @cached_property
    def events(self) -> str:
        """Stream of events."""
        return self._named("events")

    @cached_property
    def counters(self) -> str:
        """Hash: event name → how often it happened."""
        return self._named("counters")

    @cached_property
    def gate(self) -> str:
        """Hash: whether calls to the API are suspended or paused."""
        return self._named("gate")

    @cached_property
    def ticks(self) -> str:
        """Hash: job → when it last finished and what it did."""
        return self._named("ticks")

    @cached_property
    def facts(self) -> str:
        """Hash: the first start and the format of the records."""
        return self._named("facts")

    @cached_property
    def tracked(self) -> str:
        """Index of executions watched by name: uuid → next look in ms."""
        return self._named("tracked")

    @cached_property
    def tracked_since(self) -> str:
        """Hash: uuid → since when it is watched by name, in ms."""
        return self._named("tracked_since")

    @cached_property
    def undated(self) -> str:
        """Set of executions without dates that were dealt with or left alone."""
        return self._named("undated")

    def runs(self, workflow: str) -> str:
        """Index of a workflow's newest runs that ended: how and which → when, in ms."""
        return self._named(f"runs:{workflow}")

    def lengths(self, workflow: str) -> str:
        """Index of how long a workflow's newest runs took: ms and which → when they ended, in ms."""
        return self._named(f"lengths:{workflow}")

    def flight(self, workflow: str) -> str:
        """Index of a workflow's lineages in flight: root → since when, in ms."""
        return self._named(f"flight:{workflow}")

    def made_of(self, workflow: str) -> str:
        """Index of a workflow's calls that may make a clone: root and attempt → when recorded, in ms."""
        return self._named(f"made:{workflow}")

    def made_sums_of(self, workflow: str) -> str:
        """Index of a workflow's clones made lately: how many there were ever → since when, in ms."""
        return self._named(f"made_sums:{workflow}")

    def traffic_of(self, workflow: str) -> str:
        """Hash: five minutes → how many runs of the workflow ended in them."""
        return self._named(f"traffic:{workflow}")

    @cached_property
    def made(self) -> str:
        """The same as `made_of`, of all workflows."""
        return self._named("made")

    @cached_property
    def made_sums(self) -> str:
        """The same as `made_sums_of`, of all workflows."""
        return self._named("made_sums")

    @cached_property
    def traffic(self) -> str:
        """The same as `traffic_of`, of all workflows."""
        return self._named("traffic")

    @cached_property
    def breakers(self) -> str:
        """Hash: workflow → its breaker, JSON, where it is not untouched."""
        return self._named("breakers")

    @cached_property
    def waiting(self) -> str:
        """Index by name of lineages that wait for their workflow: workflow, time of failure, root."""
        return self._named("waiting")

    @cached_property
    def surveyed(self) -> str:
        """Index of completed runs that were counted: uuid → when they ended, in ms."""
        return self._named("surveyed")

    @cached_property
    def rate(self) -> str:
        """Hash: the token bucket of all retry calls."""
        return self._named("rate")

    @cached_property
    def groups(self) -> str:
        """Hash: group (see `ledger.groups`) → how many lineages are in it."""
        return self._named("groups")

    def group(self, field: str) -> str:
        """Index of a group: root → since when, in ms."""
        return self._named(f"group:{field}")

    @cached_property
    def names(self) -> str:
        """Hash: workflow → its name, or its uuid where the API tells no name."""
        return self._named("names")

    @cached_property
    def verdicts(self) -> str:
        """Hash: state, workflow and reason, a line each → how many verdicts like that were ever given."""
        return self._named("verdicts")

    @cached_property
    def calls(self) -> str:
        """Hash: how calls to the API ended and how long they took; see `ledger.calls`."""
        return self._named("calls")

    @cached_property
    def call_reports(self) -> str:
        """Index of reports of calls that were taken in lately: token → when, in ms."""
        return self._named("call_reports")

    def returns(self, hour: int) -> str:
        """Hash: what became of clones in an hour (counted from the epoch); see `ledger.returns`."""
        return self._named(f"returns:{hour}")

    @cached_property
    def redrives(self) -> str:
        """Index of redrives: id → when it was begun, in ms."""
        return self._named("redrives")

    @cached_property
    def open_redrives(self) -> str:
        """The same of those that workers still have something to do for."""
        return self._named("redrives_open")

    def redrive(self, redrive_id: str) -> str:
        """Hash: a redrive's plan, where it stands, its counts and what its rate allows."""
        return self._named(f"redrive:{redrive_id}")

    def redrive_pending(self, redrive_id: str) -> str:
        """Index of a redrive's items that were not released yet: root and since when → place in the order."""
        return self._named(f"redrive_pending:{redrive_id}")

    def redrive_flying(self, redrive_id: str) -> str:
        """Hash of a redrive's items without an outcome: root → the item, JSON."""
        return self._named(f"redrive_flying:{redrive_id}")

    def redrive_results(self, redrive_id: str) -> str:
        """List of what became of a redrive's items, JSON, in the order in which that was known."""
        return self._named(f"redrive_results:{redrive_id}")

    @cached_property
    def alerts(self) -> str:
        """Hash: what alerts were heard of and said; see `ledger.alerts`."""
        return self._named("alerts")

    @cached_property
    def alerts_said(self) -> str:
        """List of what was said to people lately, JSON, newest first."""
        return self._named("alerts_said")

    @cached_property
    def busy(self) -> str:
        """Hash: job → when a worker that is in the midst of it gave a sign of life last, in ms."""
        return self._named("busy")

    @staticmethod
    def key(workflow_version_uuid: str, fingerprint: str) -> str:
        """The field of a key in `keys`: 72 bits of a digest.

        "" where the payload is not known, for that tells nothing apart.
        """
        if not fingerprint:
            return ""
        return Keys.digest(f"{workflow_version_uuid}{KEY_SEPARATOR}{fingerprint}")

    @staticmethod
    def digest(key: str) -> str:
        """Return the field of a key from what it is made of; before format 4 that was the field itself."""
        digest = blake2b(key.encode(), digest_size=9).digest()
        return urlsafe_b64encode(digest).decode()

    # A commit names thirty keys: what is the same for all of them is put together once.
    @cached_property
    def _prefix(self) -> str:
        return f"{{{self.namespace}}}:"

    @cached_property
    def _states(self) -> dict[State, str]:
        return {state: self._named(f"state:{state.value}") for state in State}

    def _named(self, name: str) -> str:
        return self._prefix + name
