"""Celery's ticks over RabbitMQ: real workers and a real broker. `make broker-check` runs it."""
