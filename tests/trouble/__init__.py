"""Real processes in trouble: longer than the rest, so they have a target of their own (`make trouble`)."""
