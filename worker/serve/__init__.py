"""The ledger for monitoring: metrics, liveness and readiness over HTTP. Reads only; knows no settings."""
