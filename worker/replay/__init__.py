"""Plays a retry policy against runs whose outcomes are given, on a virtual clock: no API and no Redis.

Used to compare policies (`benchmarks/effectiveness.py`) and to try one on recorded history (`kinetic-retry
policy backtest`). The decisions are those of `worker.domain`; only the clock and the world are played.
"""
