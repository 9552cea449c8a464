"""A stand-in for the Kinetic API over real HTTP: for demos, tests and benchmarks.

It plays a foreign system, so it knows nothing of the worker or its configuration and can be run alone:
`python -m simulator`. What it knows that the real API never says (which execution was cloned from
which) makes it the judge of every test: duplicates and losses are counted on its side.
"""
