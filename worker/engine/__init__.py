"""The use cases: discover, survey, submit, watch, resolve, track, prune. All they need is handed in."""

from worker.engine.discover import discover
from worker.engine.prune import prune
from worker.engine.redrive import redrive
from worker.engine.resolve import resolve
from worker.engine.submit import submit
from worker.engine.survey import survey
from worker.engine.track import track
from worker.engine.watch import watch

__all__ = ["discover", "prune", "redrive", "resolve", "submit", "survey", "track", "watch"]
