"""Faults, tried by the hundred: `python -m faults` (all of them) or `make faults`; docs/reliability.md has the table.

Each module is one family: `run(count, seed, workdir, first)` makes the faults number `first` to `first + count - 1` of
that seed against the real stages, in projects and processes of its own, and returns what was tried and what failed.
"""
