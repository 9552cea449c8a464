"""Spans for OpenTelemetry: what the worker does and how each lineage went, for whoever looks at traces.

Optional: nothing here is imported unless `TRACING_ENABLED` says so, and the libraries come with the extra
`tracing`. It looks on and never acts: what goes wrong here costs spans, not retries.
"""
