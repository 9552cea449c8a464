"""A real Prometheus over a real run. Apart from `make test`, since it needs Prometheus and takes minutes."""
