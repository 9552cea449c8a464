"""The use cases: discover, survey, submit, watch, resolve, prune. Ledger, client and chance are handed in."""

from worker.engine.discover import discover
from worker.engine.prune import prune
from worker.engine.resolve import resolve
from worker.engine.submit import submit
from worker.engine.survey import survey
from worker.engine.watch import watch

__all__ = ["discover", "prune", "resolve", "submit", "survey", "watch"]
