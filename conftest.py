"""What doctest collection must not import: modules that start reading settings when they are loaded."""

collect_ignore = ["worker/celery_app.py", "worker/tasks.py"]
