"""How fast the worker is, how little it needs, and how close that is to what is possible: `make bench`."""
