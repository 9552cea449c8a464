"""Runs the command line as `python -m worker.cli`: for processes that `up` starts."""

from worker.cli import main

main()
