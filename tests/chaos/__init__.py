"""The chaos run: real processes, a real server and the simulator under random faults.

What holds is judged by the simulator's record. `make chaos`, or `python -m tests.chaos --help`. `schedule`
draws what happens when, `faults` does it, `world` is what it happens to, `conductor` keeps the time, `judge`
and `hygiene` say which law was broken, `tally` counts and `table` shows. Schedule, judge, hygiene and tally
have tests of their own: a judge that cannot find anything guilty proves nothing.
"""
