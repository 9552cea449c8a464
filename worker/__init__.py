"""kinetic-retry-worker: retries failed Kinetic executions by policy, never twice, never in silence."""
